"""HAR-2 from files in the form of UCI's: read, grouped, split by people, scaled, made noisy."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch

from lightning_fw.data import HAR2

SIGNALS = [f"{name}_{axis}" for name in ("body_acc", "body_gyro", "total_acc") for axis in "xyz"]
SUBJECTS = {"train": [1, 3, 27, 28, 29, 30, 1, 28], "test": [2, 4, 9]}
LABELS = {"train": [1, 2, 3, 4, 5, 6, 6, 1], "test": [5, 6, 2]}


def row(values):
    """As UCI's files have it: padded, with exponents of three digits."""
    return "".join(f" {value: .7e}".replace("e+", "e+0").replace("e-", "e-0") for value in values)


@pytest.fixture
def root(tmp_path):
    generator = torch.Generator().manual_seed(0)
    for source, subjects in SUBJECTS.items():
        (tmp_path / source / "Inertial Signals").mkdir(parents=True)
        for place, signal in enumerate(SIGNALS):
            windows = torch.randn(len(subjects), 128, generator=generator) * 0.4 + place
            text = "\n".join(map(row, windows.tolist())) + "\n"
            (tmp_path / source / "Inertial Signals" / f"{signal}_{source}.txt").write_text(text)
        for name, numbers in (("subject", subjects), ("y", LABELS[source])):
            text = "".join(f"{number}\n" for number in numbers)
            (tmp_path / source / f"{name}_{source}.txt").write_text(text)
    return tmp_path


def test_activities_make_two_groups_and_people_the_splits(root):
    data = HAR2(root)
    labels = {split: data.split(split).tensors[1].tolist() for split in ("train", "val", "test")}
    # walking up, sitting and laying (2, 4, 6) are 0; walking, walking down and standing are 1.
    assert labels == {"train": [1, 0, 1, 0], "val": [0, 1, 0, 1], "test": [1, 0, 0]}
    x, y = next(iter(data.train_dataloader()))
    assert x.shape == (4, 128, 9) and x.dtype == torch.float32 and y.dtype == torch.int64


def test_two_numbers_scale_all_splits(root):
    raw, scaled = HAR2(root), HAR2(root)
    test = scaled.split("test").tensors[0]
    train = scaled.split("train").tensors[0]
    assert train.mean().item() == pytest.approx(0, abs=1e-5)
    assert train.std(correction=0).item() == pytest.approx(1, abs=1e-5)
    recorded = raw.read_split("train")[0].double()
    expected = (raw.read_split("test")[0] - recorded.mean()) / recorded.std(correction=0)
    torch.testing.assert_close(test, expected.float())
    # Channels keep their places: the k-th has the mean k.
    means = recorded.mean((0, 1))
    torch.testing.assert_close(means, torch.arange(9.0, dtype=torch.float64), atol=0.1, rtol=0)


def test_noise_is_added_anew_in_training_and_stays_elsewhere(root):
    clean, noisy = HAR2(root), HAR2(root, noise=2.0)
    firsts = []
    for split in ("train", "val", "test"):
        readings = [noisy.split(split).tensors[0] for _ in range(2)]
        assert torch.equal(*readings) == (split != "train")
        for reading in readings:
            added = reading - clean.split(split).tensors[0]
            assert added.mean().item() == pytest.approx(0, abs=0.15)
            assert added.std().item() == pytest.approx(2, abs=0.15)
        firsts.append(added[0])
    assert all(not torch.allclose(a, b, atol=0.1) for a, b in combinations(firsts, 2))
    again = HAR2(root, noise=2.0, seed=1).split("test").tensors[0]
    assert not torch.equal(again, readings[0])


@pytest.mark.parametrize(
    ("noise", "error", "message"),
    [
        (-1.0, ValueError, "`noise` must be a standard deviation, got -1.0. Pass a finite noise"),
        (float("nan"), ValueError, "`noise` must be a standard deviation, got nan"),
        (float("inf"), ValueError, "`noise` must be a standard deviation, got inf"),
        ("2", TypeError, "`noise` must be a number, got '2'"),
    ],
)
def test_a_wrong_noise_is_named(tmp_path, noise, error, message):
    with pytest.raises(error, match=message):
        HAR2(tmp_path, noise=noise)


def test_missing_files_say_where_to_get_them(root):
    (root / "test" / "Inertial Signals" / "total_acc_z_test.txt").unlink()
    with pytest.raises(
        FileNotFoundError, match="`root` must hold .*total_acc_z_test.txt.*archive.ics.uci.edu.*240"
    ):
        HAR2(root).split("test")


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("y_train.txt", "1\n2\n", r"`root` must hold as many labels.* got \[8, .*, 2, 8\]"),
        ("y_train.txt", "0\n" * 8, "`root` must hold labels from 1 to 6, got 0 to 0"),
        ("y_train.txt", "7\n" * 8, "`root` must hold labels from 1 to 6, got 7 to 7"),
        ("subject_train.txt", "1\n" * 8, r"`root` must hold people \(28, 29, 30\).* got \[1\]"),
        ("y_train.txt", "", "`path` must be a whole table of numbers, got .*: no line"),
        ("y_train.txt", "1\none\n", "could not convert string to float: 'one' in line 2"),
        ("y_train.txt", "1\n1 2\n", "2 instead of 1 numbers in line 2. Delete it and get it"),
        ("y_train.txt", "1\n\u00e9\n", "could not convert string to float: .* in line 2"),
        ("y_train.txt", "nan\n", "a number that is not finite"),
        ("y_train.txt", "inf\n", "a number that is not finite"),
    ],
)
def test_a_broken_file_is_named(root, file, text, message):
    (root / "train" / file).write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        HAR2(root).split("val")


def test_constant_recordings_are_refused(root):
    for signal in SIGNALS:
        path = root / "train" / "Inertial Signals" / f"{signal}_train.txt"
        path.write_text((row([1.0] * 128) + "\n") * 8)
    with pytest.raises(ValueError, match="`root` must hold recordings that vary, got constant"):
        HAR2(root).split("test")


def test_real_files(shared_data):
    root = shared_data / "UCI HAR Dataset"
    if not root.is_dir():
        pytest.skip("needs UCI HAR Dataset in ../shared/data")
    data = HAR2(root)
    sizes = [len(data.split(split)) for split in ("train", "val", "test")]
    assert sum(sizes[:2]) == 7352 and sizes[2] == 2947
    recorded = torch.cat([data.read_split(split)[0] for split in ("train", "val")])
    # The authors' released code scales by 0.102 and 0.402.
    assert recorded.mean().item() == pytest.approx(0.102, abs=0.01)
    assert recorded.std().item() == pytest.approx(0.402, abs=0.01)
