"""DSA-19: daily and sports activities, from five sensor units on the body."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from lightning_fw.data.activities import ActivityData
from lightning_fw.data.sequences import Split
from lightning_fw.data.tables import read_table

_ACTIVITIES, _SEGMENTS = 19, 60
_STEPS, _CHANNELS = 125, 45
_SUBJECTS: dict[Split, tuple[int, ...]] = {"train": (1, 3, 5), "val": (7,), "test": (2, 4, 6, 8)}


class DSA19(ActivityData):
    """125 steps of 45 channels; 19 activities.

    Segments of 5 s at 25 Hz: acceleration, angular velocity and magnetic field along x, y, z at
    the torso, both arms and both legs. Eight people, 60 segments of each activity from each. The
    papers that use it train on 4,560 segments and test on 4,560, without saying which; here the
    people 2, 4, 6 and 8 test (4,560), 7 validates (1,140), and 1, 3 and 5 train (3,420), so that
    nobody is met twice.

    There is no download: no checksum of the archive is known to us from a source that we trust.

    Source: Altun, Barshan, Tunçel (2010), "Comparative Study on Classifying Human Activities with
    Miniature Inertial and Magnetic Sensors"; as a task of recurrent networks Kusupati, Singh,
    Bhatia, Kumar, Jain, Varma (2018), arXiv:1901.02358.

    Args:
        root: The directory ``data``, which holds ``a01`` to ``a19``.
        batch_size: Sequences a batch.
        seed: Of the order of the batches.

    Raises:
        TypeError: If a number is not an int.
        ValueError: If ``batch_size`` < 1; when read, if a file is broken.
        FileNotFoundError: When read, if a file is missing.

    Example:
        >>> data = DSA19("data")
        >>> data.input_size, data.output_size
        (45, 19)
    """

    source: ClassVar[str] = (
        "https://archive.ics.uci.edu/dataset/256 (Daily and Sports Activities, folder data)"
    )

    def __init__(self, root: str | Path, *, batch_size: int = 128, seed: int = 0) -> None:
        super().__init__(root, batch_size=batch_size, seed=seed)
        self.input_size, self.output_size = _CHANNELS, _ACTIVITIES

    @override
    def read_split(self, split: Split) -> tuple[Tensor, Tensor]:
        segments, targets = [], []
        for activity in range(_ACTIVITIES):
            for subject in _SUBJECTS[split]:
                for segment in range(1, _SEGMENTS + 1):
                    segments.append(self._segment(activity + 1, subject, segment))
                    targets.append(activity)
        return torch.stack(segments), torch.tensor(targets)

    def _segment(self, activity: int, subject: int, segment: int) -> Tensor:
        path = self._path(f"a{activity:02}", f"p{subject}", f"s{segment:02}.txt")
        table = read_table(path, _CHANNELS, separator=",")
        if len(table) != _STEPS:
            raise ValueError(
                f"`root` must hold segments of {_STEPS} steps, got {len(table)} in {path}. "
                "Get the file again."
            )
        return table
