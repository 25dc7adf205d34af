"""The race on two gloo processes."""

from __future__ import annotations

import csv
import json
import os
import signal
import sys
import time
from dataclasses import replace
from multiprocessing import active_children, current_process
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from lightning_fw import cli
from lightning_fw.data import AddingProblem
from lightning_fw.processes import on_ranks
from lightning_fw.race import contest
from lightning_fw.race.command import main
from lightning_fw.race.entrants import enter
from lightning_fw.race.points import read_points
from lightning_fw.race.run import Course, run
from lightning_fw.race.tasks import TASKS
from tests.forked import start_forked

METHODS = ["local", "spectral", "adam-clip"]
SHORT = replace(
    TASKS["adding"],
    make_data=lambda seed, root, batch_size: AddingProblem(
        10, train_size=80, val_size=60, test_size=50, batch_size=batch_size, seed=seed
    ),
    batch_size=10,
)
RANKS = ("--strategy", "ddp", "--devices", "2")

pytest.importorskip("matplotlib", reason="needs the extra `plot`")
# With the digits: a rank forked from here need not import them.
pytest.importorskip("sklearn.datasets", reason="needs the extra `data`")


@pytest.fixture(autouse=True)
def nothing_is_left():
    yield
    assert active_children() == []


def race(out, *more):
    return main(["--task", "digits", "--seeds", "1", "--every", "4", "--out", str(out), *more])


def points_of(entrant, *, task=SHORT, every=4, **settings):
    points = []
    course = Course(task=task, cell="gru", every=every, root=Path("none"), ranks=2)

    def work(tell):
        run(entrant, course, 0, report=tell, **settings)

    on_ranks(work, 2, points.append)
    return points


def test_every_method_spends_the_same_evaluations_a_rank(tmp_path, capsys):
    assert race(tmp_path, *RANKS, "--methods", *METHODS, "--budget", "6") == 0
    points = read_points(tmp_path / "race.csv")
    assert [(p.method, p.evaluations) for p in points] == [
        (method, evaluations) for method in METHODS for evaluations in (4, 6)
    ]
    assert all(b.seconds > a.seconds > 0 for a, b in zip(points[::2], points[1::2], strict=True))
    assert (tmp_path / "race.png").read_bytes().startswith(b"\x89PNG")
    summary = (tmp_path / "summary.md").read_text()
    assert "2 ranks: gradient evaluations of each rank (batches of 32), all-reduces" in summary
    assert "| Frank-Wolfe, local windows (not tuned) | 0 of 1 | – | – | – |" in summary
    assert "2 ranks: to test accuracy ≥ 0.95" in " ".join(capsys.readouterr().out.split())
    known = json.loads((tmp_path / "race.json").read_text())
    assert (known["strategy"], known["devices"]) == ("ddp", 2)


def test_a_race_on_ranks_is_of_ranks_that_train_together(tmp_path):
    arguments = ("--cell", "gru", "--methods", "adam", "--set", "lr=0.01", "--budget", "4")
    assert race(tmp_path / "alone", *arguments) == 0
    assert race(tmp_path / "together", *arguments, *RANKS) == 0
    entrant = enter("adam", "digits", "gru", given={"lr": 0.01})
    together = points_of(entrant, task=TASKS["digits"], budget=4)
    ends = [
        [(p.train_loss, p.test_metric) for p in points]
        for points in (
            together,
            read_points(tmp_path / "together" / "race.csv"),
            read_points(tmp_path / "alone" / "race.csv"),
        )
    ]
    assert ends[0] == ends[1] != ends[2]


def test_nothing_is_trained_in_the_process_that_forks(tmp_path, monkeypatch):
    parent, trains = os.getpid(), contest.run

    def run_elsewhere(*arguments, **settings):
        assert os.getpid() != parent
        trains(*arguments, **settings)

    monkeypatch.setattr(contest, "run", run_elsewhere)
    size = ("--budget", "4", "--hidden-size", "4", "--tune", "1")
    assert race(tmp_path, *RANKS, *size, "--methods", "adam-clip", "spectral") == 0
    assert {point.method for point in read_points(tmp_path / "race.csv")} == {
        "adam-clip",
        "spectral",
    }


def test_ranks_share_an_epoch(tmp_path):
    class Record(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            with (tmp_path / f"{trainer.global_rank}").open("a") as file:
                file.writelines(f"{number}\n" for number in batch[1].flatten().tolist())

    points_of(enter("local", "adding", "gru"), budget=4, callbacks=[Record()])
    seen = [set((tmp_path / rank).read_text().split()) for rank in ("0", "1")]
    _, targets = SHORT.data(0, None).split("train").tensors
    assert len(seen[0]) == len(seen[1]) == 40
    assert seen[0] | seen[1] == {f"{number}" for number in targets.flatten().tolist()}


def test_the_order_of_batches_follows_from_the_seed_on_ranks_too():
    class Seen(Callback):
        def __init__(self):
            self.sums = []

        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            self.sums.append(float(batch[0].double().sum()))

    def seen(seed):
        course = Course(task=TASKS["digits"], cell="gru", every=3, root=Path("none"), ranks=2)

        def work(tell):
            seen = Seen()
            run(
                enter("adam", "digits", "gru"),
                course,
                seed,
                budget=3,
                report=ignore,
                callbacks=[seen],
            )
            tell(seen.sums)

        told = []
        on_ranks(work, 2, told.append)
        return told

    assert seen(0) == seen(0) != seen(1)


def test_who_wants_no_sampler_for_ranks_gets_none():
    data = AddingProblem(5, train_size=8, val_size=2, test_size=2, batch_size=2)
    for wanted, batches in ((True, 2), (False, 4)):
        data.trainer = L.Trainer(
            accelerator="cpu",
            devices=2,
            strategy="ddp",
            use_distributed_sampler=wanted,
            logger=False,
            enable_checkpointing=False,
        )
        assert len(data.train_dataloader()) == batches


def ignore(point):
    pass


def test_a_seed_gives_the_same_points_again():
    first, again = (points_of(enter("local", "adding", "gru"), budget=8) for _ in range(2))
    assert [p._replace(seconds=0) for p in first] == [p._replace(seconds=0) for p in again]


def test_ranks_stop_together_at_the_target():
    easy = replace(SHORT, target=10.0)
    method = enter("adam", "adding", "gru")
    points = points_of(method, task=easy, budget=12, stop_at_target=0)
    assert [p.evaluations for p in points] == [4]


def test_batches_of_all_ranks_in_one_are_as_many_times_larger():
    joined = TASKS["adding"].joined(4)
    data = joined.data(0, None)
    assert joined.batch_size == data.batch_size == len(next(iter(data.train_dataloader()))[0])
    assert joined.batch_size == 4 * TASKS["adding"].batch_size
    ours, theirs = data.split("val").tensors, TASKS["adding"].data(0, None).split("val")
    assert all(map(torch.equal, ours, theirs.tensors))


def test_summary_counts_the_messages_of_a_method(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(TASKS, "digits", replace(TASKS["digits"], target=0.0))
    race(tmp_path, *RANKS, "--methods", "local", "adam", "--every", "5", "--budget", "5")
    # Two windows of two, and the one in progress, of which nothing is told yet.
    rows = [line.split("|")[2:5] for line in (tmp_path / "summary.md").read_text().splitlines()[4:]]
    assert [[cell.strip() for cell in row] for row in rows] == [
        ["1 of 1", "5", "2"],
        ["1 of 1", "5", "5"],
    ]
    with (tmp_path / "summary.csv").open() as file:
        assert [row["evaluations"] for row in csv.DictReader(file)] == ["5", "5"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--devices", "2"), "got --devices 2 without --strategy"),
        (("--strategy", "ddp"), "--devices of at least 2, got --devices 1 with --strategy"),
        (("--strategy", "ddp", "--devices", "0"), "must be a whole number >= 1, got 0"),
        (("--strategy", "fsdp", "--devices", "2"), "--strategy: must be one of ddp; got fsdp"),
        (("--methods", "local"), "local in --methods is for several ranks: pass --strategy ddp"),
    ],
)
def test_ranks_that_make_no_sense_are_refused(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(list(arguments))
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_race_on_other_ranks_is_refused(tmp_path, capsys):
    assert race(tmp_path, "--methods", "adam", "--budget", "1") == 0
    assert race(tmp_path, *RANKS, "--methods", "adam", "--budget", "1") == 2
    assert "a race with another strategy: None, not 'ddp'" in capsys.readouterr().err


def test_each_number_of_ranks_has_a_directory_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny = ["--task", "digits", "--methods", "adam", "--seeds", "1", "--budget", "1"]
    assert main([*tiny, *RANKS]) == 0
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["digits-lstm-2-ranks"]


def test_an_interrupted_race_leaves_no_process_and_goes_on(tmp_path):
    arguments = ["--task", "digits", "--methods", "local", "--seeds", "1", "--every", "5"]
    arguments += ["--budget", "40", "--out", str(tmp_path), *RANKS]

    def program():
        # What runs in the background of a shell ignores the signal, and its children with it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        current_process().daemon = False  # a daemon may have no ranks
        sys.exit(cli.main(["race", *arguments]))

    process, said = start_forked(program, tmp_path)
    deadline = time.monotonic() + 60
    while not read_points(tmp_path / "race.csv"):
        assert process.is_alive() and time.monotonic() < deadline
        time.sleep(0.02)
    # As a terminal does, to all of them.
    os.killpg(process.pid, signal.SIGINT)
    process.join(60)
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    assert process.exitcode == 130
    told = said.read_text()
    assert "Run the same command again to go on" in " ".join(told.split())
    assert "Traceback" not in told
    assert main(arguments) == 0
    assert [p.evaluations for p in read_points(tmp_path / "race.csv")] == list(range(5, 41, 5))
