"""Preprocessing from container images, with stand-ins for docker and apptainer that check their words."""

import json
import os
import shlex
import sys
from pathlib import Path

import pytest

from sparkneuro.errors import PreprocessingError, SettingsError
from sparkneuro.pipelines import preprocess, preprocess_plan

STAND_INS = Path(__file__).parent / "stand_ins"
SOON = 1 / 3600
"""Hours."""

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the processes from /proc"),
]


@pytest.fixture
def jobs(call_here):
    """Calls the tasks in this process instead of Spark's; the list tells the names of those that were called, and of whom."""
    return call_here(lambda name, job: (name, job["subject"]))


@pytest.fixture
def runtimes(tmp_path, monkeypatch):
    """Puts docker and apptainer first on the PATH; returns the folder that they are in."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("docker", "apptainer"):
        program = folder / name
        program.write_text(f"#!/bin/sh\nexec {sys.executable} -S {STAND_INS / 'container.py'} {name} \"$@\"\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


@pytest.fixture
def dockerd(tmp_path, monkeypatch):
    """Docker's daemon."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("dockerd", STAND_INS / "dockerd.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    daemon = module.Dockerd(str(tmp_path / "docker.sock"))
    monkeypatch.setenv("STAND_IN_DOCKERD", daemon.address)
    yield daemon
    daemon.close()


@pytest.fixture
def image(tmp_path):
    """An Apptainer image."""
    path = tmp_path / "fmriprep-24.1.1.sif"
    path.write_bytes(b"#!/usr/bin/env run-singularity\n\0SIF_MAGIC")
    return path


@pytest.fixture
def make(make_settings, runtimes, dockerd, image):
    """Settings by name of the way."""
    ways = {"docker": {"docker": "nipreps/fmriprep:24.1.1"}, "apptainer": {"apptainer": str(image)}}
    return lambda way, **changes: make_settings(participant_label=("01",), **ways[way], **changes)


@pytest.mark.parametrize("way", ["docker", "apptainer"])
def test_an_app_in_a_container_does_a_subject(make, stand_in, jobs, way, bids, tmp_path):
    (tmp_path / "templates").mkdir()
    (tmp_path / "filter.json").write_text('{"bold": {"task": "rest"}}')
    files = {"templateflow_home": str(tmp_path / "templates"), "bids_filter_file": str(tmp_path / "filter.json")}
    options = {**files, "memory_gb": 4.0}
    settings = make(way, **options)
    assert "1 done" in preprocess.run(settings, None) and "1 skipped" in preprocess.run(settings, None)
    mounts = {source: (target, fixed) for source, target, fixed in json.loads((stand_in.folder / "mounts.json").read_text())}
    assert mounts[str(bids)] == (str(bids), True) and mounts[settings.output] == (settings.output, False)
    assert mounts[str(tmp_path / "licence.txt")][1] and mounts[str(tmp_path / "templates")] == ("/templateflow", False)
    dry = make(way, **options, dry_run=True, app_options="--dummy-scans 2")
    words = shlex.split(preprocess.run(dry, None).splitlines()[-1])
    assert words[words.index("--participant-label"):][:2] == ["--participant-label", "01"]
    assert ("--memory" in words) == (way == "docker") and words[-2:] == ["--dummy-scans", "2"]


def test_docker_is_told_the_memory_and_whose_the_files_are(make, stand_in, jobs):
    words = preprocess_plan.make_plan(make("docker", memory_gb=2.5)).make_job("01")["words"]
    after = {name: words[words.index(name) + 1] for name in ("--memory", "--memory-swap", "--user", "--cpus", "--mem-mb")}
    assert after == {
        "--memory": "2560m", "--memory-swap": "2560m", "--mem-mb": "2250", "--cpus": "1",
        "--user": f"{os.getuid()}:{os.getgid()}",
    }


@pytest.mark.parametrize(("way", "behaviour"), [("docker", "hang"), ("docker", "stubborn"), ("apptainer", "grandchild")])
def test_a_container_that_takes_too_long_is_ended(make, stand_in, jobs, monkeypatch, dockerd, way, behaviour):
    monkeypatch.setattr(preprocess_plan, "GRACE", 0.5)
    stand_in.behave(s01=[behaviour])
    with pytest.raises(PreprocessingError, match="took longer than --timeout"):
        preprocess.run(make(way, timeout=SOON), None)
    for container in dockerd.containers.values():
        container.wait(timeout=20)
    assert stand_in.pids() and not stand_in.left()


def test_the_exit_code_and_the_output_of_a_container_are_those_of_the_app(make, stand_in, jobs):
    stand_in.behave(s01=["crash", "killed", "ok"])
    with pytest.raises(PreprocessingError, match="sub-01 failed: exit code 3 (?s:.*)ValueError: no T1w image for sub-01"):
        preprocess.run(make("docker"), None)
    with pytest.raises(PreprocessingError, match="sub-01 failed: exit code 137, as the system does when memory is short"):
        preprocess.run(make("docker"), None)
    assert "1 done" in preprocess.run(make("docker"), None)


def test_an_apptainer_container_is_held_to_its_memory(make, stand_in, jobs, monkeypatch):
    monkeypatch.setattr(preprocess_plan, "GRACE", 0.5)
    stand_in.behave(s01=["eat"])
    with pytest.raises(PreprocessingError, match="more than --memory-gb 0.1, and was terminated"):
        preprocess.run(make("apptainer", memory_gb=0.1), None)
    assert not stand_in.left()


def test_another_image_does_all_subjects_again(make, stand_in, jobs, image):
    preprocess.run(make("apptainer"), None)
    image.write_bytes(b"#!/usr/bin/env run-singularity\n\0SIF_MAGIC of another build")
    assert "it was done with other image" in preprocess.run(make("apptainer", dry_run=True), None)


def test_links_that_lead_out_of_what_a_container_sees_are_named_with_the_remedy(make, stand_in, jobs, bids, tmp_path):
    path = next((bids / "sub-01").rglob("*_bold.nii.gz"))
    archive = tmp_path / "archive" / path.name
    archive.parent.mkdir()
    path.rename(archive)
    path.symlink_to(archive)
    with pytest.raises(PreprocessingError, match=f"which the container does not see; add --bind {archive.parent}"):
        preprocess.run(make("docker"), None)
    assert "1 done" in preprocess.run(make("docker", bind=(str(archive.parent),)), None)
    archive.unlink()
    with pytest.raises(PreprocessingError, match="a link to a file that is not there; fetch it first"):
        preprocess.run(make("docker", bind=(str(archive.parent),)), None)


def test_what_is_missing_is_said_before_spark_starts(make, make_settings, stand_in, runtimes, image, monkeypatch, tmp_path):
    with pytest.raises(SettingsError, match="docker has no image absent:1; fetch it with: docker pull absent:1"):
        preprocess.needs_spark(make_settings(docker="absent:1"))
    with pytest.raises(SettingsError, match="there is no image nowhere.sif; make one with: apptainer build"):
        preprocess.needs_spark(make_settings(apptainer="nowhere.sif"))
    monkeypatch.setenv("PATH", str(tmp_path))
    for way in ("docker", "apptainer"):
        with pytest.raises(SettingsError, match=f"--{way} needs {way}, which is not on the PATH"):
            preprocess.needs_spark(make(way))


@pytest.mark.parametrize(("way", "name"), [("docker", "one,two"), ("apptainer", "one:two")])
def test_a_path_that_cannot_be_bound_is_refused(make, stand_in, way, name, tmp_path):
    with pytest.raises(SettingsError, match=f"{name}.*{way} cannot bind a path with .* in it"):
        preprocess.needs_spark(make(way, output=str(tmp_path / name)))
