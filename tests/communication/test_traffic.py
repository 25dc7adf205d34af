"""What is counted is what torch's profiler sees, and what the algorithms must send."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from multiprocessing import active_children
from pathlib import Path

import pytest
import torch

from lightning_fw.communication.measure import CommunicationSettings, Contender, count
from lightning_fw.communication.traffic import Counts, Traffic
from lightning_fw.processes import on_ranks
from lightning_fw.race.entrants import Entrant
from lightning_fw.race.frank_wolfe import windows
from lightning_fw.race.methods import METHODS
from lightning_fw.race.run import Course, run
from lightning_fw.race.tasks import TASKS

# With the digits: a rank forked from here need not import them.
pytest.importorskip("sklearn.datasets", reason="needs the extra `data`")

SETTINGS = CommunicationSettings(
    task="digits",
    cell="gru",
    devices=2,
    steps=[3],
    batches=6,
    budget=6,
    every=3,
    seeds=1,
    first_seed=0,
    threads=1,
)
# GRU of 128 units on 8 channels, with two biases of 3 gates each, and the head for 10 digits.
GRADIENT_BYTES = 4 * (3 * 128 * (8 + 128 + 2) + 10 * 129)
# Lightning 2.6.6 asks whether a rank got SIGTERM.
LIGHTNINGS_BYTES = 8
# Ten batches are counted, and an epoch of eleven ends with the first of them.
EPOCHS_A_BATCH = 1 / 10
# There ranks compare their numbers of batches: two of 4 bytes.
EPOCHS_BYTES = 8 * EPOCHS_A_BATCH


@pytest.fixture(autouse=True)
def nothing_is_left():
    yield
    assert active_children() == []


ADAM = Entrant(METHODS["adam"], {"lr": 1e-3})


def contender(steps, sync):
    method = replace(METHODS["local"], inner_loop=partial(windows, steps=steps, sync=sync))
    return Contender("", Entrant(method, {}), sync, steps)


def test_ddp_sends_four_bytes_a_parameter_a_batch():
    counted = count(Contender("", ADAM, "ddp", 1), SETTINGS)
    assert counted == Counts(1, 1, GRADIENT_BYTES + LIGHTNINGS_BYTES)


@pytest.mark.parametrize("steps", [2, 5])
def test_windows_that_talk_at_every_step_send_what_ddp_does(steps):
    all_reduces, others, sent = count(contender(steps, "step"), SETTINGS)
    assert (all_reduces, others) == pytest.approx((1 + EPOCHS_A_BATCH, 1))
    assert sent == pytest.approx(GRADIENT_BYTES + LIGHTNINGS_BYTES + EPOCHS_BYTES)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_local_windows_send_one_message_for_all_their_batches(steps):
    all_reduces, others, sent = count(contender(steps, "restart"), SETTINGS)
    # Lightning's question follows a restart, and here one more than windows end: the first.
    questions = 1 if steps == 1 else 1 / steps + EPOCHS_A_BATCH
    assert (all_reduces, others) == pytest.approx((1 / steps + EPOCHS_A_BATCH, questions))
    # Besides d_K: whether and how far this rank moved, whether its epoch has ended, which of 6
    # tensors moved, and two slopes, and whether it has these; a window of one step has none.
    slopes = 0 if steps == 1 else 4
    message = GRADIENT_BYTES + 4 * (3 + 6 + slopes)
    assert sent == pytest.approx(message / steps + LIGHTNINGS_BYTES * questions + EPOCHS_BYTES)


def test_the_profiler_sees_the_same_all_reduces():
    def work(tell):
        def train(budget):
            course = Course(
                task=TASKS["digits"], cell="gru", every=budget, root=Path("none"), ranks=2
            )
            run(ADAM, course, 0, budget=budget, report=lambda point: None)

        with Traffic() as traffic:
            train(5)
        with torch.profiler.profile(record_shapes=True) as profile:
            train(5)
        shapes = [e.input_shapes for e in profile.events() if e.name == "gloo:all_reduce"]
        tell((traffic.counts.all_reduces, [math.prod(shape[0]) for shape in shapes]))

    told = []
    on_ranks(work, 2, told.append)
    ((all_reduces, sizes),) = told
    assert all_reduces == len(sizes)
    assert [4 * size for size in sizes].count(GRADIENT_BYTES) == 5


def test_operations_that_are_no_collectives_do_not_count():
    with Traffic() as traffic:
        total = torch.ones(3) + torch.ones(3)
    assert total.tolist() == [2, 2, 2]
    assert traffic.counts == Counts(0, 0, 0)
    assert Counts(5, 7, 90).per_batch_since(Counts(1, 5, 30), 4) == Counts(1, 0.5, 15)
