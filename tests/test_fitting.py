"""A fit within a command ends as the command does."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from lightning.pytorch.trainer.states import TrainerStatus

from lightning_fw.command_line.fitting import fit


@pytest.mark.parametrize(
    ("code", "status", "error"),
    [
        (1, TrainerStatus.INTERRUPTED, KeyboardInterrupt),
        (None, TrainerStatus.INTERRUPTED, KeyboardInterrupt),
        (141, TrainerStatus.INTERRUPTED, SystemExit),
        (1, TrainerStatus.RUNNING, SystemExit),
    ],
)
def test_lightnings_own_exits_alone_are_interruptions(code, status, error):
    def leave(model, data):
        raise SystemExit(code)

    trainer = SimpleNamespace(fit=leave, state=SimpleNamespace(status=status))
    with pytest.raises((KeyboardInterrupt, SystemExit)) as raised:
        fit(trainer, None, None)
    assert raised.type is error
