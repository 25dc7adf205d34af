"""The IDX format of the MNIST files."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import torch
from torch import Tensor

_UNSIGNED_BYTE = 0x08


def read_idx(path: Path, dimensions: int) -> Tensor:
    """Read an IDX file of unsigned bytes, gzipped or not.

    The file begins with two zero bytes, the type 0x08, the number of dimensions, and each
    dimension as a big-endian 32-bit integer; the bytes follow.

    Args:
        path: The file.
        dimensions: Expected number of dimensions: 3 for images, 1 for labels.

    Returns:
        A uint8 tensor.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is truncated, corrupted, empty or of another type.
    """
    content = _read(path)
    header = 4 + 4 * dimensions
    if len(content) < header:
        raise _broken(path, f"{len(content)} bytes, less than the header's {header}")
    if content[:4] != bytes([0, 0, _UNSIGNED_BYTE, dimensions]):
        raise _broken(path, f"it begins with {content[:4].hex()} instead of 000008{dimensions:02x}")
    shape = struct.unpack(f">{dimensions}I", content[4:header])
    found, expected = len(content) - header, math.prod(shape)
    if found != expected:
        raise _broken(path, f"{found} bytes of data where the header tells of {expected}")
    if not expected:
        raise _broken(path, f"no data, of shape {shape}")
    return torch.frombuffer(bytearray(content[header:]), dtype=torch.uint8).view(shape)


def _read(path: Path) -> bytes:
    content = path.read_bytes()
    if content[:2] != b"\x1f\x8b":
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _broken(path, f"its gzip stream is broken ({error})") from error


def _broken(path: Path, found: str) -> ValueError:
    return ValueError(
        f"`path` must be a whole IDX file of unsigned bytes, got {path}: {found}. "
        "Delete it and get it again."
    )
