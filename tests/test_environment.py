"""What a process may use of its machine."""

import os

import pytest

from sparkneuro import environment


@pytest.fixture
def machine(monkeypatch):
    """A machine of 8 cores and 16 GiB, with these files in /sys/fs/cgroup."""

    def make(**files):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
        monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 4 * 2**20}[name])
        monkeypatch.setattr(environment, "_read", lambda path: files.get(path.rpartition("/")[2].replace(".", "_"), ""))

    return make


@pytest.mark.parametrize(("quota", "n_cores"), [("max 100000", 8), ("250000 100000", 2), ("50000 100000", 1), ("", 8)])
def test_a_containers_quota_limits_the_cores(machine, quota, n_cores):
    machine(cpu_max=quota)
    assert environment.available_cores() == n_cores


@pytest.mark.parametrize(("limit", "n_gigabytes"), [("max\n", 16), (f"{3 * 2**30}\n", 3), (f"{99 * 2**30}\n", 16)])
def test_a_containers_limit_is_the_memory(machine, limit, n_gigabytes):
    machine(memory_max=limit)
    assert environment.available_memory() == n_gigabytes * 2**30


def test_what_the_user_chose_for_the_driver_reaches_the_workers(monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    variables = environment.executor_environment(3)
    assert variables["OPENBLAS_CORETYPE"] == "Haswell"
    assert "KERAS_BACKEND" not in variables
    assert {variables[name] for name in environment.THREAD_VARIABLES} == {"3"}
