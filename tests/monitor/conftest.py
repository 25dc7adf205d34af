"""A baseline that was saved."""

from __future__ import annotations

import pytest

from .cases import Plain, fitted


@pytest.fixture
def saved(tmp_path):
    """A baseline's monitor and the file that it saved."""
    monitor = fitted(Plain(), batches=40)
    monitor.save(tmp_path / "baseline.json")
    return monitor, tmp_path / "baseline.json"
