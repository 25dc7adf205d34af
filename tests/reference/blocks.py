"""Which parameters one ball spans: the scope, and the atom over such a block."""

from __future__ import annotations

from typing import Literal

import numpy as np

from .elman import Weights
from .oracles import Oracle

Scope = Literal["tensor", "group", "global"]
Groups = list[list[str]]


def blocks(groups: Groups, scope: Scope) -> Groups:
    """Names of the parameters that share a ball, for the optimizer's param groups `groups`."""
    names = [name for group in groups for name in group]
    if scope == "tensor":
        return [[name] for name in names]
    return groups if scope == "group" else [names]


def atom(g: Weights, spans: Groups, oracle: Oracle, radius: float) -> Weights:
    """radius · oracle(flattened block), cut back into parameters, block by block."""
    parts: Weights = {}
    for span in spans:
        flat = radius * oracle(np.concatenate([g[name].ravel() for name in span]))
        ends = np.cumsum([g[name].size for name in span])[:-1]
        for name, part in zip(span, np.split(flat, ends), strict=True):
            parts[name] = part.reshape(g[name].shape)
    return parts
