"""Files from the network, checked against their SHA-256, and what is inside archives."""

from __future__ import annotations

import shutil
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path


def download(url: str, sha256: str, path: Path, *, asked_by: str) -> None:
    """Fetch a file, unless it is there with this checksum.

    Args:
        url: Where from.
        sha256: What its content has to sum up to, or nothing is left at ``path``.
        path: Where to.
        asked_by: Who needs it, for the message where pooch is missing.

    Raises:
        ModuleNotFoundError: If pooch is missing.
        ValueError: If the checksum is another.
    """
    try:
        import pooch
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{asked_by}(download=True) needs pooch. Run pip install 'lightning-fw[data]'."
        ) from error
    pooch.retrieve(
        url,
        f"sha256:{sha256}",
        fname=path.name,
        path=path.parent,
        progressbar=sys.stderr.isatty(),
    )


def unzip(archive: Path, members: Mapping[str, Path]) -> None:
    """Write members of an archive to files that the caller names.

    The names inside the archive choose no path, so that none can lead out of a directory.

    Args:
        archive: A zip file.
        members: For the name of each member the file it is written to.

    Raises:
        ValueError: If it is no zip file, or lacks a member.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            missing = members.keys() - set(opened.namelist())
            if missing:
                raise _broken(archive, f"{min(missing)} is not inside")
            for name, path in members.items():
                # Whole or not at all: what an interruption leaves has another name.
                partial = path.with_name(f"{path.name}.part")
                with opened.open(name) as source, partial.open("wb") as target:
                    shutil.copyfileobj(source, target)
                partial.replace(path)
    except zipfile.BadZipFile as error:
        raise _broken(archive, str(error)) from error


def _broken(archive: Path, found: str) -> ValueError:
    return ValueError(
        f"`archive` must be a whole zip file with the files of the data set, got {archive}: "
        f"{found}. Delete it and get it again."
    )
