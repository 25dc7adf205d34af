"""What is raced on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from lightning_fw.data import (
    DSA19,
    HAR2,
    AddingProblem,
    CopyMemory,
    PennTreebank,
    SequenceData,
    SequentialDigits,
    SequentialMNIST,
    TextData,
    WikiText2,
    digits,
    mnist,
)

Data = SequenceData | TextData


@dataclass(frozen=True, kw_only=True)
class Task:
    """A data set, and when it counts as learned.

    Attributes:
        name: Its name on the command line.
        title: Its name in tables and pictures.
        make_data: The data for a seed and a batch size; ``root`` is the directory of its files,
            where it has any.
        metric: Name of the test metric.
        target: The metric to reach.
        higher_is_better: Whether the metric is to grow.
        batch_size: Sequences a gradient evaluation.
        chunk_length: Time steps of a chunk, for methods that cut sequences; None: of a text, which
            comes in chunks.
        embedding_size: Numbers that a token becomes; None: it is read one-hot.
        files: What ``root`` is to hold.
        spans_decades: Whether pictures are to show the metric on a logarithmic scale.
    """

    name: str
    title: str
    make_data: Callable[[int, Path, int], Data]
    metric: str
    target: float
    higher_is_better: bool
    batch_size: int
    chunk_length: int | None = None
    embedding_size: int | None = None
    files: str | None = None
    spans_decades: bool = False

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

    def data(self, seed: int, root: Path) -> Data:
        """The data for a seed."""
        return self.make_data(seed, root, self.batch_size)

    def joined(self, ranks: int) -> Task:
        """The task with the batches of so many ranks in one, whose gradient is the ranks' mean."""
        return replace(self, batch_size=self.batch_size * ranks)


def _adding(seed: int, root: Path, batch_size: int, *, length: int) -> Data:
    return AddingProblem(length, batch_size=batch_size, seed=seed)


def _copy(seed: int, root: Path, batch_size: int) -> Data:
    return CopyMemory(120, batch_size=batch_size, seed=seed)


def _digits(seed: int, root: Path, batch_size: int, *, by: digits.By) -> Data:
    return SequentialDigits(by, batch_size=batch_size, seed=seed)


def _mnist(seed: int, root: Path, batch_size: int, *, by: mnist.By, noise: float = 0.0) -> Data:
    return SequentialMNIST(root, by, noise=noise, batch_size=batch_size, seed=seed)


def _har(seed: int, root: Path, batch_size: int, *, noise: float) -> Data:
    return HAR2(root, noise=noise, batch_size=batch_size, seed=seed)


def _dsa(seed: int, root: Path, batch_size: int) -> Data:
    return DSA19(root, batch_size=batch_size, seed=seed)


# The order of a text is its own; a seed gives initial weights alone.
def _shakespeare(seed: int, root: Path, batch_size: int) -> Data:
    text = root / "shakespeare.txt"
    return TextData(text, level="character", batch_size=batch_size, chunk_length=64)


def _shakespeare_words(seed: int, root: Path, batch_size: int) -> Data:
    return TextData(root / "shakespeare.txt", batch_size=batch_size, min_count=3)


def _penn(seed: int, root: Path, batch_size: int) -> Data:
    return PennTreebank(root, batch_size=batch_size)


def _wikitext(seed: int, root: Path, batch_size: int) -> Data:
    return WikiText2(root, batch_size=batch_size)


_error = partial(Task, metric="test MSE", higher_is_better=False, spans_decades=True)
_accuracy = partial(Task, metric="test accuracy", higher_is_better=True)
_nats = partial(Task, metric="test nats a token", higher_is_better=False)
_words = partial(_nats, batch_size=20, embedding_size=128)

_MNIST = "MNIST's files"
_MNIST_TITLES: dict[mnist.By, str] = {
    "pixel": "MNIST by pixel",
    "permuted": "MNIST by pixel, permuted",
    "padded": "MNIST by row, then noise",
}

TASKS = {
    task.name: task
    for task in (
        *(
            _error(
                name="adding" if length == 100 else f"adding-{length}",
                title=f"adding problem, T = {length}",
                make_data=partial(_adding, length=length),
                target=0.02,
                batch_size=50,
                chunk_length=length // 2,
            )
            for length in (30, 100, 200)
        ),
        _accuracy(
            name="copy",
            title="copy memory, T = 120",
            make_data=_copy,
            # Blanks and ten guesses, without any memory, give 0.938.
            target=0.97,
            batch_size=50,
            chunk_length=70,
        ),
        _accuracy(
            name="digits",
            title="digits by row",
            make_data=partial(_digits, by="row"),
            target=0.95,
            batch_size=32,
            chunk_length=4,
        ),
        _accuracy(
            name="digits-pixel",
            title="digits by pixel",
            make_data=partial(_digits, by="pixel"),
            target=0.9,
            batch_size=32,
            chunk_length=16,
        ),
        _accuracy(
            name="mnist",
            title="MNIST by row",
            make_data=partial(_mnist, by="row"),
            target=0.94,
            batch_size=64,
            chunk_length=14,
            files=_MNIST,
        ),
        _accuracy(
            name="mnist-noisy",
            title="MNIST by row with noise",
            # Twice the images' own standard deviation, 0.31, as in the noisy HAR-2.
            make_data=partial(_mnist, by="row", noise=0.62),
            target=0.82,
            batch_size=64,
            chunk_length=14,
            files=_MNIST,
        ),
        *(
            _accuracy(
                name=f"mnist-{by}",
                title=title,
                make_data=partial(_mnist, by=by),
                target=0.9,
                batch_size=64,
                chunk_length=196 if by != "padded" else 250,
                files=_MNIST,
            )
            for by, title in _MNIST_TITLES.items()
        ),
        *(
            _accuracy(
                name=name,
                title=title,
                make_data=partial(_har, noise=noise),
                target=target,
                batch_size=128,
                chunk_length=16,
                files="UCI HAR's inertial signals",
            )
            for name, title, noise, target in (
                ("har", "HAR-2", 0.0, 0.93),
                ("har-noisy", "HAR-2 with noise", 2.0, 0.83),
            )
        ),
        _accuracy(
            name="dsa",
            title="DSA-19",
            make_data=_dsa,
            target=0.8,
            batch_size=128,
            chunk_length=25,
            files="the Daily and Sports Activities",
        ),
        _nats(
            name="shakespeare",
            title="characters of Shakespeare",
            make_data=_shakespeare,
            target=2.0,
            batch_size=32,
            files="shakespeare.txt",
        ),
        _words(
            name="shakespeare-words",
            title="words of Shakespeare",
            make_data=_shakespeare_words,
            target=4.6,
            files="shakespeare.txt",
        ),
        _words(
            name="ptb",
            title="words of the Penn Treebank",
            make_data=_penn,
            target=5.2,
            files="the Penn Treebank",
        ),
        _words(
            name="wikitext-2",
            title="words of WikiText-2",
            make_data=_wikitext,
            target=5.4,
            files="WikiText-2",
        ),
    )
}
