"""The tests' own launcher: ranks find each other, failures are told, and nothing is left behind."""

from __future__ import annotations

import operator
import os
import sys
import time

import lightning as L
import psutil
import pytest
import torch

from lightning_fw import InnerLoop
from tests.mixin.conftest import Recurrent, make_loader
from tests.ranks import on_ranks, run_script, run_together


def summed(number: float) -> tuple[int, float]:
    torch.distributed.init_process_group("gloo")
    tensor = torch.tensor(number * (1 + torch.distributed.get_rank()))
    torch.distributed.all_reduce(tensor)
    return torch.distributed.get_rank(), float(tensor)


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_find_each_other(ranks):
    assert on_ranks(summed, 0.5, ranks=ranks) == [
        (r, 0.25 * ranks * (ranks + 1)) for r in range(ranks)
    ]


def test_a_script_sees_the_environment_of_torchrun(tmp_path):
    script = tmp_path / "told.py"
    script.write_text(
        "import os, sys\n"
        "import tests.ranks\n"
        "print(sys.argv[1], os.environ['RANK'], os.environ['WORLD_SIZE'])\n"
    )
    ends = run_script(script, "argument", ranks=2)
    assert [end.output.split() for end in ends] == [["argument", str(r), "2"] for r in range(2)]


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_each_rank_has_arguments_of_its_own(start):
    """Pickled as multiprocessing does it, they would be one tensor in shared memory."""
    assert on_ranks(operator.iadd, torch.zeros(()), 1.0, start=start) == [1.0, 1.0]


def fail_on_the_last() -> None:
    if os.environ["RANK"] == "1":
        raise RuntimeError("no such luck")
    time.sleep(60)


def test_the_failure_of_a_rank_ends_the_others_and_is_told():
    start = time.monotonic()
    with pytest.raises(AssertionError, match="(?s)status -9.*status 1.*no such luck"):
        on_ranks(fail_on_the_last)
    assert time.monotonic() - start < 30


def test_what_takes_too_long_is_killed_with_all_that_it_started(tmp_path):
    """Also a grandchild in a session of its own, as torchrun starts its ranks."""
    noted = tmp_path / "pid"
    grandchild = (
        f"import os, time; open({str(noted)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    )
    script = (
        "import subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, '-c', {grandchild!r}], start_new_session=True)\n"
        "print('started', flush=True); time.sleep(60)"
    )
    with pytest.raises(AssertionError, match="(?s)not done after 2.0 s.*started"):
        run_together([[sys.executable, "-c", script]], limit=2.0)
    pid = int(noted.read_text())
    for _ in range(100):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return
        time.sleep(0.02)
    pytest.fail("the grandchild still runs")


def fit(folder) -> tuple[str, float]:
    trainer = L.Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        max_epochs=1,
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    module = Recurrent(InnerLoop(steps=3))
    trainer.fit(module, make_loader())
    return type(trainer.strategy.cluster_environment).__name__, float(module.weights().sum())


def test_lightning_takes_them_for_ranks_of_torchrun(tmp_path):
    first, second = on_ranks(fit, tmp_path)
    assert first == second
    assert first[0] == "TorchElasticEnvironment"
