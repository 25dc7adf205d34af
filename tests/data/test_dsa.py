"""DSA-19 from files in the form of UCI's: 125 rows of 45 numbers with commas, split by people."""

from __future__ import annotations

import pytest
import torch

from lightning_fw.data import DSA19, dsa


def write(root, activity, subject, segment, rows=125):
    """A segment that tells by its numbers whose it is, and which channel is which."""
    path = root / f"a{activity:02}" / f"p{subject}" / f"s{segment:02}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    numbers = [activity + subject / 10 + segment / 100 + channel for channel in range(45)]
    path.write_text("".join(",".join(f"{n:.4f}" for n in numbers) + "\n" for _ in range(rows)))


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(dsa, "_SEGMENTS", 2)
    for activity in range(1, 20):
        for subject in range(1, 9):
            for segment in (1, 2):
                write(tmp_path, activity, subject, segment)
    return tmp_path


def test_people_make_the_splits(root):
    data = DSA19(root)
    for split, subjects in (("train", (1, 3, 5)), ("val", (7,)), ("test", (2, 4, 6, 8))):
        sequences, targets = data.read_split(split)
        assert sequences.shape == (19 * len(subjects) * 2, 125, 45)
        assert targets.bincount().tolist() == [2 * len(subjects)] * 19
        expected = [a + p / 10 + s / 100 for a in range(1, 20) for p in subjects for s in (1, 2)]
        torch.testing.assert_close(sequences[:, 0, 0], torch.tensor(expected))
        torch.testing.assert_close(sequences[0, 0] - sequences[0, 0, 0], torch.arange(45.0))


def test_two_numbers_scale_all_splits(root):
    data = DSA19(root)
    val, (train, labels) = data.split("val").tensors[0], data.split("train").tensors
    assert train.mean().item() == pytest.approx(0, abs=1e-4)
    assert train.std(correction=0).item() == pytest.approx(1, abs=1e-4)
    recorded = data.read_split("train")[0].double()
    expected = (data.read_split("val")[0] - recorded.mean()) / recorded.std(correction=0)
    torch.testing.assert_close(val, expected.float())
    assert labels.dtype == torch.int64
    x, _ = next(iter(data.train_dataloader()))
    assert x.shape == (114, 125, 45)


def test_a_missing_file_says_where_to_get_it(root):
    (root / "a03" / "p7" / "s02.txt").unlink()
    with pytest.raises(FileNotFoundError, match="must hold a03.p7.s02.txt, .*uci.edu/dataset/256"):
        DSA19(root).split("val")


def test_there_are_sixty_segments_of_each_activity_and_person(tmp_path):
    for segment in range(1, 60):
        write(tmp_path, 1, 7, segment)
    with pytest.raises(FileNotFoundError, match="must hold a01.p7.s60.txt"):
        DSA19(tmp_path).split("val")


def test_a_broken_segment_is_named(root):
    for rows in (124, 126):
        write(root, 1, 7, 1, rows=rows)
        with pytest.raises(ValueError, match=f"segments of 125 steps, got {rows} in .*s01.txt"):
            DSA19(root).split("val")
    (root / "a01" / "p7" / "s01.txt").write_text("1,2,3\n")
    with pytest.raises(ValueError, match="s01.txt: 3 instead of 45 numbers in line 1"):
        DSA19(root).split("val")


def test_real_files(shared_data):
    root = shared_data / "dsa" / "data"
    if not root.is_dir():
        pytest.skip("needs dsa/data in ../shared/data")
    data = DSA19(root)
    assert [len(data.split(split)) for split in ("train", "val", "test")] == [3420, 1140, 4560]
