"""Text files become streams of words or characters, and a network learns from them."""

from __future__ import annotations

import lightning as L
import pytest
import torch
from torch import nn
from torch.nn import functional

from lightning_fw import FrankWolfeMixin
from lightning_fw.data import TextData
from lightning_fw.data.text import words
from tests.ranks import on_ranks


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_words_are_counted_as_the_published_figures_do():
    assert words(" = Title = \n \n a <unk>\n\n") == [
        *("=", "Title", "=", "<eos>"),
        *("<eos>",),
        *("a", "<unk>", "<eos>"),
        *("<eos>",),
    ]


def test_only_line_ends_end_lines():
    assert words("a\u2028b\x0cc\x85d\n") == ["a", "b", "c", "d", "<eos>"]


def test_characters_are_all_of_them(tmp_path):
    train = write(tmp_path / "train.txt", "ab \nba" * 10)
    data = TextData(train, val=train, test=train, level="character")
    assert "".join(data.vocabulary.decode(data.tokens("val"))) == "ab \nba" * 10
    assert set(data.vocabulary.tokens) == {"<unk>", "a", "b", " ", "\n"}


def test_windows_line_ends_are_line_ends(tmp_path):
    path = tmp_path / "train.txt"
    path.write_bytes(b"a b\r\nc\r\n" * 20)
    data = TextData(path)
    assert set(data.vocabulary.tokens) == {"<unk>", "<eos>", "a", "b", "c"}


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path):
    (tmp_path / "marked.txt").write_text("the cat sat\n" * 9, encoding="utf-8-sig")
    for level, first in (("word", "the"), ("character", "t")):
        data = TextData(tmp_path / "marked.txt", level=level, batch_size=2, chunk_length=3)
        assert first in data.vocabulary.tokens
        assert not any("\ufeff" in token for token in data.vocabulary.tokens)


def test_the_vocabulary_knows_nothing_of_the_other_parts(tmp_path):
    train = write(tmp_path / "train.txt", "a b\n" * 10)
    val = write(tmp_path / "val.txt", "a c\n")
    test = write(tmp_path / "test.txt", "d b\n")
    data = TextData(train, val=val, test=test)
    assert data.vocabulary.decode(data.tokens("val")) == ["a", "<unk>", "<eos>"]
    assert data.vocabulary.decode(data.tokens("test")) == ["<unk>", "b", "<eos>"]


def test_every_loader_reads_its_part(tmp_path):
    texts = {"train": "a b c", "val": "a b b", "test": "c b a"}
    files = {split: write(tmp_path / split, f"{text}\n" * 9) for split, text in texts.items()}
    data = TextData(**files, batch_size=1, chunk_length=50)
    loaders = {
        "train": data.train_dataloader(),
        "val": data.val_dataloader(),
        "test": data.test_dataloader(),
    }
    for split, loader in loaders.items():
        ((x, _),) = loader
        assert torch.equal(x[0], data.tokens(split)[:-1])
    ((x, _),) = data.predict_dataloader()
    assert torch.equal(x[0], data.tokens("test")[:-1])


def test_the_files_are_read_once(tmp_path):
    train = write(tmp_path / "train.txt", "a b c\n" * 10)
    data = TextData(train)
    vocabulary = data.vocabulary
    train.unlink()
    assert data.vocabulary is vocabulary
    assert len(data.tokens("train")) == 36


def test_a_networks_sizes_are_the_vocabularys(tmp_path):
    data = TextData(write(tmp_path / "train.txt", "a b c\n" * 10))
    assert data.input_size == data.output_size == len(data.vocabulary) == 5
    assert data.kind == "language"


def test_missing_parts_are_cut_off_the_end(tmp_path):
    text = [f"w{i}" for i in range(199)]
    train = write(tmp_path / "train.txt", " ".join(text))
    data = TextData(train)
    assert [len(data.tokens(split)) for split in ("train", "val", "test")] == [180, 10, 10]
    # What a vocabulary of the training part does not know was not in it.
    assert data.tokens("val").eq(0).all()
    assert data.vocabulary.decode(data.tokens("train")) == text[:180]
    other = TextData(train, test=write(tmp_path / "test.txt", "w0"))
    assert [len(other.tokens(split)) for split in ("train", "val", "test")] == [190, 10, 2]


def test_rare_words_are_unknown(tmp_path):
    train = write(tmp_path / "train.txt", "often often once\n")
    data = TextData(train, val=train, test=train, min_count=2)
    assert data.vocabulary.decode(data.tokens("train")) == ["often", "often", "<unk>", "<unk>"]


class CharacterModel(FrankWolfeMixin, L.LightningModule):
    """Keeps its state from batch to batch, and drops it where an epoch begins."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(size, 8)
        self.rnn = nn.LSTM(8, 32, batch_first=True)
        self.head = nn.Linear(32, size)
        self.state: tuple[torch.Tensor, ...] | None = None
        self.losses: list[float] = []
        self.val_losses: list[float] = []

    def loss(self, batch, batch_idx):
        x, y = batch
        states, state = self.rnn(self.embedding(x), None if batch_idx == 0 else self.state)
        self.state = tuple(part.detach() for part in state)
        return functional.cross_entropy(self.head(states).flatten(0, 1), y.flatten())

    def training_step(self, batch, batch_idx):
        loss = self.loss(batch, batch_idx)
        self.losses.append(loss.item())
        return loss

    def validation_step(self, batch, batch_idx):
        self.val_losses.append(self.loss(batch, batch_idx).item())


def test_a_network_that_keeps_its_state_learns(tmp_path):
    train = write(tmp_path / "train.txt", "hello world\n" * 300)
    data = TextData(train, level="character", batch_size=8, chunk_length=10)
    model = CharacterModel(len(data.vocabulary))
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=3,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, data)
    # 3240 characters, 8 rows of 404, 41 chunks, the last of 4.
    assert len(model.losses) == 3 * 41
    assert model.losses[-1] < 0.5 * model.losses[0]
    assert model.val_losses[-1] < 0.5 * model.val_losses[0]


class Recorder(L.LightningModule):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.seen: list[list[list[int]]] = []

    def training_step(self, batch, batch_idx):
        self.seen.append(batch[0].tolist())
        return self.weight

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def seen_on_a_rank(path, devices, nodes):
    trainer = L.Trainer(
        accelerator="cpu",
        devices=devices,
        num_nodes=nodes,
        strategy="ddp",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    model = Recorder()
    trainer.fit(model, TextData(path, val=path, test=path, batch_size=2, chunk_length=4))
    return model.seen


@pytest.mark.parametrize("layout", [(2, 1), (1, 2)], ids=["one machine", "two machines"])
def test_on_two_ranks_rows_stay_whole(layout, tmp_path):
    words_in_order = " ".join(f"w{i:02}" for i in range(40))
    path = write(tmp_path / "train.txt", words_in_order)
    tokens = TextData(path, val=path, test=path).tokens("train")
    expected = tokens[:40].view(4, 10)
    alone = {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"} if layout == (1, 2) else {}
    ranks = on_ranks(seen_on_a_rank, path, *layout, ranks=2, environ=alone)
    for rank, seen in enumerate(ranks):
        assert [len(rows[0]) for rows in seen] == [4, 4, 2]
        rows = torch.cat([torch.tensor(chunk) for chunk in seen], dim=1)
        assert torch.equal(rows, expected[2 * rank : 2 * rank + 2])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"level": "line"}, "`level` must be one of 'word', 'character', got 'line'"),
        ({"batch_size": 0}, "`batch_size` must be at least 1, got 0"),
        ({"chunk_length": 0}, "`chunk_length` must be at least 1, got 0"),
        ({"min_count": 0}, "`min_count` must be at least 1, got 0"),
    ],
)
def test_a_wrong_setting_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        TextData("text.txt", **settings)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="`train` must be a text file, got .*none.txt, "):
        TextData(tmp_path / "none.txt").train_dataloader()
    train = write(tmp_path / "train.txt", "a b c\n" * 20)
    with pytest.raises(FileNotFoundError, match="`val` must be a text file"):
        TextData(train, val=tmp_path).tokens("train")


def test_a_file_that_is_no_text_is_named(tmp_path):
    path = tmp_path / "train.txt"
    path.write_bytes(b"caf\xe9")
    with pytest.raises(ValueError, match="`train` must be a text file in UTF-8, got .* Convert it"):
        TextData(path).tokens("train")
    with pytest.raises(ValueError, match="`train` must hold text, got .* without any"):
        TextData(write(path, "")).tokens("train")
    with pytest.raises(ValueError, match="at least 20 tokens to cut off `test`, got 3 in"):
        TextData(write(path, "a b")).tokens("train")
    with pytest.raises(ValueError, match="`batch_size` must leave .* got 20 rows for 2 tokens"):
        TextData(write(path, "a b\n" * 14)).val_dataloader()


def test_real_files(shared_data):
    text = shared_data / "text"
    data = TextData(text / "wikitext2-valid.txt", test=text / "wikitext2-test.txt")
    # With <eos> after each line these are Merity's 217,646 and 245,569 tokens.
    assert len(data.tokens("train")) + len(data.tokens("val")) == 217_646
    assert len(data.tokens("test")) == 245_569
    assert 0.04 < data.tokens("train").eq(0).float().mean() < 0.06
    plays = TextData(text / "shakespeare.txt", level="character", batch_size=32, chunk_length=100)
    assert len(plays.vocabulary) == 66
    x, _ = next(iter(plays.train_dataloader()))
    assert "".join(plays.vocabulary.decode(x[0])).startswith("First Citizen:\nBefore we")
