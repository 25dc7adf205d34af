"""What a network is measured on: every sequence once, and a text from many places."""

from __future__ import annotations

import pytest
import torch

from lightning_fw.data import TextData
from lightning_fw.race.judge import judged_on, mean_metric


def text_of(size, path):
    """A text of so many characters, none of which tells its place alone."""
    path.write_text("".join(chr(ord("a") + i * i % 17) for i in range(size)))
    other = path.with_name("other.txt")
    other.write_text("none of it")
    return TextData(path, val=path, test=other, level="character")


class MeanOfInputs:
    """Stands where a model does, whose metric is known."""

    device = torch.device("cpu")

    def metric(self, batch):
        x, y = batch
        assert len(x) == len(y)
        return float(x.mean())


def test_every_sequence_counts_as_much_in_a_short_last_batch():
    batches = [(x, torch.zeros(len(x))) for x in torch.tensor([1.0, 2.0, 3.0, 6.0]).split(3)]
    assert mean_metric(MeanOfInputs(), batches) == 3.0


@pytest.mark.parametrize(("size", "columns"), [(32 * 600 + 1, 600), (33, 1)])
def test_a_text_is_judged_by_the_first_tokens_from_32_places(size, columns, tmp_path):
    data = text_of(size, tmp_path / "text.txt")
    x, y = (torch.cat(part) for part in zip(*judged_on(data, "val"), strict=True))
    tokens = data.tokens("val")
    assert torch.equal(x, tokens[:-1].view(32, columns)[:, :500])
    assert torch.equal(y, tokens[1:].view(32, columns)[:, :500])


def test_a_text_too_short_for_its_places_is_named(tmp_path):
    data = text_of(32, tmp_path / "text.txt")
    with pytest.raises(ValueError, match="more than 32 tokens in each part, got 32 in .* val"):
        judged_on(data, "val")
