"""The simulated parameter servers where arithmetic knows the answer."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("simpy", reason="needs the dev extra")
sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

from scaling import PARTS, Costs, System, rate_of, simulate_rate, split  # noqa: E402

FREE = dict.fromkeys(PARTS, 0.0)
LONE = System(1, 1, 1000, step_s=0.1, costs=FREE, jitter=0.0)


def test_workers_whose_exchanges_cost_nothing_do_not_wait():
    assert simulate_rate(replace(LONE, n_workers=7)) == pytest.approx(70)


def test_the_parts_of_one_workers_exchange_add_up():
    costs = dict(zip(PARTS, (0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.008, 0.010), strict=True))
    expected = 0.1 + sum(costs.values()) - costs["update"] / 2 + 0.007  # an update runs on two cores
    assert simulate_rate(replace(LONE, costs=costs, join_s=0.007)) == pytest.approx(1 / expected)


def test_a_link_that_is_full_sets_the_rate():
    # Each exchange takes 0.08 s of the server's link in each direction.
    system = replace(LONE, n_workers=9, n_values=1_000_000, gbit_s=0.4)
    assert simulate_rate(system, 200) == pytest.approx(1 / 0.08, rel=0.02)
    assert simulate_rate(replace(system, n_servers=2), 200) == pytest.approx(2 / 0.08, rel=0.02)
    assert simulate_rate(replace(system, wire_bytes=2), 200) == pytest.approx(2 / 0.08, rel=0.02)


def test_updates_of_one_shard_take_turns():
    system = replace(LONE, n_workers=30, costs={**FREE, "update": 0.02})  # 10 ms on two of the server's cores
    assert simulate_rate(system, 100) == pytest.approx(100, rel=0.02)


def test_shared_cores_set_the_rate_and_crowds_make_it_lower():
    system = replace(LONE, n_workers=30, costs={**FREE, "client_send": 0.03, "server_send": 0.01}, shared_cores=2)
    assert simulate_rate(system, 100) == pytest.approx(2 / 0.04, rel=0.02)
    assert simulate_rate(replace(system, crowding=1.5), 100) == pytest.approx(2 / 0.06, rel=0.02)


def test_overlap_hides_an_exchange_but_not_what_it_takes_of_the_workers_core():
    costs = {**FREE, "latency": 0.04, "client_send": 0.01}
    assert simulate_rate(replace(LONE, costs=costs)) == pytest.approx(1 / 0.15)
    assert simulate_rate(replace(LONE, costs=costs, overlap=True)) == pytest.approx(1 / 0.11, rel=0.01)


def test_costs_are_interpolated_between_the_measured_lengths():
    costs = Costs([10, 20], [FREE, dict.fromkeys(PARTS, 0.5)])
    assert costs.of(15) == dict.fromkeys(PARTS, 0.25) and costs.of(40) == costs.of(20)


def test_a_rate_counts_the_intervals_of_each_worker():
    assert rate_of([[1.0, 2.0, 3.0], [2.0, 2.5, 3.0], [3.0]], since=2.0) == pytest.approx(1 + 2)


def test_a_total_is_cut_as_its_measured_parts_are():
    assert split(9.0, 1.0, 2.0) == pytest.approx((3, 6)) and split(-1.0, -2.0, 0.0) == (0, 0)
