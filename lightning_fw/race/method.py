"""A way to train the task's network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Literal

from torch.optim import Optimizer

from lightning_fw.inner_loop import InnerLoop
from lightning_fw.nn import SequenceModel
from lightning_fw.race.search_space import Setting, Space

Family = Literal["Frank-Wolfe", "one LMO a step", "back-propagation"]


@dataclass(frozen=True, kw_only=True)
class Method:
    """How to train, up to the setting.

    Attributes:
        name: Its name on the command line.
        title: Its name in tables and pictures.
        family: Whom it is compared with: windows, spectral steps without a window, or neither.
        inner_loop: The inner loop of a setting; None: plain back-propagation.
        optimizer: The optimizer of a network at a setting; None: what the inner loop brings.
        space: What is tuned, and where.
        usual: A setting for where nothing was tuned.
        accumulate_grad_batches: Batches of one optimizer step, for back-propagation.
        averaged: Whether an average of the weights is measured, instead of the latest ones.
        decays: Whether learning rates fall to 0 at the end of the budget, along half a cosine.
        in_chunks: Whether sequences are cut along time, with a carried state.
        ranks_only: Whether it differs from another method on several ranks alone.
        package: What must be installed for it.
    """

    name: str
    title: str
    family: Family
    inner_loop: Callable[[Setting], InnerLoop] | None = None
    optimizer: Callable[[SequenceModel, Setting], Optimizer] | None = None
    space: Space = field(default_factory=dict)
    usual: Mapping[str, float] = field(default_factory=dict)
    accumulate_grad_batches: int = 1
    averaged: bool = False
    decays: bool = False
    in_chunks: bool = False
    ranks_only: bool = False
    package: str | None = None

    def require_package(self) -> None:
        """Raise if something is missing that the method needs.

        Raises:
            ModuleNotFoundError: With the line that installs it.
        """
        if self.package is not None and find_spec(self.package) is None:
            raise ModuleNotFoundError(
                f"The method {self.name} needs {self.package}. "
                "Run pip install 'lightning-fw[race]'."
            )
