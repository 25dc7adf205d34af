"""The bar on a terminal, and nothing elsewhere."""

from __future__ import annotations

import pytest
from rich.console import Console

from lightning_fw.bench.progress import tracked


@pytest.mark.parametrize("on_a_terminal", [True, False])
def test_a_bar_is_drawn_on_a_terminal_alone(on_a_terminal, capsys, monkeypatch):
    monkeypatch.setattr(Console, "is_terminal", on_a_terminal)
    assert list(tracked(range(3), "timing")) == [0, 1, 2]
    told = capsys.readouterr()
    assert told.out == ""
    assert ("timing" in told.err) == on_a_terminal
