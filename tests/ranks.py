"""Several ranks as separate processes, started as torchrun starts them, with nothing left behind.

A function on two ranks, forked (no import to wait for, about 0.1 s), its results by rank:

    losses = on_ranks(train, settings, ranks=2)

    def train(settings):  # a function of a module, or any function with start="fork"
        trainer = L.Trainer(accelerator="cpu", devices=2, strategy=ModelParallelStrategy(...))
        ...
        return float(loss)  # anything that can be pickled

A script on two ranks, in interpreters of their own (3 s to import Lightning):

    first, second = run_script("train.py", "--epochs", "2", ranks=2)
    assert "epoch 2" in first.output

Any commands side by side, such as torchrun on two machines:

    port = free_port()
    run_together([["torchrun", "--node-rank", str(rank), ...] for rank in range(2)])

The first two set the environment of torchrun, so that Lightning launches nothing itself
(`TorchElasticEnvironment`): `devices` is the number of ranks, any strategy goes. All three raise
AssertionError with everything printed if a rank fails or the time is up, and in any case kill what
they started and what that started. On a GPU pass `start="spawn"`: CUDA does not survive a fork.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

_ROOT = Path(__file__).resolve().parents[1]
_MARK = "LIGHTNING_FW_TEST_RUN"
# What the others get to end by themselves once one has failed; they mostly wait for it in vain.
_GRACE = 2.0
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Ended:
    """A process that is no more: its exit status, below 0 the signal's, and all it printed."""

    code: int
    output: str


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def torchrun_environments(ranks: int) -> list[dict[str, str]]:
    """What torchrun on one machine tells each of its ranks."""
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": str(ranks),
        "LOCAL_WORLD_SIZE": str(ranks),
        "GROUP_RANK": "0",
        "GROUP_WORLD_SIZE": "1",
        "ROLE_WORLD_SIZE": str(ranks),
        "TORCHELASTIC_RUN_ID": "tests",
        "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_MAX_RESTARTS": "0",
        "TORCHELASTIC_USE_AGENT_STORE": "False",
        "OMP_NUM_THREADS": "1",
    }
    names = ("RANK", "LOCAL_RANK", "ROLE_RANK")
    return [{**shared, **dict.fromkeys(names, str(rank))} for rank in range(ranks)]


def on_ranks(
    function: Callable[..., Any],
    *arguments: Any,
    ranks: int = 2,
    limit: float = 60.0,
    start: str = "fork",
    environ: Mapping[str, str] | None = None,
) -> list[Any]:
    """What the function returns on each rank."""
    context = multiprocessing.get_context(start)
    # Plain pickle copies tensors; that of multiprocessing would share them among the ranks.
    call = (function, arguments) if start == "fork" else pickle.dumps((function, arguments))
    with tempfile.TemporaryDirectory() as folder:
        logs = [Path(folder, f"{rank}.log") for rank in range(ranks)]
        processes = [
            context.Process(target=_be_a_rank, args=(call, {**mine, **(environ or {})}, log))
            for mine, log in zip(torchrun_environments(ranks), logs, strict=True)
        ]
        try:
            for process in processes:
                process.start()
            with _interrupted_by_sigterm():
                in_time = _wait([lambda p=p: p.exitcode for p in processes], limit, _GRACE)
        finally:
            for process in processes:
                if process.pid is not None:
                    process.kill()
                    process.join()
                    _kill_group(process.pid)
        codes = [process.exitcode for process in processes]
        outputs = [log.read_text() if log.exists() else "" for log in logs]
        _require_success(list(map(Ended, codes, outputs)), in_time, limit)
        return [pickle.loads(log.with_suffix(".result").read_bytes()) for log in logs]


def _be_a_rank(
    call: tuple[Callable[..., Any], tuple[Any, ...]] | bytes,
    environment: Mapping[str, str],
    log: Path,
) -> None:
    os.setsid()
    _die_with_parent()
    os.environ.update(environment)
    sys.stdout = sys.stderr = log.open("w", buffering=1)
    os.dup2(sys.stdout.fileno(), 1)
    os.dup2(sys.stdout.fileno(), 2)
    function, arguments = pickle.loads(call) if isinstance(call, bytes) else call
    result = function(*arguments)
    log.with_suffix(".result").write_bytes(pickle.dumps(result))


def run_script(
    script: str | Path, *arguments: object, ranks: int = 2, limit: float = 60.0, check: bool = True
) -> list[Ended]:
    """The script's ends on all ranks."""
    command = [sys.executable, str(script), *map(str, arguments)]
    return run_together([command] * ranks, torchrun_environments(ranks), limit=limit, check=check)


def run_together(
    commands: Sequence[Sequence[str]],
    environments: Sequence[Mapping[str, str]] | None = None,
    *,
    limit: float = 60.0,
    grace: float = _GRACE,
    check: bool = True,
) -> list[Ended]:
    """The ends of commands run side by side.

    Args:
        commands: One for each process.
        environments: Variables beside those of this process, for each command.
        limit: Seconds, after which all are killed and the test fails.
        grace: Seconds that the others have after the first failure before they are killed.
        check: Whether a status other than 0 fails the test.
    """
    mark = uuid.uuid4().hex
    path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
    common = {**os.environ, "PYTHONPATH": path, _MARK: mark}
    logs, processes = [], []
    try:
        for command, mine in zip(commands, environments or [{}] * len(commands), strict=True):
            logs.append(tempfile.TemporaryFile())  # noqa: SIM115
            environment = {**common, **mine}
            processes.append(
                subprocess.Popen(
                    command,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=logs[-1],
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    preexec_fn=_die_with_parent,
                )
            )
        with _interrupted_by_sigterm():
            in_time = _wait([process.poll for process in processes], limit, grace)
    finally:
        for process in processes:
            process.kill()
            process.wait()
        _kill_marked(mark)
    ends = []
    for process, log in zip(processes, logs, strict=True):
        log.seek(0)
        ends.append(Ended(process.returncode, log.read().decode(errors="replace")))
        log.close()
    _require_success(ends, in_time, limit, check=check)
    return ends


def _wait(polls: Sequence[Callable[[], int | None]], limit: float, grace: float) -> bool:
    """Whether all ended in time, or were to end since one failed."""
    deadline = time.monotonic() + limit
    give_up = float("inf")
    while time.monotonic() < min(deadline, give_up):
        codes = [poll() for poll in polls]
        if None not in codes:
            return True
        if give_up == float("inf") and any(codes):
            give_up = time.monotonic() + grace
        time.sleep(0.02)
    return give_up < deadline


@contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """Let the ``finally`` clauses inside run where `timeout` ends the tests."""
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _die_with_parent() -> None:
    """For where the tests are killed outright; Linux alone knows of it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _kill_group(leader: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def _kill_marked(mark: str) -> None:
    """Also those in sessions of their own, such as torchrun's ranks, and their children."""
    for process in psutil.process_iter():
        try:
            if process.environ().get(_MARK) == mark:
                process.kill()
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue


def _require_success(
    ends: Sequence[Ended], in_time: bool, limit: float, *, check: bool = True
) -> None:
    failed = check and any(end.code != 0 for end in ends)
    if in_time and not failed:
        return
    told = "".join(f"\n--- {i}, status {e.code}:\n{e.output}" for i, e in enumerate(ends))
    raise AssertionError(("a rank failed" if in_time else f"not done after {limit} s") + told)
