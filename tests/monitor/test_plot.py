"""The figure shows what was recorded."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from lightning_fw import FWRestartMonitor, InnerLoop, RestartRecord
from lightning_fw.monitoring.frank_wolfe_run import FrankWolfeRun
from lightning_fw.monitoring.loss_curve import LossCurve
from lightning_fw.monitoring.plot import plot_run

from .cases import Plain, Restarting, loader, record, trainer


class Untuned(Restarting):
    def configure_frank_wolfe(self):
        return InnerLoop.spectral()

    def configure_optimizers(self):
        return InnerLoop.spectral().outer(self.parameters())


@pytest.fixture(scope="module")
def baseline():
    monitor = FWRestartMonitor(table=False)
    trainer(monitor).fit(Plain(), loader())
    return monitor


def data(axes, label):
    line = next(line for line in axes.lines if line.get_label() == label)
    return list(line.get_xdata()), list(line.get_ydata())


def is_seen(line):
    """Whether a picture of the axes, without legend, is another where the line is left out."""
    renderer = FigureCanvasAgg(line.figure).get_renderer()
    line.axes.get_legend().set_visible(False)
    line.axes.set_axis_off()
    pictures = []
    for shown in (True, False):
        line.set_visible(shown)
        renderer.clear()
        line.axes.draw(renderer)
        pictures.append(np.array(renderer.buffer_rgba()))
    line.set_visible(True)
    return not np.array_equal(*pictures)


def test_a_run_is_drawn_against_evaluations(baseline, tmp_path):
    monitor = FWRestartMonitor(baseline=baseline, table=False)
    trainer(monitor).fit(Restarting(), loader())
    figure = monitor.plot()
    loss, gap, usage, radius, _ = figure.axes
    curve, records = monitor.curve(), monitor.records
    assert data(loss, "one batch") == (curve.evaluations, curve.losses)
    assert data(loss, "average over 20")[1] == curve.smoothed().losses
    assert data(loss, "BPTT, average over 20")[1] == baseline.curve().smoothed().losses
    closed = [3, 6, 9, 12]
    assert data(gap, "first step") == (closed, [window.gap_first for window in records])
    assert data(gap, "last step") == (closed, [window.gap_last for window in records])
    assert data(usage, "ball usage ‖d‖/δ") == (closed, [window.ball_usage for window in records])
    assert data(usage, "cosine")[1] == [window.cosine for window in records]
    assert list(radius.lines[0].get_ydata()) == [window.radius for window in records]
    figure.savefig(tmp_path / "run.png")
    assert (tmp_path / "run.png").stat().st_size > 10_000


def test_who_looks_closer_at_some_evaluations_sees_them_in_every_picture():
    loss, *others, _ = plot_run([record(n) for n in range(3)], LossCurve(), None).axes
    loss.set_xlim(2, 3)
    assert [axes.get_xlim() for axes in others] == [(2, 3)] * 3


def test_each_parameter_has_a_line_of_its_own_radius(tmp_path):
    monitor = FWRestartMonitor(table=False)
    trainer(monitor).fit(Untuned(), loader())
    figure = monitor.plot()
    radius = figure.axes[3]
    names = [name for name, _ in Untuned().named_parameters()]
    assert len(monitor.records) > 2
    for name in names:
        assert data(radius, name)[1] == [window.radii[name] for window in monitor.records]
    assert len({tuple(window.radii.values()) for window in monitor.records}) > 1
    assert [text.get_text() for text in radius.get_legend().get_texts()] == [
        *names,
        "the window's, δ",
    ]


def test_many_parameters_are_drawn_without_names():
    radii = {f"layer{n}.weight": 0.1 for n in range(9)}
    windows = [record(n, radius=0.1, radii=radii) for n in range(3)]
    radius = plot_run(windows, LossCurve(), None).axes[3]
    assert len(radius.lines) == 10
    assert [text.get_text() for text in radius.get_legend().get_texts()] == ["the window's, δ"]


def test_windows_of_other_parameters_leave_a_hole():
    windows = [record(0, radii={"a": 0.1}), record(1, radii={"b": 0.2}), record(2)]
    radius = plot_run(windows, LossCurve(), None).axes[3]
    assert np.array_equal(data(radius, "a")[1], [0.1, np.nan, np.nan], equal_nan=True)
    assert np.array_equal(data(radius, "b")[1], [np.nan, 0.2, np.nan], equal_nan=True)


def test_axes_say_what_they_show_and_in_which_unit(baseline):
    monitor = FWRestartMonitor(baseline=baseline, table=False)
    trainer(monitor).fit(Restarting(), loader())
    axes = monitor.plot().axes
    assert [a.get_ylabel() for a in axes] == [
        "loss",
        "gap (units of the loss)",
        "ratio (no unit)",
        "δ (units of the weights)",
        "milliseconds",
    ]
    assert [a.get_xlabel() for a in axes[2:4]] == ["gradient evaluations"] * 2
    assert all(a.get_title() for a in axes)


def test_the_cost_of_a_batch_is_split_as_the_summary_has_it():
    seconds = {"gradient_seconds": 4e-3, "oracle_seconds": 1e-3, "outer_seconds": 2e-3}
    windows = [record(n, batches=2, gradient_evaluations=4, **seconds) for n in range(3)]
    cost = plot_run(windows, LossCurve(), None).axes[-1]
    bars = [[bar.get_height() for bar in bars] for bars in cost.containers]
    assert np.allclose(bars, [[2.0, 1.0], [0.5, 0.0], [1.0, 2.0]])
    stands = [[bar.get_y() for bar in bars] for bars in cost.containers]
    assert np.allclose(stands, [[0.0, 0.0], [2.0, 1.0], [2.5, 1.0]])
    assert [text.get_text() for text in cost.get_legend().get_texts()] == [
        "gradient",
        "inner loop",
        "outer step",
    ]


def test_ranks_that_ran_apart_have_no_bar_of_back_propagation():
    cost = plot_run([record(agreement=0.5)], LossCurve(), None).axes[-1]
    assert [len(bars) for bars in cost.containers] == [1, 1, 1]
    assert [label.get_text() for label in cost.get_xticklabels()] == ["Frank-Wolfe"]


def test_radii_outlive_a_checkpoint():
    run = FrankWolfeRun()
    for n, radii in enumerate(({"a": 0.1}, {"b": 0.2, "a": 0.3}, {})):
        run.add(record(n, radii=radii))
    resumed = FrankWolfeRun()
    resumed.load_state_dict(run.state_dict())
    assert [window.radii for window in resumed.records] == [{"a": 0.1}, {"b": 0.2, "a": 0.3}, {}]


def test_windows_without_seconds_are_drawn(tmp_path):
    plot_run([RestartRecord(restart=0, steps=2)], LossCurve(), None).savefig(tmp_path / "run.png")
    assert (tmp_path / "run.png").stat().st_size > 10_000


def test_a_baseline_shows_its_loss_alone(baseline):
    (axes,) = baseline.plot().axes
    assert data(axes, "one batch") == (baseline.curve().evaluations, baseline.curve().losses)
    assert axes.get_xlabel() == "gradient evaluations"


def test_gaps_of_zero_and_below_are_drawn(tmp_path):
    windows = [record(0, gap_first=0.0, gap_last=-1.0), record(1)]
    some = plot_run(windows, LossCurve(), None)
    some.savefig(tmp_path / "some.png")
    # On a logarithmic axis they leave a hole instead of a line down to the floor.
    assert some.axes[1].get_yscale() == "log"
    assert np.isnan(some.axes[1].yaxis.get_transform().transform(np.array([-1.0])))
    plot_run(windows[:1], LossCurve(), None).savefig(tmp_path / "none.png")


def test_a_single_window_is_seen():
    run = FrankWolfeRun()
    run.add(record(0, radii={"a": 0.05}))
    figure = plot_run(run.records, run.curve(), LossCurve([3.0], [1.0], [2.0]))
    for axes in figure.axes[:-1]:
        assert all(is_seen(line) for line in axes.lines)


def test_a_window_between_skipped_ones_is_seen():
    skipped = {"gap_first": np.nan, "gap_last": np.nan, "ball_usage": np.nan, "cosine": np.nan}
    windows = [record(0, **skipped), record(1), record(2, **skipped)]
    gap, usage = plot_run(windows, LossCurve(), None).axes[1:3]
    assert all(is_seen(line) for line in (*gap.lines, *usage.lines))


def test_a_line_that_shows_has_no_dots():
    loss = plot_run([record(n) for n in range(3)], LossCurve([0, 2], [0, 1], [3, 2]), None).axes[0]
    assert {line.get_marker() for line in loss.lines} == {"None"}


def test_no_window_is_opened(baseline):
    baseline.plot()
    assert (
        "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()
    )


def test_nothing_recorded_is_refused():
    with pytest.raises(RuntimeError, match=r"plot\(\) needs a run, and nothing was recorded with"):
        FWRestartMonitor().plot()


def test_a_missing_matplotlib_is_named(baseline, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'lightning-fw\[plot\]'"):
        baseline.plot()


def test_a_private_part_of_a_module_stands_in_the_legend():
    run = FrankWolfeRun()
    for restart in range(2):
        run.add(record(restart, radii={"_rnn.weight": 0.1, "head.weight": 0.2}))
    radius = plot_run(run.records, run.curve(), None).axes[3]
    named = [text.get_text().strip() for text in radius.get_legend().get_texts()]
    assert named == ["_rnn.weight", "head.weight", "the window's, δ"]
