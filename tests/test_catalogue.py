"""The command ``lightning-fw tasks``."""

from __future__ import annotations

import json
from typing import get_args

import pytest

from lightning_fw.balls import NuclearBall
from lightning_fw.cli import main
from lightning_fw.nn.cells import CELLS, Cell


def test_it_lists_every_kind_with_a_line_each(capsys):
    assert main(["tasks"]) == 0
    told = capsys.readouterr().out
    assert "  adding-30 " in told
    assert "  spectral " in told
    assert "The recommended one" in told
    assert all(f"\n{kind}:" in f"\n{told}" for kind in ("tasks", "cells", "methods", "presets"))


def test_json_is_for_machines(capsys):
    assert main(["tasks", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"tasks", "cells", "methods", "presets", "balls"}
    assert all(line for lines in found.values() for line in lines.values())


def test_every_cell_has_a_line():
    assert set(CELLS) == {name for kind in get_args(Cell) for name in get_args(kind) or (kind,)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("raze",), "argument command: must be one of race, standings,"),
        (("raze",), "got raze, perhaps 'race'"),
        (("race", "--task", "ading"), "--task: must be one of adding-30,"),
        (("race", "--task", "ading"), "got ading, perhaps 'adding"),
        (("race", "--methods", "spectra"), "got spectra, perhaps 'spectral'"),
        (("race", "--cell", "ltsm"), "got ltsm, perhaps 'lstm'"),
        (("bench", "--balls", "spectrum"), "got spectrum, perhaps 'spectral'"),
    ],
)
def test_a_wrong_name_is_told_the_nearest(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert message in " ".join(capsys.readouterr().err.split())


def test_lines_are_the_first_of_what_documents_a_name(capsys):
    assert main(["tasks", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["tasks"]["digits"] == "digits by row: test accuracy ≥ 0.95"
    assert found["presets"]["spectral"] == "The recommended one: nothing to tune."
    assert found["balls"]["nuclear"] == NuclearBall.__doc__.partition("\n")[0]


def test_without_docstrings_names_are_listed(capsys, monkeypatch):
    monkeypatch.setattr(NuclearBall, "__doc__", None)
    assert main(["tasks", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["balls"]["nuclear"] == ""
