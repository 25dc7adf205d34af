"""What is raced on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from lightning_fw.data import AddingProblem, SequenceData, SequentialDigits, SequentialMNIST


@dataclass(frozen=True)
class Task:
    """A data set, and when it counts as learned.

    Attributes:
        name: Its name on the command line.
        title: Its name in tables and pictures.
        make_data: The data for a seed; ``root`` is the directory of files, where there are any.
        metric: Name of the test metric.
        target: The metric to reach.
        higher_is_better: Whether the metric is to grow.
        batch_size: Sequences a gradient evaluation.
    """

    name: str
    title: str
    make_data: Callable[[int, Path], SequenceData]
    metric: str
    target: float
    higher_is_better: bool
    batch_size: int

    def reached(self, metric: float) -> bool:
        """Whether the metric is at the target."""
        return metric >= self.target if self.higher_is_better else metric <= self.target

    @property
    def goal(self) -> str:
        """The target with its direction."""
        return f"{'≥' if self.higher_is_better else '≤'} {self.target:g}"

    def rank(self, metric: float) -> float:
        """What sorts the better metric first."""
        return -metric if self.higher_is_better else metric

    def joined(self, ranks: int) -> Task:
        """The task with the batches of so many ranks in one, whose gradient is the ranks' mean."""

        def make_data(seed: int, root: Path) -> SequenceData:
            data = self.make_data(seed, root)
            data.batch_size *= ranks
            return data

        return replace(self, make_data=make_data, batch_size=self.batch_size * ranks)


TASKS = {
    task.name: task
    for task in (
        Task(
            name="adding",
            title="adding problem, T = 100",
            make_data=lambda seed, root: AddingProblem(100, batch_size=50, seed=seed),
            metric="test MSE",
            target=0.02,
            higher_is_better=False,
            batch_size=50,
        ),
        Task(
            name="digits",
            title="digits by row",
            make_data=lambda seed, root: SequentialDigits("row", batch_size=32, seed=seed),
            metric="test accuracy",
            target=0.95,
            higher_is_better=True,
            batch_size=32,
        ),
        Task(
            name="mnist",
            title="MNIST by row",
            make_data=lambda seed, root: SequentialMNIST(root, "row", batch_size=64, seed=seed),
            metric="test accuracy",
            target=0.94,
            higher_is_better=True,
            batch_size=64,
        ),
    )
}
