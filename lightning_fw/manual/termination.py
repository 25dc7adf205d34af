"""SIGTERM: the question to rank 0, before every batch, whether the job is to end."""

from __future__ import annotations

from typing import Any

_QUESTION = "_broadcast_sigterm_tensor"


class AskOnceARestart:
    """Stands in for Lightning's question where ranks run windows apart.

    Lightning 2.6.6 sends a message before every batch (pull request 20825, issue 21487), for which
    ranks would wait that have nothing else to say before the restart.

    Args:
        epoch_loop: The trainer's, which asks.
    """

    def __init__(self, epoch_loop: Any) -> None:
        self._epoch_loop = epoch_loop
        self._is_due = False

    def __call__(self) -> None:
        """Ask, if the window is the first since ranks last asked."""
        if self._is_due:
            self._is_due = False
            getattr(type(self._epoch_loop), _QUESTION)(self._epoch_loop)

    def note_restart(self) -> None:
        """Let the next question pass."""
        self._is_due = True


def ask_once_a_restart(trainer: Any) -> None:
    """Put :class:`AskOnceARestart` in place, where Lightning asks at all."""
    epoch_loop = trainer.fit_loop.epoch_loop
    if hasattr(type(epoch_loop), _QUESTION):
        setattr(epoch_loop, _QUESTION, AskOnceARestart(epoch_loop))


def note_restart(trainer: Any) -> None:
    """Tell the question in place that ranks have just met."""
    question = vars(trainer.fit_loop.epoch_loop).get(_QUESTION)
    if question is not None:
        question.note_restart()


def ask_every_batch(trainer: Any) -> None:
    """Give Lightning its own question back."""
    vars(trainer.fit_loop.epoch_loop).pop(_QUESTION, None)
