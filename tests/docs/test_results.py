"""The tables of the page of results are what the races beside it come to."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from lightning_fw.race.methods import METHODS
from lightning_fw.race.points import Unit
from lightning_fw.race.results import Results, read_results
from lightning_fw.race.standings import Comparison, Race, compare, table
from lightning_fw.race.summary import summarize

RESULTS = Path(__file__).parents[2] / "docs" / "results"
MEASURED = ("spectral", "spectral-unwhitened", "l2-rows")
FAMILIES = ("back-propagation", "one LMO a step", "Frank-Wolfe")


def tables_of_the_page() -> Iterator[list[str]]:
    lines = (RESULTS / "README.md").read_text().splitlines()
    for is_table, block in itertools.groupby(lines, lambda line: line.startswith("|")):
        if is_table:
            yield list(block)


STANDINGS = [each for each in tables_of_the_page() if "best of" in each[0]]
RACES = [each for each in tables_of_the_page() if each[0].startswith("| method | reached")]


@functools.cache
def races() -> list[Results]:
    return [read_results(file.parent) for file in sorted(RESULTS.rglob("race.json"))]


@functools.cache
def comparisons(method: str, family: str, unit: Unit) -> dict[str, Comparison]:
    """Every race's comparison, by its line of a table."""
    found = {}
    for race in races():
        if method not in {entrant.name for entrant in race.entrants}:
            continue
        mine = Race(race.title, race.task, race.points, method)
        for comparison in compare([mine], family, unit):
            _, _, line, *_ = table([comparison], family, unit)
            found[line] = comparison
    return found


@pytest.mark.parametrize("lines", STANDINGS, ids=lambda lines: lines[2].split("|")[1].strip())
def test_standings_are_those_of_the_races(lines):
    unit = next(unit for unit in get_args(Unit) if lines[0].startswith(f"| {unit}"))
    family = next(family for family in FAMILIES if f"| best of {family} |" in lines[0])
    title = lines[0].split("|")[2].strip()
    method = next(name for name in MEASURED if METHODS[name].title == title)
    known = comparisons(method, family, unit)
    rows = [line for line in lines[2:] if not line.startswith("| geometric mean")]

    assert [row for row in rows if row not in known] == []
    remade = list(table([known[row] for row in rows], family, unit))
    assert lines == remade[: len(lines)]


@functools.cache
def lines_of_races() -> set[tuple[str, ...]]:
    found = set()
    for race in races():
        known = {entrant.name: entrant for entrant in race.entrants}
        for line in summarize(race.points, race.entrants, race.task):
            reached, evaluations, seconds, *ends = line.cells()
            label = known[line.method].label
            found.add((label, reached, evaluations, *ends))
            found.add((label, reached, evaluations, seconds, *ends))
    return found


@pytest.mark.parametrize("lines", RACES, ids=lambda lines: f"{len(lines)}-{lines[2][-20:-2]}")
def test_lines_of_a_race_are_those_of_its_points(lines):
    rows = [tuple(cell.strip() for cell in line.split("|")[1:-1]) for line in lines[2:]]

    assert [row for row in rows if row not in lines_of_races()] == []
