"""What is built for others, and that it works away from the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

pytest.importorskip("hatchling", reason="needs the extra `dev`")

ROOT = Path(__file__).parents[1]
CORE = {"lightning", "rich", "torch", "torchmetrics"}
NOT_CODE = {"py.typed", "tuned.csv"}


def run(*command, cwd, **environment):
    return subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        # Not the -P of Python 3.11: 3.10 lacks it.
        env={**os.environ, "PYTHONSAFEPATH": "1", **environment},
        capture_output=True,
        text=True,
        timeout=110,
        check=True,
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The sdist, and the wheel that is built of it."""
    directory = tmp_path_factory.mktemp("dist")
    run("-m", "hatchling", "build", "--target", "sdist", "--directory", str(directory), cwd=ROOT)
    (sdist,) = directory.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(directory, filter="data")
    (unpacked,) = (path for path in directory.iterdir() if path.is_dir())
    build = ("-m", "hatchling", "build", "--target", "wheel", "--directory", str(directory))
    run(*build, cwd=unpacked)
    (wheel,) = directory.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """A directory that holds the wheel's files alone; its dependencies are this environment's."""
    directory = tmp_path_factory.mktemp("installed")
    install = ("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target")
    run(*install, str(directory), str(built[1]), cwd=directory)
    return directory


def metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return message_from_string(archive.read(name).decode())


def test_the_wheel_holds_the_package_and_nothing_else(built):
    with zipfile.ZipFile(built[1]) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "lightning_fw").rglob("*")
        if path.suffix == ".py" or path.name in NOT_CODE
    }
    assert names == expected
    assert "lightning_fw/py.typed" in names


def test_the_wheel_asks_for_the_four_core_dependencies(built):
    asked = [line for line in metadata(built[1]).get_all("Requires-Dist") if "extra ==" not in line]
    assert {line.split(">")[0] for line in asked} == CORE
    assert not any("==" in line for line in asked), "users' bounds stay open"


def test_the_sdist_holds_what_its_tests_and_pages_need(built):
    with tarfile.open(built[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = ("Makefile", "LICENSE", "CITATION.cff", "constraints.txt", "pyproject.toml")
    assert set(wanted) <= names
    for folder in ("tests", "examples", "docs"):
        assert any(name.startswith(f"{folder}/") for name in names)
    assert not any("_build" in name or "__pycache__" in name for name in names)


# One process, which takes seconds to start, looks at all that is installed.
AFTER = """
assert trainer.global_step == 2

import runpy
import sys

from lightning_fw.race.entrants import shipped

assert len(shipped()) > 10
sys.argv = ["lightning-fw", "tasks"]
runpy.run_path({command!r}, run_name="__main__")
"""


def test_an_installed_wheel_trains_and_has_its_data_and_command(installed, tmp_path):
    quickstart = (ROOT / "examples" / "quickstart.py").read_text()
    told = "limit_train_batches=300"
    fit, _, _ = quickstart.replace(told, "limit_train_batches=4").partition("\nlast = ")
    assert told in quickstart and fit.endswith("trainer.fit(Adder(), AddingProblem(50))\n")
    (tmp_path / "mine.py").write_text(
        f"import lightning_fw\nassert lightning_fw.__file__.startswith({str(installed)!r})\n"
        + fit
        + AFTER.format(command=str(installed / "bin" / "lightning-fw"))
    )
    done = run("mine.py", cwd=tmp_path, PYTHONPATH=str(installed), OMP_NUM_THREADS="1")
    assert "digits-pixel" in done.stdout
