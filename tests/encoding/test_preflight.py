"""A plan counts what a fit costs, and refuses what cannot fit with the remedy."""

from dataclasses import replace

import pytest

from sparkneuro.encoding.preflight import Workload, plan_fit
from sparkneuro.errors import SettingsError

THESIS = Workload(
    n_train=69_202, n_test=0, n_features=16_384, n_runs=166, n_undelayed=4096, n_targets=264_805, n_subjects=1, n_designs=1,
    block_size=4096, n_alphas=11, n_gammas=1, criterion="loo", alpha_per_target=False, search="climb", n_folds=5,
    coefficients=True, predictions=False, n_slots=2, task_cores=1,
)  # fmt: skip
GB = 1e9


def plan(**changes):
    return plan_fit(replace(THESIS, **changes), 400e9, 200e9)


def test_operations_are_those_of_the_formulas():
    n, p, s = THESIS.n_train, THESIS.n_features, THESIS.n_targets
    flops = plan().flops
    assert flops["Gram matrix"] == n * p * p
    assert flops["choice of alpha"] == pytest.approx((4 * n * p + p * p) * s)
    assert flops["coefficients and scores"] == pytest.approx(2 * n * p * s)


def test_the_whole_of_the_thesis_costs_less_than_two_peta_operations():
    assert 1.5e15 < sum(plan().flops.values()) < 2.1e15


def test_a_penalty_for_each_target_costs_more_and_an_exhaustive_search_most():
    costs = [sum(plan(**changes).flops.values()) for changes in (
        {"criterion": "none"}, {}, {"alpha_per_target": True}, {"alpha_per_target": True, "search": "exhaustive"}
    )]  # fmt: skip
    assert costs == sorted(costs) and costs[3] > 2 * costs[2]


def test_more_features_than_scans_are_planned_by_products_of_scans():
    assert replace(THESIS, n_train=10_000).kernel and not THESIS.kernel
    assert plan(n_train=10_000).flops["Gram matrix"] == 10_000**2 * 16_384


def test_time_follows_from_the_rates():
    slow, fast = plan_fit(THESIS, 100e9, 50e9), plan_fit(THESIS, 400e9, 200e9)
    for step, seconds in slow.seconds.items():
        assert seconds == pytest.approx(4 * fast.seconds[step])


@pytest.mark.parametrize(
    ("memory", "disk", "slots", "sentence"),
    [
        (5 * GB, 1e15, 1, "the decomposition needs .* GB of memory and this machine has 5.0 GB: use fewer features or delays"),
        (24 * GB, 1e15, 8, r"8 tasks at a time need .* of memory and this machine has 24.0 GB: run \d at a time"),
        (64 * GB, 1 * GB, 1, "the model needs up to .* GB of disk and 1.0 GB are free: free some, choose another folder"),
    ],
)
def test_what_cannot_fit_is_refused_with_the_remedy(memory, disk, slots, sentence):
    with pytest.raises(SettingsError, match=sentence):
        plan().check(memory, disk, slots)


def test_blocks_that_are_too_large_for_any_task_are_refused_with_the_remedy():
    with pytest.raises(SettingsError, match="make a voxel table with smaller blocks"):
        plan(n_features=512, n_undelayed=128, block_size=100_000).check(16 * GB, None, 2)


def test_what_fits_is_let_through_and_described():
    preflight = plan(n_train=4000, n_features=1024, n_undelayed=1024, n_targets=20_000)
    preflight.check(24 * GB, 100 * GB, 2)
    lines = preflight.lines()
    assert lines["eigendecomposition"].split()[1] == "Tflop"
    assert {"together", "memory of the driver", "memory of a task", "disk at most"} <= set(lines)


def test_the_largest_sums_of_leaving_runs_out_are_disk_and_not_memory():
    loo, runs = plan(), plan(criterion="leave_one_run_out")
    in_files = THESIS.n_slots * 4 * THESIS.n_train * THESIS.n_features
    assert runs.disk_bytes - loo.disk_bytes > in_files
    assert runs.task_bytes < loo.task_bytes + in_files / THESIS.n_slots / 4
