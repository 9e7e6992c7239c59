"""Cores, disk and memory are asked for before anything is started."""

import pytest

from sparkneuro.errors import SettingsError
from sparkneuro.pipelines import preprocess, preprocess_plan, preprocess_resources


@pytest.fixture(autouse=True)
def no_master(monkeypatch):
    """The machine's cores count, unless a test says otherwise."""
    monkeypatch.delenv("SPARK_MASTER", raising=False)


def test_cores_are_those_asked_for_or_of_this_machine_up_to_eight(make_settings, monkeypatch):
    monkeypatch.setattr(preprocess_resources, "is_spark_local", lambda: True)
    for n_cores, expected in ((3, 3), (64, 8)):
        monkeypatch.setattr(preprocess_resources, "available_cores", lambda n_cores=n_cores: n_cores)
        assert preprocess.cores_per_task(make_settings(cores=None)) == expected
    assert preprocess.cores_per_task(make_settings(cores=5)) == 5
    monkeypatch.setenv("SPARK_MASTER", "local[2]")
    assert preprocess.cores_per_task(make_settings(cores=None)) == 2
    monkeypatch.setattr(preprocess_resources, "is_spark_local", lambda: False)
    assert preprocess.cores_per_task(make_settings(cores=None)) == 1


def test_more_memory_at_once_than_there_is_is_said(make_settings, stand_in, monkeypatch):
    monkeypatch.setattr(preprocess_resources, "is_spark_local", lambda: True)
    monkeypatch.setattr(preprocess_resources, "available_cores", lambda: 8)
    monkeypatch.setattr(preprocess_resources, "available_memory", lambda: 32 * 2**30)
    for cores, said in ((2, True), (4, False)):
        plan = preprocess_plan.make_plan(make_settings(cores=cores, memory_gb=12.0))
        assert bool(preprocess_resources.warn_of_memory(plan, 3)) == said


def test_two_disks_need_half_the_room_each(make_settings, stand_in, monkeypatch):
    plan = preprocess_plan.make_plan(make_settings(min_free_gb=10.0))
    monkeypatch.setattr(preprocess_resources, "is_spark_local", lambda: False)
    monkeypatch.setattr(preprocess_resources, "free_disk", lambda path: 15e9)
    with pytest.raises(SettingsError, match="15.0 GB are free, and 20 may be needed for 1 subject at once"):
        preprocess_resources.check_space(plan, 3)
    monkeypatch.setattr(preprocess_resources, "_device", lambda path: path)
    preprocess_resources.check_space(plan, 3)
