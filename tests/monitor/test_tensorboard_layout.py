"""TensorBoard gets the charts that belong together."""

from __future__ import annotations

import pytest
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from lightning_fw import FWRestartMonitor
from lightning_fw.monitoring.tensorboard_layout import CHARTS

from .cases import Plain, Restarting, fitted, loader, trainer

pytest.importorskip("tensorboard", reason="needs tensorboard")


def layouts(logger):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.custom_scalar.layout_pb2 import Layout

    events = EventAccumulator(logger.log_dir).Reload()
    if "custom_scalars__config__" not in events.Tags()["tensors"]:
        return []
    return [
        Layout.FromString(event.tensor_proto.string_val[0])
        for event in events.Tensors("custom_scalars__config__")
    ]


def test_the_layout_stands_beside_the_logged_values(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    fitted(Restarting(), logger=logger, log_every_n_steps=1)
    (layout,) = layouts(logger)
    (category,) = layout.category
    charts = {chart.title: tuple(chart.multiline.tag) for chart in category.chart}
    assert charts == CHARTS


def test_every_chart_shows_what_is_logged():
    logged = fitted(Restarting()).summary()
    assert {name for names in CHARTS.values() for name in names} <= set(logged)


def test_a_baseline_and_other_loggers_have_none(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    trainer(FWRestartMonitor(table=False), logger=logger).fit(Plain(), loader())
    assert layouts(logger) == []
    fitted(Restarting(), logger=CSVLogger(tmp_path), log_every_n_steps=1)


def test_a_layout_of_the_users_is_the_last(tmp_path):
    class Laid(Restarting):
        def on_fit_start(self):
            self.logger.experiment.add_custom_scalars({"mine": {"loss": ["Multiline", ["loss"]]}})

    logger = TensorBoardLogger(tmp_path)
    fitted(Laid(), logger=logger, log_every_n_steps=1)
    assert [layout.category[0].title for layout in layouts(logger)] == ["Frank-Wolfe", "mine"]
