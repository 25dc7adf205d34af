"""The anchor by itself, where what moves away from it, or visits it, fails."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lightning_fw.window.anchor import Anchor
from tests.window.convex_loss import all_equal, copies


def test_a_move_that_fails_halfway_is_taken_back():
    weights = [nn.Parameter(torch.tensor([0.1, 0.2])) for _ in range(2)]
    before, anchor = copies(weights), Anchor(weights)
    fits, does_not = torch.ones(2), torch.ones(3)
    away = anchor.displaced([fits, does_not], 0.3, [True, True])
    with pytest.raises(RuntimeError, match="size"), away:
        pass
    assert all_equal(weights, before)
    assert not anchor.is_displaced
    assert anchor.copies() == []


def test_an_error_in_a_visit_leaves_the_weights_where_they_stood():
    weights = [nn.Parameter(torch.tensor([0.1, 0.2]))]
    before, anchor = copies(weights), Anchor(weights)

    def visited():
        with anchor.restored():
            assert all_equal(weights, before)
            raise KeyError

    with anchor.displaced([torch.ones(2)], 0.3, [True]):
        displaced = copies(weights)
        for _ in range(2):
            with pytest.raises(KeyError):
                visited()
            assert all_equal(weights, displaced)
    assert all_equal(weights, before)
