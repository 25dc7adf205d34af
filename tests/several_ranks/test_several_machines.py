"""Jobs started as on several machines, on the loopback interface, and what a lost rank leaves.

A job takes seconds to start, so that each is started once, and one test looks at all sides of it.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from tests.ranks import Ended, free_port, on_ranks, run_together
from tests.several_ranks import job

SCRIPT = "tests.several_ranks.job"


class Job(NamedTuple):
    """A job that is over: what it left, and how its machines' commands ended."""

    start: Callable[[int, int, Path], list[Ended]]
    folder: Path
    ranks: int
    ends: list[Ended]


def by_torchrun(nodes: int, devices: int, folder: Path) -> list[Ended]:
    port = str(free_port())
    torchrun = [sys.executable, "-m", "torch.distributed.run"]
    where = ["--nnodes", str(nodes), "--nproc-per-node", str(devices)]
    meet = ["--master-addr", "127.0.0.1", "--master-port", port]
    what = ["-m", SCRIPT, str(folder), str(nodes), str(devices)]
    commands = [[*torchrun, *where, "--node-rank", str(n), *meet, *what] for n in range(nodes)]
    return run_together(commands, limit=100, grace=60, check=False)


def by_lightning(nodes: int, devices: int, folder: Path) -> list[Ended]:
    meet = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    command = [sys.executable, "-m", SCRIPT, str(folder), str(nodes), str(devices)]
    environments = [{**meet, "NODE_RANK": str(node)} for node in range(nodes)]
    return run_together([command] * nodes, environments, limit=100, grace=60, check=False)


def slow(*layout):
    return pytest.param(*layout, marks=pytest.mark.slow)


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks used to create")
@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch")
@pytest.mark.parametrize(
    ("start", "nodes", "devices"),
    [
        (by_torchrun, 2, 1),
        slow(by_lightning, 2, 1),
        (by_lightning, 1, 2),
        slow(by_torchrun, 2, 2),
        slow(by_lightning, 2, 2),
    ],
)
def test_a_job_trains_as_on_one_machine_and_goes_on_without_a_rank(start, nodes, devices, tmp_path):
    done = Job(start, tmp_path, nodes * devices, start(nodes, devices, tmp_path))
    for sync in job.SYNCS:
        assert_the_weights_of_one_machine(done, sync)
    assert_an_end_with_a_reason(done)
    assert_a_whole_checkpoint(done)
    for ranks in (1, 2, 3):
        assert_it_goes_on(done, ranks)


def printed(done: Job) -> str:
    return "\n".join(end.output for end in done.ends)


def assert_the_weights_of_one_machine(done: Job, sync: str) -> None:
    files = [done.folder / f"{sync}-{rank}.pt" for rank in range(done.ranks)]
    assert all(file.exists() for file in files), printed(done)
    first, *others = map(torch.load, files)
    assert all(torch.equal(first, other) for other in others)
    expected = on_ranks(job.undisturbed, sync, 1, done.ranks, ranks=done.ranks)[0]
    torch.testing.assert_close(first, expected, rtol=1e-9, atol=1e-12)


def assert_an_end_with_a_reason(done: Job) -> None:
    """On the others the next message fails at once; torchrun tells who was lost, and how."""
    assert all(end.code != 0 for end in done.ends), printed(done)
    assert re.search("Connection (reset|closed) by peer", printed(done)), printed(done)
    if done.start is by_torchrun:
        lost = rf"rank +: {done.ranks - 1} .*\n.*exitcode +: -9 .*\n.*\n.*: Signal 9 \(SIGKILL\)"
        assert re.search(lost, printed(done)), printed(done)


def assert_a_whole_checkpoint(done: Job) -> None:
    """It holds the weights of the last restart before the rank was lost."""
    saved = torch.load(done.folder / "last.ckpt", weights_only=True)
    assert saved["global_step"] == job.STEPS_BEFORE
    weights = torch.nn.utils.parameters_to_vector(saved["state_dict"].values())
    there = on_ranks(until_the_last_restart, done.ranks, ranks=done.ranks)[0]
    torch.testing.assert_close(weights, there, rtol=1e-9, atol=1e-12)


def until_the_last_restart(ranks: int) -> torch.Tensor:
    return job.undisturbed("restart", 1, ranks, max_steps=job.STEPS_BEFORE)


def assert_it_goes_on(done: Job, ranks: int) -> None:
    told = on_ranks(job.resumed, done.folder / "last.ckpt", "restart", ranks, ranks=ranks)
    steps, weights = told[0]
    assert steps > job.STEPS_BEFORE
    assert weights.isfinite().all()
    assert all(torch.equal(weights, other) and steps == its for its, other in told)


@pytest.mark.slow
def test_torchrun_starts_a_job_again_that_goes_on_from_its_last_checkpoint(tmp_path):
    """Ranks must meet in a new store: an old one has the addresses of ranks that are no more."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--max-restarts", "1"]
    meet = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{free_port()}"]
    command = [*torchrun, *meet, "--nproc-per-node", "2", "-m", SCRIPT, str(tmp_path), "1", "2"]
    a_new_store = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    (end,) = run_together([command], [a_new_store], limit=100)
    assert "(exitcode: -9)" in end.output
    (steps, first), (its, second) = (torch.load(tmp_path / f"again-{r}.pt") for r in range(2))
    assert steps == its == 6
    assert torch.equal(first, second)
    assert first.isfinite().all()


def under_slurm(sync: str, devices: int) -> torch.Tensor:
    """With what srun tells a task, one on each of two machines."""
    rank = os.environ["RANK"]
    del os.environ["TORCHELASTIC_RUN_ID"]
    job_of_two = {"JOB_ID": "4242", "JOB_NAME": "train", "NNODES": "2", "NODELIST": "127.0.0.1"}
    tasks = {"NTASKS": "2", "NTASKS_PER_NODE": "1"}
    mine = {"PROCID": rank, "NODEID": rank, "LOCALID": "0"}
    told = {**job_of_two, **tasks, **mine}
    os.environ.update({f"SLURM_{name}": value for name, value in told.items()})
    return job.undisturbed(sync, 2, devices)


@pytest.mark.parametrize("sync", job.SYNCS)
def test_tasks_of_srun_train_as_on_one_machine(sync):
    first, second = on_ranks(under_slurm, sync, 1)
    assert torch.equal(first, second)
    expected = on_ranks(job.undisturbed, sync, 1, 2)[0]
    torch.testing.assert_close(first, expected, rtol=1e-9, atol=1e-12)


def test_srun_wants_a_task_for_each_device():
    with pytest.raises(AssertionError, match="number of tasks per node configured in SLURM"):
        on_ranks(under_slurm, "restart", 2)
