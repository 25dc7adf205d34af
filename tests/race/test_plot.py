"""race.png: what its curves, bands and words say."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lightning_fw.race.entrants import enter
from lightning_fw.race.plot import draw
from lightning_fw.race.tasks import TASKS

from .test_summary import ADDING, SETTINGS, run

pytest.importorskip("matplotlib", reason="needs the extra `plot`")


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """Draws the runs, and gives both panels and the title of the picture."""
    from matplotlib.figure import Figure

    figures, save = [], Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *args, **more: [figures.append(self), save(self, *args)]
    )

    def draw_them(points, *, task=ADDING, settings=SETTINGS):
        names = dict.fromkeys(point.method for point in points)
        entrants = [enter(name, task.name, "lstm") for name in ("paper", *names)]
        draw(points, entrants, task, settings, tmp_path / "race.png")
        (figure,) = figures
        # matplotlib before 3.8 has no get_suptitle.
        return figure.axes, figure._suptitle.get_text()

    return draw_them


SEEDS = [
    *run("adam", 0, [0.2, 0.1]),
    *run("adam", 1, [0.3, 0.5]),
    *run("adam", 2, [0.25, 0.3]),
]


def test_a_curve_is_the_median_of_the_seeds_and_a_band_their_range(drawn):
    panels, title = drawn(SEEDS)
    for panel, at in zip(panels, ((25, 50), (2.0, 4.0)), strict=True):
        curve, target = panel.lines
        assert curve.get_xydata().tolist() == [[at[0], 0.25], [at[1], 0.3]]
        assert set(target.get_ydata()) == {0.02}
        (band,) = panel.collections
        corners = {(x, y) for x, y in band.get_paths()[0].vertices.tolist()}
        assert corners == {(at[0], 0.2), (at[0], 0.3), (at[1], 0.1), (at[1], 0.5)}
    assert title.endswith(": median of 3 seeds, range as a band")
    assert [panel.get_xlabel() for panel in panels] == [
        "gradient evaluations (one forward and backward, batch 50)",
        "seconds of training",
    ]


@pytest.mark.parametrize(("methods", "bands"), [(3, 3), (4, 1)])
def test_of_more_than_three_methods_the_first_alone_has_a_band(methods, bands, drawn):
    names = ("adam", "sgd", "rmsprop", "adamw")[:methods]
    panels, title = drawn([point for name in names for point in run(name, 0, [0.2, 0.1])])
    for panel in panels:
        assert (len(panel.lines), len(panel.collections)) == (methods + 1, bands)
        assert panel.lines[0].get_color() == "#0072B2"
        assert panel.collections[0].get_facecolor()[0, :3] == pytest.approx((0, 0.447, 0.698), 0.01)
    assert title.endswith(": one seed")


def test_methods_of_unequal_numbers_of_seeds_are_told_by_the_least_and_the_most(drawn):
    _, title = drawn([*SEEDS, *run("sgd", 0, [0.2, 0.1])])
    assert title.endswith(": median of 1–3 seeds, range as a band")


@pytest.mark.parametrize(("task", "scale"), [("adding", "log"), ("digits", "linear")])
def test_errors_alone_are_drawn_by_their_decades(task, scale, drawn):
    panels, _ = drawn(run("adam", 0, [0.2, 0.1]), task=TASKS[task])
    assert [panel.get_yscale() for panel in panels] == [scale, scale]


def test_evaluations_of_ranks_are_of_each(drawn):
    panels, _ = drawn(run("adam", 0, [0.2, 0.1]), settings=replace(SETTINGS, devices=2))
    label = "gradient evaluations a rank (one forward and backward, batch 50)"
    assert panels[0].get_xlabel() == label
