"""Lightning's callbacks that measure rates, throughput and devices log as of a plain module."""

from __future__ import annotations

import pytest
from lightning.pytorch.callbacks import DeviceStatsMonitor, LearningRateMonitor, ThroughputMonitor

from tests.manual.callback_nets import ONE_STEP, ByFrankWolfe, MemoryLogger, Plain, decay


@pytest.mark.parametrize("logging_interval", [None, "step", "epoch"])
@pytest.mark.parametrize("interval", ["step", "epoch", None])
def test_the_learning_rate_monitor_logs_what_it_logs_of_a_plain_module(
    interval, logging_interval, make_trainer
):
    found = []
    for make in (Plain, lambda **settings: ByFrankWolfe(ONE_STEP, **settings)):
        scheduler = None if interval is None else lambda optimizer: decay(optimizer, interval)
        logger = MemoryLogger()
        monitor = LearningRateMonitor(logging_interval, log_momentum=True, log_weight_decay=True)
        make_trainer(callbacks=[monitor], logger=logger, log_every_n_steps=1, max_epochs=3).fit(
            make(scheduler=scheduler)
        )
        name = "lr-SGD" if interval is None else "rate"
        suffixes = ("", "-momentum", "-weight_decay")
        found.append(([logger.values(name + suffix) for suffix in suffixes], monitor.lrs))
    assert found[1] == found[0]
    if interval in (logging_interval, None) or logging_interval is None:
        assert found[0][0][0]


def test_the_learning_rate_monitor_shows_a_rate_for_every_window(make_trainer):
    monitor = LearningRateMonitor("step")
    make_trainer(callbacks=[monitor], logger=MemoryLogger(), log_every_n_steps=1).fit(
        ByFrankWolfe(lr=1.0, scheduler=lambda optimizer: decay(optimizer, "step"))
    )
    assert monitor.lrs["rate"] == pytest.approx([1.0] * 3 + [0.9] * 3 + [0.81])


def test_the_throughput_monitor_counts_as_of_a_plain_module(make_trainer):
    found = []
    for module in (Plain(), ByFrankWolfe(ONE_STEP), ByFrankWolfe()):
        module.flops_per_batch = 10
        logger, throughput = (
            MemoryLogger(),
            ThroughputMonitor(lambda batch: len(batch[0]), window_size=3),
        )
        make_trainer(callbacks=[throughput], logger=logger, log_every_n_steps=1).fit(module)
        names = ("train/batches", "train/samples", "validate/samples")
        found.append([logger.values(name) for name in names])
        assert all(rate > 0 for _, rate in logger.values("train/device/batches_per_sec"))
    assert found[0] == found[1] == found[2]
    assert [count for _, count in found[0][1]] == [4.0 * n for n in range(1, 8)]


def test_the_device_stats_monitor_logs_as_of_a_plain_module(make_trainer):
    found = []
    for module in (Plain(), ByFrankWolfe()):
        logger = MemoryLogger()
        make_trainer(callbacks=[DeviceStatsMonitor()], logger=logger, log_every_n_steps=1).fit(
            module
        )
        found.append([(step, sorted(row)) for step, row in logger.rows])
    assert found[0] == found[1]
    assert sum(any("on_train_batch_end" in name for name in row) for _, row in found[1]) == 7
