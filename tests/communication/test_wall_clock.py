"""The model of wall-clock time against counting by hand, its limits, and its own curve."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lightning_fw.communication.wall_clock import (
    Cluster,
    LocalWindows,
    Network,
    break_even_bandwidth,
    ddp_seconds,
    local_seconds,
    speed_up,
)

SMALL = Network(parameters=68_000, seconds=5e-3)
LINK = Cluster(ranks=8, bandwidth=1e9, latency=1e-5)

networks = st.builds(Network, parameters=st.integers(1_000, 10**8), seconds=st.floats(1e-4, 1.0))
clusters = st.builds(
    Cluster,
    ranks=st.integers(2, 1024),
    bandwidth=st.floats(1e7, 1e12),
    latency=st.floats(1e-7, 1e-3),
    algorithm=st.sampled_from(["ring", "halving"]),
)
windows = st.builds(
    LocalWindows,
    steps=st.integers(1, 20),
    batches=st.floats(0.2, 3.0),
    overhead=st.floats(1.0, 1.5),
)


def simulated_ring(ranks, size, link):
    """Seconds and sums of a ring: in each round every rank sends one of its chunks on."""
    held = [[{rank} for _ in range(ranks)] for rank in range(ranks)]
    seconds = 0.0
    for turn in range(2 * (ranks - 1)):
        sent = [
            (rank, (rank - turn) % ranks, set(held[rank][(rank - turn) % ranks]))
            for rank in range(ranks)
        ]
        for rank, chunk, ranks_in_it in sent:
            held[(rank + 1) % ranks][chunk] |= ranks_in_it
        seconds += link.latency + size / ranks / link.bandwidth
    return seconds, held


@pytest.mark.parametrize("ranks", [2, 3, 8])
def test_a_ring_takes_the_time_of_its_rounds(ranks):
    link = replace(LINK, ranks=ranks, algorithm="ring")
    seconds, held = simulated_ring(ranks, 1e6, link)
    assert all(chunk == set(range(ranks)) for chunks in held for chunk in chunks)
    assert link.all_reduce_seconds(1e6) == pytest.approx(seconds)


def simulated_halving(ranks, size, link):
    """Seconds and sums of halving and doubling: partners swap ever smaller halves, and back."""
    held = [{(chunk, rank) for chunk in range(ranks)} for rank in range(ranks)]
    mine = [list(range(ranks)) for _ in range(ranks)]
    seconds, distance = 0.0, ranks // 2
    while distance:
        before = [set(have) for have in held]
        for rank in range(ranks):
            half = len(mine[rank]) // 2
            kept = mine[rank][half:] if rank & distance else mine[rank][:half]
            held[rank] |= {(c, r) for c, r in before[rank ^ distance] if c in kept}
            mine[rank] = kept
        seconds += link.latency + len(mine[0]) * size / ranks / link.bandwidth
        distance //= 2
    whole = [{(c, r) for c, r in held[rank] if c in mine[rank]} for rank in range(ranks)]
    distance = 1
    while distance < ranks:
        seconds += link.latency + len(whole[0]) / ranks * size / ranks / link.bandwidth
        whole = [whole[rank] | whole[rank ^ distance] for rank in range(ranks)]
        distance *= 2
    return seconds, whole


@pytest.mark.parametrize("ranks", [2, 4, 16])
def test_halving_and_doubling_takes_the_time_of_its_rounds(ranks):
    link = replace(LINK, ranks=ranks)
    seconds, held = simulated_halving(ranks, 1e6, link)
    everything = {(chunk, rank) for chunk in range(ranks) for rank in range(ranks)}
    assert all(have == everything for have in held)
    assert link.all_reduce_seconds(1e6) == pytest.approx(seconds)


def test_one_rank_has_nobody_to_wait_for():
    alone = replace(LINK, ranks=1)
    assert alone.all_reduce_seconds(1e9) == 0
    assert ddp_seconds(SMALL, alone) == SMALL.seconds


def test_numbers_by_hand():
    # 8 ranks, 1 GB/s, 10 µs: 6 rounds, and 1.75 × 272 kB.
    message = 6e-5 + 1.75 * 272_000 / 1e9
    assert ddp_seconds(SMALL, LINK) == pytest.approx(5e-3 + message)
    assert ddp_seconds(SMALL, LINK, overlap=1.0) == pytest.approx(5e-3)
    local = LocalWindows(steps=4, overhead=1.2)
    assert local_seconds(SMALL, LINK, local) == pytest.approx(6e-3 + message / 4)


def test_a_backward_pass_of_two_thirds_of_a_batch_hides_as_much_of_a_message():
    # All of a batch's time is on its way.
    slow = replace(LINK, bandwidth=1.75 * 272_000 / (5e-3 - 6e-5))
    found = [ddp_seconds(SMALL, slow, overlap) for overlap in (0.0, 0.5, 1.0)]
    assert found == pytest.approx([10e-3, 10e-3 - 5e-3 / 3, 10e-3 - 10e-3 / 3])


def test_windows_of_one_step_are_ddp_where_nothing_else_is_known():
    assert speed_up(SMALL, LINK, LocalWindows(steps=1)) == 1


@given(networks, clusters, windows)
def test_the_bounds_of_overlap_hold(network, cluster, local):
    message = cluster.all_reduce_seconds(network.bytes)
    least, most = (ddp_seconds(network, cluster, overlap) for overlap in (1.0, 0.0))
    assert most == pytest.approx(network.seconds + message)
    assert max(network.seconds, message) <= least <= most
    assert least <= ddp_seconds(network, cluster, 0.5) <= most
    assert speed_up(network, cluster, local, 1.0) <= speed_up(network, cluster, local)


@given(networks, clusters, windows)
def test_on_a_fast_interconnect_batches_decide_and_on_a_slow_one_messages_do(
    network, cluster, local
):
    fast = replace(cluster, bandwidth=1e18, latency=1e-18)
    slow = replace(cluster, bandwidth=1e-3)
    compute = 1 / (local.batches * local.overhead)
    assert speed_up(network, fast, local) == pytest.approx(compute, rel=1e-5)
    assert speed_up(network, slow, local) == pytest.approx(local.steps / local.batches, rel=1e-3)


@given(networks, clusters, windows)
def test_slower_links_and_more_ranks_favour_windows_of_several_steps(network, cluster, local):
    now = speed_up(network, cluster, local)
    slower = replace(cluster, bandwidth=cluster.bandwidth / 2)
    more = replace(cluster, ranks=2 * cluster.ranks)
    for worse in (slower, more):
        then = speed_up(network, worse, local)
        gains = local.steps * local.overhead >= 1
        assert then >= now * (1 - 1e-12) if gains else then <= now * (1 + 1e-12)


@given(networks, clusters, windows)
def test_break_even_is_where_the_curve_crosses_one(network, cluster, local):
    at = break_even_bandwidth(network, cluster, local)

    def gain(bandwidth):
        return speed_up(network, replace(cluster, bandwidth=bandwidth), local)

    if at == 0:
        assert all(gain(10.0**power) <= 1 + 1e-9 for power in range(15))
    elif math.isinf(at):
        assert gain(1e18) >= 1 - 1e-9
    else:
        # Where b is K but for rounding, the curve is 1 but for rounding, too.
        assume(local.batches < 0.999 * local.steps)
        assert gain(at) == pytest.approx(1, rel=1e-6)
        assert gain(at / 2) > 1 > gain(2 * at) - 1e-9


def test_where_nothing_is_sent_windows_of_as_many_batches_are_level_on_every_interconnect():
    alone = Cluster(ranks=1, bandwidth=1.0, latency=1e-6)
    local = LocalWindows(steps=2, batches=1.0, overhead=1.0)
    assert break_even_bandwidth(Network(parameters=1, seconds=1.0), alone, local) == math.inf


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: replace(LINK, ranks=0), ValueError, "`ranks` must be at least 1, got 0"),
        (lambda: replace(LINK, bandwidth=-1.0), ValueError, "`bandwidth` must be positive"),
        (lambda: replace(LINK, latency=0), ValueError, "`latency` must be positive, got 0"),
        (lambda: replace(LINK, algorithm="star"), ValueError, "`algorithm` must be one of 'ring'"),
        (lambda: replace(SMALL, parameters=1.5), TypeError, "`parameters` must be an int"),
        (lambda: replace(SMALL, seconds=math.inf), ValueError, "`seconds` must be finite"),
        (lambda: LocalWindows(steps=0), ValueError, "`steps` must be at least 1, got 0"),
        (lambda: LocalWindows(steps=1, batches=0), ValueError, "`batches` must be positive"),
        (lambda: LocalWindows(steps=1, overhead="1"), TypeError, "`overhead` must be a number"),
        (lambda: ddp_seconds(SMALL, LINK, 1.5), ValueError, r"`overlap` must be in \[0, 1\], got"),
    ],
)
def test_what_makes_no_sense_is_named(make, error, message):
    with pytest.raises(error, match=message):
        make()
