"""What is told of a batch in the Trainer."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from lightning_fw.bench import whole_batch


def test_milliseconds_are_those_of_forty_batches_after_ten(monkeypatch):
    """By a clock that jumps before the eleventh batch of a fit, and then goes evenly."""
    fits = [[2.0, 4.0, 3.0, 2.0], [9.0, 5.0, 3.0, 1.0], [3.0, 9.0, 3.0, 9.0]]
    times = (
        seconds * (batch - 10) if batch >= 10 else -1000.0
        for fit in fits
        for seconds in fit
        for batch in range(51)
    )
    monkeypatch.setattr(whole_batch, "time", SimpleNamespace(perf_counter=times.__next__))
    monkeypatch.setattr(whole_batch, "LENGTH", 3)
    rows = whole_batch.measure_batches("rnn", 2, len(fits), torch.device("cpu"))
    assert [row["median_ms"] for row in rows] == [3000, 5000, 3000, 2000]
    assert [row["range_ms"] for row in rows] == [
        [2000, 9000],
        [4000, 9000],
        [3000, 3000],
        [1000, 9000],
    ]
    assert [row["ratio"] for row in rows] == pytest.approx([1, 5 / 3, 1, 2 / 3])
    assert next(times, None) is None
