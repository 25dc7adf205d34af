"""Tables of numbers in text files."""

from __future__ import annotations

from array import array
from pathlib import Path

import torch
from torch import Tensor


def read_table(path: Path, columns: int, *, separator: str | None = None) -> Tensor:
    """Read rows of numbers.

    Args:
        path: The file.
        columns: Numbers in a row.
        separator: What stands between them; None: white space.

    Returns:
        A float32 tensor of shape (rows, columns).

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If there is no row, a row has other than ``columns`` numbers, or one of them is
            no finite number.
    """
    numbers = array("f")
    rows = path.read_text(encoding="ascii", errors="replace").splitlines()
    for place, row in enumerate(rows, start=1):
        fields = row.split(separator)
        if len(fields) != columns:
            raise _broken(path, f"{len(fields)} instead of {columns} numbers in line {place}")
        try:
            numbers.extend(map(float, fields))
        except ValueError as error:
            raise _broken(path, f"{error} in line {place}") from error
    if not rows:
        raise _broken(path, "no line")
    table = torch.frombuffer(numbers, dtype=torch.float32).view(-1, columns)
    if not table.isfinite().all():
        raise _broken(path, "a number that is not finite")
    return table


def _broken(path: Path, found: str) -> ValueError:
    return ValueError(
        f"`path` must be a whole table of numbers, got {path}: {found}. Delete it and get it again."
    )
