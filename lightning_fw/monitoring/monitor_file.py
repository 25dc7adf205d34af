"""The monitor's file: a run as JSON."""

from __future__ import annotations

import json
import os
from math import isfinite
from pathlib import Path
from typing import Any
from uuid import uuid4

from lightning_fw.monitoring.bptt_run import BPTTRun
from lightning_fw.monitoring.loss_curve import LossCurve
from lightning_fw.strict_json import strict

_FORMAT = "lightning_fw.monitor"
_VERSION = 1
_REMEDY = (
    "Pass a file that FWRestartMonitor.save wrote after a fit of the module without the mixin."
)


def write(path: str | os.PathLike[str], run: dict[str, Any], summary: dict[str, float]) -> None:
    """Write a run; the file appears whole or not at all, and folders are made.

    Args:
        path: Where; a file that is there is replaced.
        run: Its state.
        summary: Its summary, for people and programs that read no states.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    content = {"format": _FORMAT, "version": _VERSION, "summary": summary, **run}
    text = json.dumps(strict(content), allow_nan=False)
    part = target.with_name(f".{target.name}.{uuid4().hex}")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def read_baseline(path: str | os.PathLike[str]) -> LossCurve:
    """The loss curve of a saved BPTT run.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a monitor's file, of another version, of a Frank-Wolfe run, empty
            or damaged.
    """
    source = Path(path)
    if not source.is_file():
        raise FileNotFoundError(f"`baseline` must be a file, got {str(path)!r}. {_REMEDY}")
    try:
        content = json.loads(source.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"`baseline` must be JSON, got {str(path)!r}: {error}. {_REMEDY}"
        ) from error
    found = content.get("format") if isinstance(content, dict) else None
    if found != _FORMAT:
        raise ValueError(
            f"`baseline` must be a monitor's file, got {str(path)!r} of format {found!r}. {_REMEDY}"
        )
    if content.get("version") != _VERSION:
        raise ValueError(
            f"`baseline` must be of version {_VERSION}, got {str(path)!r} of version "
            f"{content.get('version')!r}. Save it again with this version of lightning_fw."
        )
    require_bptt(str(content.get("method")))
    return _curve(content, path)


def require_bptt(method: str) -> None:
    """Refuse a baseline that was not trained by back-propagation.

    Raises:
        ValueError: If it was not: a comparison with it would not say what the table says.
    """
    if method != BPTTRun.method:
        raise ValueError(
            f"`baseline` must be a BPTT run, got one of method {method!r}. Fit the module without "
            "FrankWolfeMixin under a monitor of its own, and pass that."
        )


def _curve(content: dict[str, Any], path: str | os.PathLike[str]) -> LossCurve:
    run = BPTTRun()
    try:
        run.load_state_dict(content)
        curve = run.curve()
        columns = (curve.evaluations, curve.seconds)
        ordered = all(column == sorted(column) and min(column) >= 0 for column in columns if column)
        same_length = len(curve.evaluations) == len(curve.seconds) == len(curve.losses)
        numbers = all(map(isfinite, [*curve.evaluations, *curve.seconds, *curve.losses]))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"`baseline` is damaged, got {str(path)!r}. {_REMEDY}") from error
    if not (same_length and numbers and ordered):
        raise ValueError(f"`baseline` is damaged, got {str(path)!r}. {_REMEDY}")
    if not len(curve):
        raise ValueError(
            f"`baseline` must hold finite losses, got {str(path)!r} with none. {_REMEDY}"
        )
    return curve
