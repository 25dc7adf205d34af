"""Several processes of this machine that train together, and what the first of them tells."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from inspect import signature
from multiprocessing.connection import Connection
from typing import Any

import torch
from lightning.fabric.plugins.environments.lightning import find_free_network_port
from torch.multiprocessing import get_context
from torch.multiprocessing.spawn import ProcessContext, start_processes

# Between two looks at what rank 0 tells: short for a reader, long for a processor.
_PATIENCE_SECONDS = 0.05
# Of a rank's error to the others; torch 2.5 has none, and ends them at once.
_GRACE = (
    {"grace_period": 5.0} if "grace_period" in signature(ProcessContext.join).parameters else {}
)

Tell = Callable[[Any], None]


def on_ranks(work: Callable[[Tell], None], ranks: int, hear: Tell) -> None:
    """Do the same work in several forked processes, to which Lightning's DDPStrategy finds itself.

    The processes are started as ``torchrun`` starts them, and not by a Trainer, so that this one
    stays free to hear of them. Nothing of them is left when it returns or raises.

    Args:
        work: Called once in each process, with a function that tells this process an object; that
            of rank 0 alone is heard.
        ranks: Processes.
        hear: Called here with each object that rank 0 told, in order, while the work goes on.

    Raises:
        torch.multiprocessing.ProcessRaisedException: If the work raises in one of the processes,
            with its traceback.
        torch.multiprocessing.ProcessExitedException: If one of them dies.

    Example:
        >>> heard = []
        >>> on_ranks(lambda tell: tell(os.environ["LOCAL_RANK"]), 2, heard.append)
        >>> heard
        ['0']
    """
    receiver, sender = get_context("fork").Pipe(duplex=False)
    arguments = (work, ranks, find_free_network_port(), receiver, sender)
    processes = start_processes(  # type: ignore[no-untyped-call]
        _run, arguments, nprocs=ranks, join=False, daemon=True, start_method="fork"
    )
    sender.close()
    try:
        is_done = False
        while not is_done:
            is_done = processes.join(_PATIENCE_SECONDS, **_GRACE)
            _listen(receiver, hear)
    finally:
        for process in processes.processes:
            process.kill()
            process.join()
        receiver.close()


def _listen(receiver: Connection, hear: Tell) -> None:
    try:
        while receiver.poll():
            hear(receiver.recv())
    except EOFError:
        # Rank 0 has ended.
        return


def _run(
    rank: int,
    work: Callable[[Tell], None],
    ranks: int,
    port: int,
    receiver: Connection,
    sender: Connection,
) -> None:
    """One process."""
    # An interruption ends it without a word: the process that started it answers for it.
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_DFL)
    receiver.close()
    # Those of the other process may belong to a live table.
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
    os.environ.update(
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        WORLD_SIZE=str(ranks),
        LOCAL_RANK=str(rank),
        NODE_RANK="0",
        # Lightning would set torch's threads to the cores that each process has.
        OMP_NUM_THREADS=str(torch.get_num_threads()),
    )
    work(sender.send if rank == 0 else lambda told: None)
