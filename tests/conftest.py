"""What all tests share."""

from __future__ import annotations

import functools
import gc
import sys
from pathlib import Path

import pytest
from hypothesis import settings

_SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

# How long an example takes is the machine's, as in all tests.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """What imports leave lives to the end: Python need not search it for garbage, 0.3 s a time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(autouse=True, scope="session")
def packages_are_asked_once():
    """Every Trainer reads what all packages offer it, three quarters of the time that it takes."""
    registry = sys.modules.get("lightning.fabric.utilities.registry")
    with pytest.MonkeyPatch.context() as patch:
        if registry is not None:
            patch.setattr(registry, "entry_points", functools.cache(registry.entry_points))
        yield


@pytest.fixture(autouse=True)
def one_thread_and_a_seed():
    # Not above: xdist's own process, which runs no test, reads this file before workers start.
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture
def shared_data() -> Path:
    """Real data sets that stand beside the checkout of a developer, not of a user."""
    if not _SHARED_DATA.is_dir():
        pytest.skip("needs ../shared/data, which stands beside a developer's checkout alone")
    return _SHARED_DATA


@pytest.fixture
def run_here(tmp_path, monkeypatch, capfd):
    """The command in this process, which starts sooner: its exit status and what it said."""
    monkeypatch.chdir(tmp_path)
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        monkeypatch.setenv(name, "0")  # what seed_everything sets goes with the test
    # Lightning 2.6.6 uses what jsonargparse 4.53 has deprecated.
    monkeypatch.setenv("JSONARGPARSE_DEPRECATION_WARNINGS", "off")

    from lightning_fw.cli import main

    def start(*arguments):
        monkeypatch.setattr(sys, "argv", ["lightning-fw", *arguments])
        try:
            status = main()
        except SystemExit as exit_:
            status = exit_.code
        told = capfd.readouterr()
        start.out = told.out
        return status, told.out + told.err

    return start
