"""What a race is asked for, and what its directory already holds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lightning_fw.nn.cells import cell_title
from lightning_fw.race.entrants import Entrant, Tuned, enter, shipped
from lightning_fw.race.lock import LOCK
from lightning_fw.race.methods import METHODS
from lightning_fw.race.points import Point
from lightning_fw.race.search_space import Setting

Strategy = Literal["ddp"]
Accelerator = Literal["cpu", "gpu"]

# In race.json; each race in a directory has the same.
_SHARED = (
    "task",
    "cell",
    "batch_size",
    "network",
    "budget",
    "every",
    "tune",
    "threads",
    "accelerator",
    "strategy",
    "devices",
)


# What a race keeps in its directory.
FILES = (
    "race.json",
    "race.csv",
    LOCK,
    "race.png",
    "summary.csv",
    "summary.md",
    "trials.csv",
    "tuned.csv",
)

WORDS = {
    "num_layers": "{} layers",
    "bidirectional": "bidirectional",
    "dropout": "dropout {:g}",
    "layer_norm": "layer norm",
    "chrono": "chrono {}",
}


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
        accelerator: What trains, Lightning's name for it.
        batch_size: Sequences a gradient evaluation; None: the task's.
        network: What the network takes besides the cell and its sizes.
        given: Values instead of the tuned ones.
        tune: Random trials of each method before the race; 0: none.
        strategy: How several processes train together; None: one process.
        devices: Processes.
        profile: Whether to trace a few batches of each method before the race.
        json: File of the summary besides the directory, as JSON, - for stdout; None: none.
    """

    task: str
    cell: str
    methods: tuple[str, ...]
    seeds: int
    first_seed: int
    budget: int
    every: int
    out: Path
    data: Path
    threads: int = 1
    accelerator: Accelerator = "cpu"
    batch_size: int | None = None
    network: Mapping[str, Any] = field(default_factory=dict)
    given: Setting = field(default_factory=dict)
    tune: int = 0
    strategy: Strategy | None = None
    devices: int = 1
    profile: bool = False
    json: str | None = None

    def choose(self, tuned: Iterable[Tuned]) -> list[Entrant]:
        """The methods with their settings, each once."""
        return [
            enter(name, self.task, self.cell, ranks=self.devices, given=self.given, tuned=tuned)
            for name in dict.fromkeys(self.methods)
        ]

    def missing(self, points: Iterable[Point]) -> list[tuple[str, int]]:
        """Method and seed of the runs that have no point, one seed of all methods after another."""
        there = {(point.method, point.seed) for point in points}
        seeds = range(self.first_seed, self.first_seed + self.seeds)
        asked = [(name, seed) for seed in seeds for name in dict.fromkeys(self.methods)]
        return [run for run in asked if run not in there]

    @property
    def title(self) -> str:
        """The network in words."""
        shape = self.network
        words = [f"{cell_title(self.cell)} of {shape.get('hidden_size', 128)} units"]
        for name, word in WORDS.items():
            if name in shape:
                words.append(word.format(shape[name]))
        return ", ".join(words)

    @property
    def where(self) -> str:
        """What trains the network, where it is not one process on the CPU, in words."""
        if self.devices > 1:
            return f", {self.devices} ranks"
        return "" if self.accelerator == "cpu" else ", on a GPU"

    @property
    def tuned(self) -> tuple[Tuned, ...]:
        """Settings that come with the package; none for another network or batch size."""
        return () if self.network or self.batch_size else shipped()


def require_writable(directory: Path) -> None:
    """Make the directory, and raise if it or a race's file in it cannot be written to.

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
    for path in (directory / name for name in FILES):
        if path.is_dir():
            raise OSError(
                f"`--out` must hold files alone by the race's names, got {path}, a directory. "
                "Move it away, or pass another directory."
            )


def agree(settings: RaceSettings, test_size: int) -> None:
    """Write the settings to race.json, or compare them with those of the race that goes on.

    Args:
        settings: What the user asked for.
        test_size: Sequences in the test set; tells MNIST's test files alone from all of them.

    Raises:
        ValueError: If the directory holds a race with other settings, or something else.
    """
    known = _read(settings.out)
    mine = _shared(settings, test_size)
    for name, value in mine.items():
        _require_same(settings, name, known.get(name, value), value)
    methods = known.pop("methods", {})
    _write(settings.out, {**known, **mine}, methods)


def agree_on_entrants(settings: RaceSettings, tuned: Iterable[Tuned]) -> list[Entrant]:
    """Write the methods' settings to race.json, or compare them with those that it holds.

    Args:
        settings: What the user asked for.
        tuned: Where to look settings up.

    Returns:
        The methods asked for, and after them the others that the directory holds.

    Raises:
        ValueError: If the directory holds a method with another setting.
    """
    known = _read(settings.out)
    held: dict[str, Setting] = known.pop("methods")
    loops: dict[str, str | None] = known.get("inner_loops", {})
    asked = settings.choose(tuned)
    for entrant in asked:
        name = f"{entrant.name} setting"
        _require_same(settings, name, held.get(entrant.name, entrant.setting), entrant.setting)
        loop = entrant.inner_loop
        name = f"{entrant.name} inner loop, of another version of this package"
        _require_same(settings, name, loops.get(entrant.name, loop), loop)
    others = [
        enter(
            name,
            settings.task,
            settings.cell,
            ranks=settings.devices,
            given=setting,
            tuned=tuned,
        )
        for name, setting in held.items()
        if name not in settings.methods
    ]
    entrants = [*asked, *others]
    known["inner_loops"] = {**loops, **{entrant.name: entrant.inner_loop for entrant in asked}}
    _write(settings.out, known, {entrant.name: entrant.setting for entrant in entrants})
    return entrants


def _shared(settings: RaceSettings, test_size: int) -> dict[str, Any]:
    mine = {name: getattr(settings, name) for name in _SHARED}
    return {**mine, "network": dict(settings.network), "test_size": test_size}


def _require_same(settings: RaceSettings, name: str, theirs: object, mine: object) -> None:
    if theirs != mine:
        raise ValueError(
            f"`--out` holds a race with another {name}: {theirs!r}, not {mine!r}, in "
            f"{settings.out}. Pass another directory, or the same settings to go on."
        )


def _write(out: Path, shared: dict[str, Any], methods: Mapping[str, Setting]) -> None:
    partial = out / "race.partial.json"
    partial.write_text(json.dumps({**shared, "methods": methods}, indent=2) + "\n")
    partial.replace(out / "race.json")


def _read(out: Path) -> dict[str, Any]:
    """What race.json tells; empty without it.

    Raises:
        ValueError: If it is no race's, or if there are points without it.
    """
    path = out / "race.json"
    if not path.exists():
        if (out / "race.csv").exists():
            raise ValueError(
                f"`--out` must hold a race or nothing, got race.csv without race.json in {out}. "
                "Pass another directory."
            )
        return {}
    try:
        known: dict[str, Any] = dict(json.loads(path.read_text()))
        require_settings(known["methods"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"`--out` must hold a race or nothing, got {path}, which is none ({error}). "
            "Pass another directory."
        ) from error
    # Races of before there was a choice.
    known.setdefault("accelerator", "cpu")
    return known


def require_settings(methods: dict[str, Setting]) -> None:
    """Raise unless each method has the setting that it takes.

    Raises:
        ValueError: Naming the method.
    """
    for name, setting in methods.items():
        numbers = all(isinstance(value, int | float) for value in setting.values())
        if not numbers or set(setting) != set(METHODS[name].space):
            needed = " and ".join(f"a number for {each}" for each in METHODS[name].space)
            raise ValueError(
                f"the setting of {name} must hold {needed or 'nothing'}, got {setting}"
            )
