"""How costs grow: ``lightning-fw bench --growth``."""

from __future__ import annotations

import json
import math
import sys
from itertools import cycle

import pytest
import torch

from lightning_fw.bench import timing
from lightning_fw.bench.contenders import Contender
from lightning_fw.bench.growth import AXES, PARAMETERS, Axis, exponent, measure_growth
from lightning_fw.bench.tables import growth_table
from lightning_fw.cli import main

CPU = torch.device("cpu")
SMALL = tuple(axis._replace(sizes=axis.sizes[:2]) for axis in AXES)


@pytest.fixture(scope="module")
def axes():
    *others, length = SMALL
    return measure_growth(1, CPU, [*others, length._replace(sizes=(2, 4))])


def test_everything_is_timed_at_every_size(axes):
    assert [axis["name"] for axis in axes] == [axis.name for axis in AXES]
    for axis in axes:
        for points in axis["series"].values():
            assert len(points) == 2
            assert all(0 < low <= median <= high for _, median, low, high in points)


@pytest.mark.parametrize(("per_size", "batches"), [(False, 1), (True, 4)])
def test_median_and_quartiles_are_microseconds_of_a_batch(per_size, batches, monkeypatch):
    """A clock that a run moves by 1, 2, …, 10 s."""
    clock, seconds = 0.0, cycle(range(1, 11))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock)

    def run():
        nonlocal clock
        clock += next(seconds)

    def contenders(size, device):
        yield Contender("a run", lambda: None, run)

    axis = Axis("sizes", (4,), contenders, per_size=per_size)
    (measured,) = measure_growth(1, CPU, [axis])
    (size, *found), *others = measured["series"]["a run"]
    assert (size, others) == (4, [])
    assert found == pytest.approx([each * 1e6 / batches for each in (5.5, 3.25, 7.75)])


def test_an_lstm_s_size_is_its_parameters(axes):
    points = axes[0]["series"]["l2 step"]
    assert axes[0]["name"] == PARAMETERS
    assert [x for x, *_ in points] == [4 * 32 * (2 + 32 + 2), 4 * 64 * (2 + 64 + 2)]


def test_the_spectral_oracle_is_left_out_where_it_takes_seconds():
    by_parameters = AXES[0].contenders
    names = [[contender.name for contender in by_parameters(units, CPU)] for units in (512, 1024)]
    assert "spectral() step" in names[0]
    assert "spectral() step" not in names[1]


@pytest.mark.parametrize("power", [0.0, 1.0, 2.5])
def test_the_exponent_is_of_the_last_two_sizes(power):
    points = [(1.0, 7.0), *((float(x), 3.0 * x**power) for x in (4, 32))]
    assert exponent(points) == pytest.approx(power)


def test_one_size_has_no_exponent():
    assert math.isnan(exponent([(1.0, 2.0)]))


def test_the_table_leaves_a_size_that_was_not_timed_blank():
    axis = {"name": "x", "series": {"a": [(1, 5.0), (2, 10.0)], "b": [(1, 4.0)]}}
    columns = {column.header: list(column.cells) for column in growth_table(axis).columns}
    assert columns["2"] == ["10", ""]
    assert columns["size^"] == ["1.00", "nan"]


def test_the_command_draws_and_writes_what_it_measured(tmp_path, capsys, monkeypatch):
    pytest.importorskip("matplotlib", reason="needs the extra `plot`")
    monkeypatch.setattr("lightning_fw.bench.growth.AXES", SMALL[:2])
    picture, report = tmp_path / "growth.png", tmp_path / "growth.json"
    arguments = ("--rounds", "1", "--growth", str(picture), "--json", str(report))
    assert main(["bench", *arguments]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert len(json.loads(report.read_text())["axes"]) == 2
    assert "grows with parameters of an LSTM" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("none/growth.png", "--growth: must be a file in a directory that exists, got none"),
        ("growth.xyz", "--growth: must end in a format that matplotlib writes, such as .png"),
        ("growth", "--growth: must end in a format that matplotlib writes, such as .png"),
    ],
)
def test_a_wrong_picture_is_named_before_anything_is_measured(path, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["bench", "--growth", path])
    assert message in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("option", [("--balls", "l2"), ("--trainer", "1"), ("--hidden", "8")])
def test_what_it_would_not_heed_is_refused(option, capsys):
    pytest.importorskip("matplotlib", reason="needs the extra `plot`")
    with pytest.raises(SystemExit, match="2"):
        main(["bench", "--growth", "growth.png", *option])
    assert f"{option[0]} has no part in --growth: leave out" in capsys.readouterr().err


def test_a_picture_and_numbers_are_not_one_file(capsys, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib", reason="needs the extra `plot`")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        main(["bench", "--growth", "growth.svg", "--json", str(tmp_path / "growth.svg")])
    assert "--json must be another file than --growth, got" in capsys.readouterr().err


def test_a_missing_matplotlib_is_named_before_anything_is_measured(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.backend_bases", None)
    with pytest.raises(SystemExit, match="2"):
        main(["bench", "--growth", "growth.png"])
    assert "--growth: needs matplotlib" in " ".join(capsys.readouterr().err.split())
