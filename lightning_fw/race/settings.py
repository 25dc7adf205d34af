"""What a race is asked for, and what its directory already holds."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from lightning_fw.nn.sequence_model import Cell
from lightning_fw.race.methods import (
    TUNED,
    Method,
    MethodName,
    Setting,
    choose_method,
    with_setting,
)

Strategy = Literal["ddp"]

# In race.json; each race in a directory has the same.
_SHARED = ("task", "cell", "budget", "every", "threads", "strategy", "devices")


@dataclass(frozen=True, kw_only=True)
class RaceSettings:
    """What the user asked for.

    Attributes:
        task: Name of the task.
        cell: Recurrent cell.
        methods: Who races.
        seeds: Runs of each method.
        first_seed: Seed of the first run.
        budget: Gradient evaluations of a run.
        every: Gradient evaluations between two points.
        out: Directory of the results.
        data: Directory of data files, for the tasks that have any.
        threads: Of torch.
        lr: Learning rate instead of the tuned ones.
        clip: Largest norm of a gradient instead of the tuned one.
        strategy: How several processes train together; None: one process.
        devices: Processes.
    """

    task: str
    cell: Cell
    methods: tuple[MethodName, ...]
    seeds: int
    first_seed: int
    budget: int
    every: int
    out: Path
    data: Path
    threads: int
    lr: float | None
    clip: float | None
    strategy: Strategy | None = None
    devices: int = 1

    def choose(self) -> list[Method]:
        """The methods with their settings, each once."""
        return [
            choose_method(
                name, self.task, self.cell, ranks=self.devices, lr=self.lr, clip=self.clip
            )
            for name in dict.fromkeys(self.methods)
        ]


def require_writable(directory: Path) -> None:
    """Make the directory, and raise if it cannot be written to.

    Raises:
        OSError: With the reason.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe = directory / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OSError(
            f"`--out` must be a directory that can be written to, got {directory} ({error}). "
            "Pass another directory."
        ) from error


def agree(settings: RaceSettings, test_size: int) -> list[Method]:
    """Write the settings to race.json, or compare them with those of the race that goes on.

    Args:
        settings: What the user asked for.
        test_size: Sequences in the test set; tells MNIST's test files alone from all of them.

    Returns:
        The methods asked for, and after them the others that the directory holds.

    Raises:
        ValueError: If the directory holds a race with other settings, or something else.
    """
    path = settings.out / "race.json"
    mine: dict[str, Any] = {name: getattr(settings, name) for name in _SHARED}
    mine["test_size"] = test_size
    asked = settings.choose()
    known = _read(path)
    if not known and (settings.out / "race.csv").exists():
        raise ValueError(
            f"`--out` must hold a race or nothing, got race.csv without race.json in "
            f"{settings.out}. Pass another directory."
        )
    for name, value in mine.items():
        _require_same(settings, name, known.get(name, value), value)
    held: dict[MethodName, Setting | None] = known.get("methods", {})
    for method in asked:
        name = f"{method.name} setting"
        _require_same(settings, name, held.get(method.name, method.setting), method.setting)
    others = [
        with_setting(
            name, setting, TUNED.get((settings.task, settings.cell, name, settings.devices))
        )
        for name, setting in held.items()
        if name not in {method.name for method in asked}
    ]
    _write(path, mine, [*asked, *others])
    return [*asked, *others]


def _require_same(settings: RaceSettings, name: str, theirs: object, mine: object) -> None:
    if theirs != mine:
        raise ValueError(
            f"`--out` holds a race with another {name}: {theirs!r}, not {mine!r}, in "
            f"{settings.out}. Pass another directory, or the same settings to go on."
        )


def _write(path: Path, mine: dict[str, Any], methods: list[Method]) -> None:
    tuned = {m.name: None if m.setting is None else asdict(m.setting) for m in methods}
    partial = path.with_suffix(".partial.json")
    partial.write_text(json.dumps({**mine, "methods": tuned}, indent=2) + "\n")
    partial.replace(path)


def _read(path: Path) -> dict[str, Any]:
    """What race.json tells, with its settings of methods as :class:`Setting`; empty without it."""
    if not path.exists():
        return {}
    try:
        # A race of before there were ranks had one.
        known: dict[str, Any] = {"strategy": None, "devices": 1, **json.loads(path.read_text())}
        names = get_args(MethodName)
        known["methods"] = {
            names[names.index(name)]: None if tuned is None else Setting(**tuned)
            for name, tuned in known["methods"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"`--out` must hold a race or nothing, got {path}, which is none. "
            "Pass another directory."
        ) from error
    return known
