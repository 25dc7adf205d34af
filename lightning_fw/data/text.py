"""Language modelling on plain text files, by word or by character."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, get_args

import lightning as L
from torch import Tensor
from typing_extensions import override

from lightning_fw.checks import require_choice, require_count
from lightning_fw.data.sequence_loader import batches_read_of
from lightning_fw.data.sequences import Kind, Loader, Split
from lightning_fw.data.token_stream import ChunksInOrder, TokenStream
from lightning_fw.data.vocabulary import Vocabulary

Level = Literal["word", "character"]

END_OF_LINE = "<eos>"
_CUT_OFF = 20  # One part in so many, as usual for text without parts of its own.


class TextData(L.LightningDataModule):
    r"""Predict the next token: (batch, time) indices and, of the same shape, their next ones.

    Words are what white space separates, with ``<eos>`` after each line; characters are all that
    the file holds, line ends included. The vocabulary is that of the training text, with ``<unk>``
    at index 0 for whatever else appears. Batches come in the order of the text, as
    :class:`.TokenStream` cuts it: keep the network's state, detached, from batch to batch, and drop
    it where ``batch_idx`` is 0. That goes with ``InnerLoop(batches="successive")``, the default:
    ``"same"`` and ``"split"`` call the training step several times a batch.

    A part without a file of its own is cut off the end of the training file, 5 % of its tokens:
    the last for the test, those before for the validation.

    Args:
        train: File to train on, in UTF-8.
        val: File to validate on.
        test: File to test on.
        level: ``"word"`` or ``"character"``.
        batch_size: Places of the text that are read at once, by each rank.
        chunk_length: Tokens a batch holds of each.
        min_count: Training tokens less frequent than this become ``<unk>``.

    Attributes:
        kind: ``"language"``.

    Raises:
        TypeError: If a number is not an int.
        ValueError: If ``level`` is unknown or a number is below 1; when read, if a file is empty,
            not in UTF-8, or too short for ``batch_size``.
        FileNotFoundError: When read, if a file is missing.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as directory:
        ...     text = Path(directory, "text.txt")
        ...     _ = text.write_text("the cat sat on the mat\n" * 50)
        ...     data = TextData(text, batch_size=4, chunk_length=7)
        ...     x, y = next(iter(data.train_dataloader()))
        >>> tuple(x.shape), data.vocabulary.decode(y[0])
        ((4, 7), ['cat', 'sat', 'on', 'the', 'mat', '<eos>', 'the'])
    """

    kind: ClassVar[Kind] = "language"
    # What to do where a file is missing.
    _remedy: ClassVar[str] = "Pass the path of a text file"

    def __init__(
        self,
        train: str | Path,
        *,
        val: str | Path | None = None,
        test: str | Path | None = None,
        level: Level = "word",
        batch_size: int = 20,
        chunk_length: int = 35,
        min_count: int = 1,
    ) -> None:
        super().__init__()
        require_choice("level", level, get_args(Level))
        require_count("batch_size", batch_size)
        require_count("chunk_length", chunk_length)
        require_count("min_count", min_count)
        self.paths: dict[Split, str | Path | None] = {"train": train, "val": val, "test": test}
        self.level = level
        self.batch_size = batch_size
        self.chunk_length = chunk_length
        self.min_count = min_count
        self._vocabulary: Vocabulary | None = None
        self._tokens: dict[Split, Tensor] = {}

    @property
    def vocabulary(self) -> Vocabulary:
        """The tokens of the training text, read at the first call."""
        if self._vocabulary is None:
            texts = self._texts()
            self._vocabulary = Vocabulary(texts["train"], min_count=self.min_count)
            self._tokens = {split: self._vocabulary.encode(texts[split]) for split in texts}
        return self._vocabulary

    @property
    def input_size(self) -> int:
        """Size of the vocabulary."""
        return len(self.vocabulary)

    @property
    def output_size(self) -> int:
        """Size of the vocabulary."""
        return len(self.vocabulary)

    def tokens(self, split: Split) -> Tensor:
        """The whole text of a part: int64, of shape (tokens,)."""
        _ = self.vocabulary  # reads all parts at once
        return self._tokens[split]

    @override
    def train_dataloader(self) -> Loader:
        loader = self._loader("train")
        if self.trainer is not None:
            loader.limit = batches_read_of(len(loader), self.trainer)
        return loader

    @override
    def val_dataloader(self) -> Loader:
        return self._loader("val")

    @override
    def test_dataloader(self) -> Loader:
        return self._loader("test")

    @override
    def predict_dataloader(self) -> Loader:
        return self.test_dataloader()

    def _loader(self, split: Split) -> ChunksInOrder:
        return TokenStream(
            self.tokens(split),
            batch_size=self.batch_size,
            chunk_length=self.chunk_length,
            rank=0 if self.trainer is None else self.trainer.global_rank,
            ranks=1 if self.trainer is None else self.trainer.world_size,
        ).loader()

    def _texts(self) -> dict[Split, list[str]]:
        training = self._read("train")
        held_out = len(training) // _CUT_OFF
        texts: dict[Split, list[str]] = {}
        for split in ("test", "val"):
            if self.paths[split] is not None:
                texts[split] = self._read(split)
                continue
            if held_out == 0:
                raise ValueError(
                    f"`train` must hold at least {_CUT_OFF} tokens to cut off `{split}`, got "
                    f"{len(training)} in {self.paths['train']}. Pass a file for {split}."
                )
            training, texts[split] = training[:-held_out], training[-held_out:]
        return {"train": training, **texts}

    def _read(self, split: Split) -> list[str]:
        path = Path(self.paths[split] or "")
        if not path.is_file():
            raise FileNotFoundError(
                f"`{split}` must be a text file, got {path}, which is none. {self._remedy}."
            )
        try:
            text = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"`{split}` must be a text file in UTF-8, got {path}: {error}. Convert it."
            ) from error
        if not text:
            raise ValueError(f"`{split}` must hold text, got {path} without any. {self._remedy}.")
        return words(text) if self.level == "word" else list(text)


def words(text: str) -> list[str]:
    r"""The words of a text, with ``<eos>`` after each line, empty ones included.

    Example:
        >>> words("no man\n\nis an island")
        ['no', 'man', '<eos>', '<eos>', 'is', 'an', 'island', '<eos>']
    """
    lines = text.removesuffix("\n").split("\n")
    return [word for line in lines for word in (*line.split(), END_OF_LINE)]
