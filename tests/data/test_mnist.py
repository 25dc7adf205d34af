"""MNIST from IDX files: read, split, permuted, downloaded, broken."""

from __future__ import annotations

import gzip
import struct
import sys
from pathlib import Path

import pytest
import torch

from lightning_fw.data import SequentialMNIST, mnist
from lightning_fw.data.idx import read_idx
from tests.data.served import served, sha256


def idx_bytes(array: torch.Tensor) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.to(torch.uint8).numpy().tobytes()


def write_files(root: Path, source: str, count: int, *, zipped: bool = True) -> None:
    generator = torch.Generator().manual_seed(count)
    arrays = {
        f"{source}-images-idx3-ubyte": torch.randint(256, (count, 28, 28), generator=generator),
        f"{source}-labels-idx1-ubyte": torch.randint(10, (count,), generator=generator),
    }
    root.mkdir(exist_ok=True)
    for name, array in arrays.items():
        content = idx_bytes(array)
        if zipped:
            (root / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (root / name).write_bytes(content)


def sizes(data):
    return [len(data.split(split)) for split in ("train", "val", "test")]


@pytest.mark.parametrize("zipped", [True, False])
def test_the_test_files_alone_are_split(tmp_path, zipped):
    write_files(tmp_path, "t10k", 2100, zipped=zipped)
    data = SequentialMNIST(tmp_path)
    assert sizes(data) == [100, 1000, 1000]
    images = torch.cat([data.split(s).tensors[0].flatten(1) for s in ("train", "val", "test")])
    assert len(images.unique(dim=0)) == 2100


def test_with_the_training_files_the_test_files_test(tmp_path):
    write_files(tmp_path, "t10k", 30)
    write_files(tmp_path, "train", 5100)
    data = SequentialMNIST(tmp_path)
    assert sizes(data) == [100, 5000, 30]
    expected = read_idx(tmp_path / "t10k-images-idx3-ubyte.gz", 3)
    assert torch.equal((data.split("test").tensors[0] * 255).round().byte(), expected)


def test_rows_pixels_and_permuted_pixels_are_the_same_values(tmp_path):
    write_files(tmp_path, "t10k", 2010)
    rows, pixels, permuted = (
        SequentialMNIST(tmp_path, by=by).split("train").tensors[0]
        for by in ("row", "pixel", "permuted")
    )
    assert rows.shape == (10, 28, 28) and pixels.shape == permuted.shape == (10, 784, 1)
    assert torch.equal(rows.reshape(10, 784, 1), pixels)
    assert not torch.equal(pixels, permuted)
    assert torch.equal(pixels.sort(1).values, permuted.sort(1).values)
    order = torch.randperm(784, generator=torch.Generator().manual_seed(92_916))
    for seed in (0, 1):
        again = SequentialMNIST(tmp_path, by="permuted", seed=seed).split("train").tensors[0]
        assert torch.equal(again, pixels[:, order])


def test_padded_rows_are_the_rows_then_noise(tmp_path):
    write_files(tmp_path, "t10k", 2010)
    rows = SequentialMNIST(tmp_path, by="row").split("train").tensors
    data = SequentialMNIST(tmp_path, by="padded", batch_size=10)
    assert data.input_size == 28
    padded, labels = data.split("train").tensors
    assert padded.shape == (10, 1000, 28) and padded.dtype == torch.float32
    assert torch.equal(padded[:, :28], rows[0]) and torch.equal(labels, rows[1])
    noise = padded[:, 28:]
    assert noise.mean().abs() < 0.01 and (noise.std() - 1).abs() < 0.01
    assert not torch.equal(noise[0], noise[1])


def test_added_noise_is_drawn_anew_in_training_alone(tmp_path):
    write_files(tmp_path, "t10k", 2010)
    for split in ("train", "val", "test"):
        clean = SequentialMNIST(tmp_path).split(split).tensors[0]
        noisy = SequentialMNIST(tmp_path, noise=0.5).split(split)
        first, second = noisy.tensors[0] - clean, noisy.tensors[0] - clean
        assert (first.std() - 0.5).abs() < 0.03 and first.mean().abs() < 0.03
        assert torch.equal(first, second) == (split != "train")
    padded = SequentialMNIST(tmp_path, by="padded", noise=0.5).split("val")[0][0]
    assert padded.shape == (1000, 28)
    assert not torch.equal(padded[:28], SequentialMNIST(tmp_path).split("val")[0][0])
    assert (padded[28:].std() - 1).abs() < 0.03
    with pytest.raises(ValueError, match="`noise` must be a standard deviation, got -1"):
        SequentialMNIST(tmp_path, noise=-1)


def test_an_image_keeps_its_noise_and_another_seed_has_another(tmp_path):
    write_files(tmp_path, "t10k", 2010)

    def image(seed, split="train"):
        return SequentialMNIST(tmp_path, by="padded", seed=seed).split(split)[3][0]

    loader = SequentialMNIST(tmp_path, by="padded", batch_size=10).train_dataloader()
    first, second = (next(iter(loader))[0].sum((1, 2)) for _ in range(2))
    torch.testing.assert_close(first.sort().values, second.sort().values)
    assert torch.equal(image(0), image(0))
    noises = [image(0)[28:], image(1)[28:], image(0, "val")[28:], image(0, "test")[28:]]
    assert len(torch.stack(noises).flatten(1).unique(dim=0)) == 4


def test_real_files(shared_data):
    data = SequentialMNIST(shared_data / "mnist")
    assert sizes(data) == [8000, 1000, 1000]
    x, y = data.split("train").tensors
    assert y.bincount().min() > 600
    assert 0.12 < x.mean().item() < 0.14


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda content: content[:100], "84 bytes of data where the header tells of 7840"),
        (lambda content: content[:7], "7 bytes, less than the header's 16"),
        (lambda content: content[:15], "15 bytes, less than the header's 16"),
        (lambda content: content + b"x", "7841 bytes of data where the header tells of 7840"),
        (lambda content: b"\0\0\x0d\3" + content[4:], "begins with 00000d03 instead of 00000803"),
        (lambda content: b"\0\0\x08\1" + content[4:], "begins with 00000801 instead of 00000803"),
        (lambda content: b"\1\0\x08\3" + content[4:], "begins with 01000803 instead of 00000803"),
        (
            lambda content: content[:4] + bytes(4) + content[8:16],
            r"no data, of shape \(0, 28",
        ),
        (lambda content: gzip.compress(content)[:50], "its gzip stream is broken"),
        (lambda content: gzip.compress(content)[:-8] + bytes(8), "its gzip stream is broken"),
        (
            lambda content: gzip.compress(content)[:20] + b"junk" + gzip.compress(content)[24:],
            "its gzip stream is broken",
        ),
    ],
)
def test_a_broken_file_is_named(tmp_path, broken, message):
    path = tmp_path / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(broken(idx_bytes(torch.zeros(10, 28, 28))))
    with pytest.raises(ValueError, match=f"{path.name}: .*{message}.*Delete it and get it again"):
        read_idx(path, 3)


def test_labels_are_digits(tmp_path):
    write_files(tmp_path, "t10k", 12)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(idx_bytes(torch.full((12,), 10)))
    with pytest.raises(ValueError, match="`root` must hold labels from 0 to 9, got 10 in"):
        SequentialMNIST(tmp_path).split("test")


def test_images_and_labels_must_match(tmp_path):
    write_files(tmp_path, "t10k", 12)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(idx_bytes(torch.zeros(11)))
    with pytest.raises(ValueError, match=r"got images \(12, 28, 28\) and 11 labels in"):
        SequentialMNIST(tmp_path).split("train")


@pytest.mark.parametrize(("source", "held_out"), [("t10k", 2000), ("train", 5000)])
def test_held_out_images_leave_some_to_train_on(tmp_path, source, held_out):
    write_files(tmp_path, source, held_out)
    message = f"`root` must hold more than {held_out} images to split, got {held_out} in"
    with pytest.raises(ValueError, match=message):
        SequentialMNIST(tmp_path).split("train")


def test_images_are_of_28_rows_and_columns(tmp_path):
    write_files(tmp_path, "t10k", 12)
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(idx_bytes(torch.zeros(12, 14, 28)))
    with pytest.raises(ValueError, match=r"images of 28 x 28 .* got images \(12, 14, 28\) and 12"):
        SequentialMNIST(tmp_path).split("train")


def test_missing_files_say_how_to_get_them(tmp_path):
    with pytest.raises(
        FileNotFoundError,
        match=r"`root` must hold t10k-images.*SequentialMNIST\(.*download=True\)",
    ):
        SequentialMNIST(tmp_path).split("train")


def test_training_images_without_labels_are_no_reason_to_train_on_the_test_files(tmp_path):
    write_files(tmp_path, "t10k", 2010)
    write_files(tmp_path, "train", 5010)
    (tmp_path / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(FileNotFoundError, match="`root` must hold train-labels-idx1-ubyte.gz"):
        SequentialMNIST(tmp_path).split("train")


def test_an_unknown_reading_is_named(tmp_path):
    with pytest.raises(ValueError, match="`by` must be one of 'row', .*'padded', got 'x'"):
        SequentialMNIST(tmp_path, by="x")


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A local server of small files, whose checksums stand in for the published ones."""
    source = tmp_path / "server"
    write_files(source, "t10k", 2010)
    write_files(source, "train", 5010)
    checksums = {name: sha256(source / name) for name in mnist._SHA256}
    monkeypatch.setattr(mnist, "_SHA256", checksums)
    with served(source) as url:
        yield url, source


def test_missing_files_are_downloaded_once(tmp_path, server):
    url, source = server
    data = SequentialMNIST(tmp_path / "mnist", download=True, base_url=f"{url}/")
    data.prepare_data()
    assert sizes(data) == [10, 5000, 2010]
    for file in source.iterdir():
        file.unlink()
    data.prepare_data()


def test_files_that_are_there_unzipped_are_not_fetched(tmp_path):
    for source in ("t10k", "train"):
        write_files(tmp_path, source, 12, zipped=False)
    SequentialMNIST(tmp_path, download=True, base_url="http://127.0.0.1:1").prepare_data()
    assert len(list(tmp_path.iterdir())) == 4


def test_a_download_with_another_checksum_is_refused(tmp_path, server):
    url, source = server
    (source / "t10k-labels-idx1-ubyte.gz").write_bytes(b"tampered")
    data = SequentialMNIST(tmp_path / "mnist", download=True, base_url=url)
    with pytest.raises(ValueError, match="hash of downloaded file .* does not match"):
        data.prepare_data()
    assert not (tmp_path / "mnist" / "t10k-labels-idx1-ubyte.gz").exists()


def test_without_pooch_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'lightning-fw\[data\]'"):
        SequentialMNIST(tmp_path, download=True).prepare_data()


def test_without_download_nothing_is_fetched(tmp_path):
    SequentialMNIST(tmp_path, base_url="http://127.0.0.1:1").prepare_data()
    assert list(tmp_path.iterdir()) == []
