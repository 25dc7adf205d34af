"""A bar for what takes a minute."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress

T = TypeVar("T")


def tracked(items: Sequence[T], description: str) -> Iterator[T]:
    """The items, with a bar where stderr is a terminal; no thread redraws it in the meantime.

    Args:
        items: What to go through.
        description: What stands beside the bar.
    """
    console = Console(stderr=True)
    disable = not console.is_terminal
    with Progress(console=console, transient=True, auto_refresh=False, disable=disable) as progress:
        task = progress.add_task(description, total=len(items))
        for item in items:
            yield item
            progress.update(task, advance=1, refresh=True)
