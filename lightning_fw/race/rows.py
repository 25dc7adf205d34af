"""Files of rows that outlive a process killed while it writes them."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path


def whole_rows(path: Path) -> list[list[str]]:
    """The rows of a file, its header among them; none if there is no file.

    A last row without its line end was cut off while it was written, and is left out.
    """
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    return list(csv.reader(text[: text.rfind("\n") + 1].splitlines()))


def write_rows(path: Path, rows: Iterable[Sequence[object]]) -> None:
    """Write all rows anew; the old file stays until the new one is whole."""
    partial = path.with_suffix(".partial")
    with partial.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    partial.replace(path)


def append_row(path: Path, row: Sequence[object]) -> None:
    """Add one row to a file of whole ones."""
    with path.open("a", newline="", encoding="utf-8") as file:
        csv.writer(file).writerow(row)
