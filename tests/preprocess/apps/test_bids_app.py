"""Commands: what a subject's run looks like, word by word."""

import dataclasses
import shlex

import pytest

from sparkneuro.errors import SettingsError
from sparkneuro.preprocess.apps.bids_app import (
    BidsApp,
    check_words,
    container_name,
    describe_app,
    list_mounts,
    make_command,
    make_kill_command,
    make_version_command,
)

LOCAL = BidsApp("fmriprep", "", ("fmriprep",), "/data/my study", "/out", "/scratch", cores=4)


def change(**changes):
    return dataclasses.replace(LOCAL, **changes)


def after(words, name):
    return words[words.index(name) + 1]


def test_a_local_command_survives_a_shell():
    words = make_command(change(app_words=("--bids-database-dir", "/tmp/it's here; rm -rf $HOME")), "01")
    assert words[:4] == ["fmriprep", "/data/my study", "/out", "participant"]
    assert words[-1] == "/tmp/it's here; rm -rf $HOME" and shlex.split(shlex.join(words)) == words


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 1), (5, 4), (9, 8), (16, 8)])
def test_threads_leave_a_core_to_the_workflow(cores, threads):
    words = make_command(change(cores=cores), "01")
    assert after(words, "--nprocs") == str(cores) and after(words, "--omp-nthreads") == str(threads)


def test_fmriprep_plans_with_less_memory_than_it_is_held_to():
    assert "--mem-mb" not in make_command(LOCAL, "01")
    planned = int(after(make_command(change(memory_gb=16.0), "01"), "--mem-mb")) * 1e6
    assert 0.8 * 16 * 2**30 < planned < 0.95 * 16 * 2**30


def test_named_settings_become_the_apps_words():
    files = {"bids_filter_file": "/f.json", "fs_license_file": "/l.txt"}
    words = make_command(change(output_spaces=("T1w", "fsaverage5"), **files, app_words=("--x", "{work}/y")), "07")
    assert words[words.index("--output-spaces"):] == [
        "--output-spaces", "T1w", "fsaverage5", "--bids-filter-file", "/f.json", "--fs-license-file", "/l.txt", "--x",
        "/scratch/sub-07/y",
    ]
    assert after(words, "--work-dir") == "/scratch/sub-07"


def test_templates_are_told_to_a_local_program_by_its_environment():
    assert make_command(change(templateflow_home="/tpl"), "01")[:3] == ["env", "TEMPLATEFLOW_HOME=/tpl", "fmriprep"]


def test_another_app_is_given_what_every_bids_app_takes():
    words = make_command(change(family="bids-app", program=("micromamba", "run", "mriqc"), memory_gb=8.0), "01")
    assert words == ["micromamba", "run", "mriqc", "/data/my study", "/out", "participant", "--participant_label", "01"]


def test_the_raw_data_are_bound_read_only_and_before_an_output_within():
    app = change(
        runtime="docker", program=("nipreps/fmriprep:24.1.1",), bids_dir="/b", output="/b/derivatives/f", binds=("/archive",),
        fs_license_file="/home/ada/licence.txt", templateflow_home="/tpl",
    )
    mounts = list_mounts(app, "01")
    assert {outside for outside, _, fixed in mounts if fixed} == {"/b", "/archive", "/home/ada/licence.txt"}
    assert {outside for outside, _, fixed in mounts if not fixed} == {"/b/derivatives/f", "/scratch/sub-01", "/tpl"}
    inside = [target for _, target, _ in mounts]
    assert inside.index("/b") < inside.index("/b/derivatives/f")


def test_docker_binds_by_source_and_target():
    app = change(runtime="docker", program=("nipreps/fmriprep:24.1.1",), memory_gb=1.5, container_words=("--gpus", "all"))
    words = make_command(app, "01")
    mounts = [words[place + 1] for place, word in enumerate(words) if word == "--mount"]
    assert mounts == [
        "type=bind,source=/out,target=/out", "type=bind,source=/data/my study,target=/data/my study,readonly",
        "type=bind,source=/scratch/sub-01,target=/scratch/sub-01",
    ]
    image = words.index("nipreps/fmriprep:24.1.1")
    assert words[image - 2:image] == ["--gpus", "all"] and words[image + 1] == "/data/my study"
    assert "--rm" in words and after(words, "--memory") == after(words, "--memory-swap") == "1536m"
    assert make_kill_command(app, "01")[-1] == after(words, "--name") == container_name(app, "01")


def test_a_container_has_one_name_a_subject_and_output():
    names = {container_name(change(output=output), subject) for output in ("/out", "/other") for subject in ("01", "02")}
    assert len(names) == 4 and container_name(LOCAL, "01") in names


@pytest.mark.parametrize("runtime", ["apptainer", "singularity"])
def test_apptainer_binds_and_starts_from_a_clean_environment(runtime):
    words = make_command(change(runtime=runtime, program=("/i.sif",), templateflow_home="/tpl"), "01")
    assert words[:3] == [runtime, "run", "--cleanenv"] and "/data/my study:/data/my study:ro" in words
    assert "/tpl:/templateflow" in words and "TEMPLATEFLOW_HOME=/templateflow" in words
    assert not make_kill_command(change(runtime=runtime), "01")


def test_the_version_is_asked_of_what_is_run():
    assert make_version_command(change(program=("conda", "run", "fmriprep"))) == ["conda", "run", "fmriprep", "--version"]
    assert make_version_command(change(runtime="docker", program=("i:1",))) == ["docker", "run", "--rm", "i:1", "--version"]
    assert make_version_command(change(runtime="apptainer", program=("/i.sif",)))[-2:] == ["/i.sif", "--version"]


def test_results_follow_from_words_and_spaces_not_from_cores_or_places():
    same = change(cores=2, memory_gb=3.0, work_dir="/w", output="/o", bids_dir="/b", fs_license_file="/l", templateflow_home="/t")
    assert describe_app(same) == describe_app(LOCAL)
    for other in ({"output_spaces": ("T1w",)}, {"app_words": ("--anat-only",)}, {"program": ("fmriprep-21",)}):
        assert describe_app(change(**other)) != describe_app(LOCAL)


def test_a_changed_filter_is_another_setting(tmp_path):
    path = tmp_path / "filter.json"
    described = []
    for text in ("{}", '{"bold": {"task": "rest"}}'):
        path.write_text(text)
        described.append(describe_app(change(bids_filter_file=str(path))))
    assert described[0] != described[1]


@pytest.mark.parametrize(
    ("word", "remedy"),
    [
        ("--participant-label", "--participant-label"), ("--nthreads", "--cores"), ("--omp-nthreads=3", "--cores"),
        ("--mem_mb", "--memory-gb"), ("-w", "--work-dir"), ("--output-spaces", "--output-spaces"),
    ],
)
def test_words_that_are_settings_of_ours_are_refused(word, remedy):
    with pytest.raises(SettingsError, match=f"among the words for the app: give it to sparkneuro itself, by {remedy}."):
        check_words(change(app_words=("--fs-no-reconall", word)))


def test_another_app_may_have_words_of_fmripreps():
    check_words(change(family="bids-app", app_words=("-w", "{work}", "--nprocs", "3")))
