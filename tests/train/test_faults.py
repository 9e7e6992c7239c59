"""What befalls a cluster, really done on two executor processes: afterwards every batch has been applied once at every server."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pyspark", reason="needs the spark extra")
pytest.importorskip("psutil", reason="needs the dev extra")
pytestmark = [pytest.mark.engine, pytest.mark.timeout(1200)]
sys.path.insert(0, str(Path(__file__).parent))

import run_faults  # noqa: E402

N_UPDATES = 60  # two partitions of 23 rows: four whole batches and a partial one, six epochs


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory):
    """A disk of its own, of half a megabyte; None where this user may not mount one."""
    folder = tmp_path_factory.mktemp("disk")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)], capture_output=True)
    yield folder if mounted.returncode == 0 else None
    if mounted.returncode == 0:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory, small_disk):
    folder = tmp_path_factory.mktemp("faults")
    names = [name for name in run_faults.SCENARIOS if small_disk or name != "the disk is full"]
    program = [sys.executable, run_faults.__file__, str(folder), *names]
    done = subprocess.run([*program, "--small-disk", str(small_disk)], capture_output=True, text=True, timeout=900, cwd=folder)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def outcome(outcomes, request):
    if request.param not in outcomes:
        pytest.skip("only root may mount a small disk")
    return outcomes[request.param]


def of(*names):
    return pytest.mark.parametrize("outcome", names, indirect=True, ids=lambda name: name.replace(" ", "_"))


@of(*run_faults.SCENARIOS)
def test_every_batch_is_applied_once_and_nothing_is_left(outcome):
    assert outcome["complaints"] == []


@of("a worker is killed", "an executor is killed", "servers on executors, an executor is killed")
def test_a_killed_worker_is_started_again(outcome):
    assert outcome["attempts"] > 2 and outcome["versions"] == [N_UPDATES, N_UPDATES]


@of("a server is killed", "the last server is killed", "synchronous, a server is killed")
def test_a_killed_server_is_started_again_and_what_it_lost_is_trained_again(outcome):
    assert outcome["restarts"] == 1
    # A checkpoint every 4 updates: two workers train at most so many again, and the batches that they had begun.
    assert outcome["retrained"] <= 2 * (4 + 2)


@of("a server answers late", "a worker stands still", "a worker is slow", "the disk is full")
def test_what_is_only_slow_or_unsafe_is_not_started_again(outcome):
    assert outcome["restarts"] == 0 and outcome["attempts"] == 2


@of("the disk is full")
def test_a_full_disk_is_complained_of_and_training_goes_on(outcome):
    assert "the disk is full" in outcome["status"]["checkpoint_error"]


@of("staleness is bounded")
def test_no_gradient_is_staler_than_the_bound(outcome):
    assert max(epoch["staleness_max"] for epoch in outcome["status"]["epochs"]) == 1


@of("synchronous", "synchronous, a worker is killed", "synchronous, a server is killed")
def test_workers_that_step_together_make_one_update_of_two_batches(outcome):
    assert outcome["versions"] == [N_UPDATES // 2, N_UPDATES // 2]
    assert max(epoch["staleness_max"] for epoch in outcome["status"]["epochs"]) == 0


def test_a_synchronous_training_ends_with_the_same_weights_whatever_happens(outcomes):
    losses = {outcomes[name]["loss"] for name in ("synchronous", "synchronous, a worker is killed")}
    assert len(losses) == 1
