"""A rank that is gone: what the others say before they end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import distributed

# Gloo has no error of its own: it names a file of its source, or says this alone.
_GLOO = ("/gloo/", "Application timeout caused pair closure")


@contextmanager
def lost_ranks_told() -> Iterator[None]:
    """Turn a message between ranks that failed into an error that tells what to do.

    Raises:
        RuntimeError: In the place of the backend's.
    """
    try:
        yield
    except RuntimeError as error:
        if not _is_of_a_message(error):
            raise
        raise RuntimeError(
            "Another rank is gone or does not answer: look for the reason in its own output. This "
            "rank's weights are back at the anchor. Resume from the last checkpoint, with as many "
            f"ranks or another number of them. ({str(error).splitlines()[0]})"
        ) from error


def _is_of_a_message(error: RuntimeError) -> bool:
    if not (distributed.is_available() and distributed.is_initialized()):
        return False
    return isinstance(error, distributed.DistError) or any(s in str(error) for s in _GLOO)
