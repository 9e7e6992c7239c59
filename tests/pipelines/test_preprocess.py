"""The command as a whole, with a stand-in for fMRIPrep. But for one, the tests call the tasks one by one in this process."""

import gzip
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest

from sparkneuro import cli
from sparkneuro.data.storage.folder_lock import hold_lock
from sparkneuro.errors import PreprocessingError, SettingsError
from sparkneuro.pipelines import preprocess, preprocess_plan, preprocess_program, preprocess_resources, preprocess_task

BOLD = "sub-{0}/func/sub-{0}_task-rest_space-MNI152NLin2009cAsym_desc-preproc_bold.nii.gz"
CONFOUNDS = "sub-{0}/func/sub-{0}_task-rest_desc-confounds_timeseries.tsv"
SOON = 0.3 / 3600
"""Hours."""

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the processes from /proc"),
]


@pytest.fixture
def jobs(call_here):
    """Calls the tasks in this process instead of Spark's; the list tells the names of those that were called, and of whom."""
    return call_here(lambda name, job: (name, job["subject"]))


def receipt(output, subject):
    return json.loads(Path(output, ".sparkneuro", f"sub-{subject}.json").read_text())


def has_receipt(output, subject):
    return Path(output, ".sparkneuro", f"sub-{subject}.json").exists()


def snapshot(folder):
    files = [path for path in Path(folder).rglob("*") if path.is_file() and not path.name.endswith("lock")]
    return {path: path.stat().st_mtime_ns for path in files}


def subjects_run(jobs):
    names = [subject for name, subject in jobs if name == "run_subject"]
    del jobs[:]
    return names


def wait_for(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not (answer := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return answer


@pytest.fixture
def short_grace(monkeypatch):
    """Half a second between SIGTERM and SIGKILL."""
    monkeypatch.setattr(preprocess_plan, "GRACE", 0.5)


def test_every_subject_is_done_once(make_settings, stand_in, jobs):
    settings = make_settings(app_options="--fs-no-reconall", app_words=("--dummy-scans", "4"))
    assert "3 done, 0 skipped (done before), 0 failed" in preprocess.run(settings, None)
    assert subjects_run(jobs) == ["01", "02", "10"]
    words = stand_in.words("01")
    assert words[words.index("--fs-license-file") + 2:] == ["--fs-no-reconall", "--dummy-scans", "4"]
    written = receipt(settings.output, "02")
    assert len([name for name in written["outputs"] if name.endswith("_desc-preproc_bold.nii.gz")]) == 2
    assert not [name for name in written["outputs"] if "sub-02" not in name]
    assert sorted(written["inputs"])[-1] == "task-rest_bold.json" and written["identity"]["version"] == "24.1.1"
    log = Path(settings.output, "logs", "sub-01.log").read_text()
    assert "attempt 1 of 1" in log and "fMRIPrep stand-in: sub-01, ok" in log and "done (after" in log
    before = snapshot(settings.output)
    assert "0 done, 3 skipped (done before), 0 failed" in preprocess.run(settings, None)
    assert not subjects_run(jobs) and snapshot(settings.output) == before


def test_the_stand_in_writes_what_nilearn_reads_as_fmripreps(make_settings, stand_in, jobs, raw):
    from nilearn.interfaces.fmriprep import load_confounds, load_confounds_strategy

    settings = make_settings(participant_label=("sub-01",))
    preprocess.run(settings, None)
    path = Path(settings.output, BOLD.format("01"))
    bold, mask = nibabel.load(path), nibabel.load(str(path).replace("preproc_bold", "brain_mask"))
    np.testing.assert_array_equal(bold.get_fdata(), nibabel.load(next((raw / "sub-01").rglob("*.nii.gz"))).get_fdata())
    first = bold.get_fdata()[..., 0]
    np.testing.assert_array_equal(mask.get_fdata(), first > first.mean() / 2)
    assert np.array_equal(mask.affine, bold.affine)
    every = ("motion", "high_pass", "wm_csf", "global_signal", "compcor", "scrub")
    confounds, kept = load_confounds(str(path), strategy=every, scrub=0, n_compcor=2, global_signal="full", wm_csf="full")
    assert len(confounds) == 30 and {"rot_z_derivative1_power2", "cosine01", "a_comp_cor_01"} < set(confounds)
    assert 15 not in kept  # the jerk
    load_confounds_strategy(str(path), denoise_strategy="compcor")


def test_a_subject_that_fails_is_told_with_its_last_lines_after_the_others_are_done(make_settings, stand_in, jobs):
    stand_in.behave(s02=["crash"], s10=["killed"])
    settings = make_settings()
    with pytest.raises(PreprocessingError, match=r"1 done, 0 skipped \(done before\), 2 failed") as caught:
        preprocess.run(settings, None)
    lines = str(caught.value).splitlines()
    log = f"(log: {settings.output}/logs/sub-02.log)"
    assert lines[1] == f"  sub-02 failed: exit code 3 {log}"
    tail = ["fMRIPrep stand-in: sub-02, crash", "Traceback (most recent call last):", "ValueError: no T1w image for sub-02"]
    assert lines[2:5] == [f"    | {line}" for line in tail]
    assert lines[5].startswith("  sub-10 failed: it was killed by SIGKILL, as the system does when memory is short")
    stand_in.behave()
    assert "2 done, 1 skipped" in preprocess.run(settings, None)
    assert subjects_run(jobs)[-2:] == ["02", "10"]


def test_the_command_line_exits_with_1_when_a_subject_failed(make_settings, stand_in, jobs, capsys, monkeypatch):
    monkeypatch.setattr(cli.session, "start_session", lambda app_name, cores_per_task: None)
    monkeypatch.setattr(cli.session, "stop_session", lambda spark: None)
    settings = make_settings()
    words = ["preprocess", settings.bids_dir, "--output", settings.output, "--command", settings.command, "--cores", "1"]
    words += ["--fs-license-file", settings.fs_license_file, "--min-free-gb", "0", "--participant-label", "01"]
    stand_in.behave(s01=["crash"])
    assert cli.main([*words, "--", "--fs-no-reconall"]) == 1
    assert "sub-01 failed: exit code 3" in capsys.readouterr().err
    stand_in.behave()
    assert cli.main([*words, "--", "--fs-no-reconall"]) == 0
    assert "1 done, 0 skipped (done before), 0 failed" in capsys.readouterr().out
    assert stand_in.words("01")[-1] == "--fs-no-reconall"


def test_an_attempt_that_failed_is_made_again_and_both_are_in_the_log(make_settings, stand_in, jobs):
    stand_in.behave(s01=["crash", "ok"])
    settings = make_settings(retries=2, participant_label=("01",))
    assert "1 done" in preprocess.run(settings, None)
    log = Path(settings.output, "logs", "sub-01.log").read_text()
    told = [line.partition("sub-01, ")[2] for line in log.splitlines() if line.startswith("=== ") and ", attempt" in line]
    assert [line.partition(":")[0] for line in told] == ["attempt 1 of 3"] * 2 + ["attempt 2 of 3"] * 2
    assert told[1].startswith("attempt 1 of 3: exit code 3 (after") and told[3].startswith("attempt 2 of 3: done (after")
    assert log.index("no T1w image") < log.index("sub-01, ok")


def test_attempts_come_to_an_end(make_settings, stand_in, jobs):
    stand_in.behave(s01=["crash"])
    with pytest.raises(PreprocessingError, match="sub-01 failed after 3 attempts: exit code 3"):
        preprocess.run(make_settings(retries=2, participant_label=("01",)), None)
    assert len(stand_in.pids("run")) == 3


@pytest.mark.parametrize("behaviour", ["hang", "stubborn", "grandchild"])
def test_a_subject_that_takes_too_long_is_ended_with_all_its_processes(make_settings, stand_in, jobs, short_grace, behaviour):
    stand_in.behave(s01=[behaviour])
    with pytest.raises(PreprocessingError, match="took longer than --timeout .* and was terminated"):
        preprocess.run(make_settings(timeout=3 * SOON, participant_label=("01",)), None)
    assert len(stand_in.pids()) == {"hang": 1, "stubborn": 2, "grandchild": 2}[behaviour] and not stand_in.left()


def test_what_an_app_leaves_running_at_its_end_is_ended(make_settings, stand_in, jobs):
    stand_in.behave(s01=["leave"])
    assert "1 done" in preprocess.run(make_settings(participant_label=("01",)), None)
    assert len(stand_in.pids("daemon")) == 1 and not stand_in.left()


def test_a_subject_that_takes_too_much_memory_is_terminated(make_settings, stand_in, jobs, short_grace):
    stand_in.behave(s01=["eat"])
    with pytest.raises(PreprocessingError, match=r"it took 0\.\d+ GB, more than --memory-gb 0.1, and was terminated"):
        preprocess.run(make_settings(memory_gb=0.1, participant_label=("01",)), None)
    assert not stand_in.left()


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        ("half", "exit code 1"),
        ("half-ok", "exit code 0, but .*_desc-preproc_bold.nii.gz: the file ends before its gzip checksum"),
        ("empty", "exit code 0, but sub-01/func/.*_desc-preproc_bold.nii.gz is empty"),
        ("no-confounds", r"exit code 0, but there is no confounds table \(.*_timeseries.tsv\) of sub-01_task-rest"),
        ("no-report", "exit code 0, but there is no report sub-01.html"),
    ],
)
def test_half_an_output_is_never_done_but_kept_to_go_on_from(make_settings, stand_in, jobs, behaviour, message):
    stand_in.behave(s01=[behaviour, "ok"])
    settings = make_settings(participant_label=("01",))
    with pytest.raises(PreprocessingError, match=message):
        preprocess.run(settings, None)
    assert not has_receipt(settings.output, "01") and Path(settings.output, BOLD.format("01")).exists()
    assert Path(f"{settings.output}-work", "sub-01", "node.pklz").exists()
    assert "it was begun and not finished" in preprocess.run(make_settings(participant_label=("01",), dry_run=True), None)
    assert "1 done" in preprocess.run(settings, None)
    assert has_receipt(settings.output, "01")


def rewrite(path):
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[400] ^= 1
    path.write_bytes(gzip.compress(bytes(content), 1))


def keep_size(path):
    stat, content = path.stat(), bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda bids, out: rewrite(next((bids / "sub-02").rglob("*run-1_bold.nii.gz"))), "its raw file sub-02/.* has changed"),
        (lambda bids, out: (bids / "sub-02" / "func" / "sub-02_task-a_bold.json").write_text("{}"), "is new among its raw files"),
        (lambda bids, out: keep_size(next((out / "sub-02").rglob("*run-2*preproc_bold.nii.gz"))), "is missing or has changed"),
        (lambda bids, out: next((out / "sub-02").rglob("*.tsv")).unlink(), "timeseries.tsv is missing or has changed"),
        (lambda bids, out: (out / "sub-02.html").write_text(""), "sub-02.html is missing or has changed"),
    ],
    ids=["raw file", "new raw file", "damaged output", "missing output", "empty report"],
)
def test_a_subject_is_done_again_when_its_files_have_changed(make_settings, stand_in, jobs, bids, change, reason):
    settings = make_settings()
    preprocess.run(settings, None)
    subjects_run(jobs)
    change(bids, Path(settings.output))
    assert "1 done, 2 skipped" in preprocess.run(settings, None)
    assert subjects_run(jobs) == ["02"]
    log = Path(settings.output, "logs", "sub-02.log").read_text()
    assert re.search(f"=== .* sub-02 is to be done: .*{reason}", log)
    assert "3 skipped" in preprocess.run(settings, None)
    assert not Path(settings.output, ".sparkneuro", "replaced", "sub-02").exists()


def test_a_change_for_all_subjects_is_seen_and_a_mere_copy_is_none(make_settings, stand_in, jobs, bids, monkeypatch):
    settings = make_settings(participant_label=("01", "10"))
    preprocess.run(settings, None)
    subjects_run(jobs)
    for path in bids.rglob("*.nii.gz"):
        os.utime(path)  # as a copy without -p does
    others = {"memory_gb": 4.0, "retries": 1, "timeout": 9.0, "work_dir": f"{settings.output}-elsewhere"}
    more = make_settings(participant_label=("01", "10"), **others)
    assert "2 skipped" in preprocess.run(more, None) and not subjects_run(jobs)
    (bids / "task-rest_bold.json").write_text('{"RepetitionTime": 2.5, "TaskName": "rest"}')
    assert "2 done" in preprocess.run(settings, None)
    preprocess_program._ask_version.cache_clear()
    monkeypatch.setenv("STAND_IN_VERSION", "25.0.0")
    assert "2 done" in preprocess.run(settings, None)
    log = Path(settings.output, "logs", "sub-10.log").read_text()
    assert "done with other version\n" in log and f"{len(receipt(settings.output, '10')['outputs'])} files are set aside" in log
    preprocess_program._ask_version.cache_clear()


def test_outputs_of_other_settings_make_room_and_are_kept_until_the_new_ones_are_there(make_settings, stand_in, jobs):
    old, other = "MNI152NLin2009cAsym", "MNI152NLin6Asym"
    settings = make_settings(participant_label=("01",), output_spaces=(old,))
    preprocess.run(settings, None)
    stand_in.behave(s01=["crash", "ok"])
    changed = make_settings(participant_label=("01",), output_spaces=(f"{other}:res-2",))
    with pytest.raises(PreprocessingError):
        preprocess.run(changed, None)
    kept = Path(settings.output, ".sparkneuro", "replaced", "sub-01", BOLD.format("01"))
    assert kept.exists() and not Path(settings.output, BOLD.format("01")).exists()
    assert "1 done" in preprocess.run(changed, None)
    spaces = {name.partition("_space-")[2].partition("_desc")[0] for name in receipt(settings.output, "01")["outputs"]} - {""}
    assert spaces == {f"{other}_res-2"} and not kept.exists()


def test_a_dry_run_prints_what_would_be_run_and_writes_nothing(make_settings, stand_in, jobs, tmp_path):
    settings = make_settings(participant_label=("02", "10"), memory_gb=7.5, output_spaces=("MNI152NLin2009cAsym", "T1w"))
    dry = make_settings(participant_label=("02", "10"), memory_gb=7.5, output_spaces=("MNI152NLin2009cAsym", "T1w"), dry_run=True)
    before = snapshot(tmp_path)
    assert not preprocess.needs_spark(dry)
    printed = preprocess.run(dry, None).splitlines()
    assert snapshot(tmp_path) == before and not jobs and not stand_in.pids()
    assert [line for line in printed if line.startswith("#")] == ["# sub-02: it is new", "# sub-10: it is new"]
    pasted = {**os.environ, "STAND_IN": str(tmp_path / "state")}
    subprocess.run(["sh", "-ec", "\n".join(printed)], check=True, env=pasted, cwd="/", capture_output=True)
    by_hand = {subject: stand_in.words(subject) for subject in ("02", "10")}
    assert shlex.split(printed[-1])[3:] == by_hand["10"]
    shutil.rmtree(settings.output)
    stand_in.behave()
    preprocess.run(settings, None)
    assert {subject: stand_in.words(subject) for subject in by_hand} == by_hand
    assert "--nprocs 1 --omp-nthreads 1 --mem-mb 6750" in printed[-1]
    assert preprocess.run(dry, None).splitlines() == [f"# sub-{label} is done and would be skipped" for label in ("02", "10")]


def test_two_commands_on_one_output_are_refused(make_settings, stand_in, jobs):
    settings = make_settings()
    with hold_lock(preprocess_plan.lock_path(settings.output), "held"):
        for call in (preprocess.needs_spark, lambda settings: preprocess.run(settings, None)):
            with pytest.raises(SettingsError, match="another preprocessing is at work in this folder; wait for it"):
                call(settings)
    assert not jobs and "3 done" in preprocess.run(settings, None)


def test_a_subject_that_another_process_is_still_at_is_left_alone(make_settings, stand_in, jobs, monkeypatch):
    monkeypatch.setattr(preprocess_task, "WAIT", 0.0)
    settings = make_settings(participant_label=("01",))
    with hold_lock(f"{settings.output}/.sparkneuro/sub-01.lock", "held"):
        with pytest.raises(PreprocessingError, match="another process is still at work on sub-01, or has not ended yet"):
            preprocess.run(settings, None)
    assert not stand_in.pids()


def test_another_bids_app_needs_what_is_expected_and_is_described(make_settings, stand_in, jobs, monkeypatch, bids):
    monkeypatch.setenv("STAND_IN_UNDESCRIBED", "1")
    stand_in.behave(s01=["no-confounds"])
    settings = make_settings(
        app="bids-app", fs_license_file=None, participant_label=("01",), app_options="-w {work}",
        expect=("sub-{subject}/func/*.tsv",),
    )
    with pytest.raises(PreprocessingError, match=r"exit code 0, but there is no file sub-01/func/\*.tsv"):
        preprocess.run(settings, None)
    stand_in.behave()
    preprocess.run(settings, None)
    output = settings.output
    assert stand_in.words("01") == [str(bids), output, "participant", "--participant_label", "01", "-w", f"{output}-work/sub-01"]
    description = json.loads(Path(output, "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative" and description["SourceDatasets"] == [{"URL": bids.as_uri()}]
    assert description["GeneratedBy"][0]["Version"] == "24.1.1" and description["Name"].endswith(" on Rest of three")


def test_a_description_of_the_apps_own_is_left_as_it_is(make_settings, stand_in, jobs):
    settings = make_settings(participant_label=("01",))
    preprocess.run(settings, None)
    assert json.loads(Path(settings.output, "dataset_description.json").read_text())["GeneratedBy"][0]["Name"] == "fMRIPrep"


def test_marks_of_a_killed_recon_all_are_removed_for_this_subject_only(make_settings, stand_in, jobs):
    settings = make_settings(participant_label=("01",))
    marks = {
        name: Path(settings.output, "sourcedata", "freesurfer", name, "scripts", "IsRunning.lh+rh")
        for name in ("sub-01", "sub-01_ses-a", "sub-010", "sub-10")
    }
    for mark in marks.values():
        mark.parent.mkdir(parents=True)
        mark.touch()
    preprocess.run(settings, None)
    assert [name for name, mark in marks.items() if mark.exists()] == ["sub-010", "sub-10"]


def test_work_is_deleted_when_that_is_wanted_and_the_subject_is_done(make_settings, stand_in, jobs):
    stand_in.behave(s02=["crash"])
    settings = make_settings(participant_label=("01", "02"), delete_work=True)
    with pytest.raises(PreprocessingError):
        preprocess.run(settings, None)
    assert os.listdir(f"{settings.output}-work") == ["sub-02"]


def test_a_full_disk_is_said_before_a_subject_is_begun(make_settings, stand_in, jobs, monkeypatch):
    settings = make_settings(participant_label=("01",), min_free_gb=10.0)
    monkeypatch.setattr(preprocess_resources, "free_disk", lambda path: 12e9)
    with pytest.raises(SettingsError, match=r"12.0 GB are free, and 20 may be needed for 1 subject at once \(output and working"):
        preprocess.needs_spark(settings)
    monkeypatch.setattr(preprocess_resources, "free_disk", lambda path: 90e9)
    monkeypatch.setattr(preprocess_task, "free_disk", lambda path: 3e9)  # it has filled up meanwhile
    with pytest.raises(PreprocessingError, match=r"3.0 GB are free, and a subject may need 10 \(--min-free-gb\)"):
        preprocess.run(settings, None)
    assert not stand_in.pids() and "not done: " in Path(settings.output, "logs", "sub-01.log").read_text()


TASK = "import json, sys; from sparkneuro.pipelines.preprocess_task import run_subject; run_subject(json.load(sys.stdin))"


@pytest.mark.parametrize("behaviour", ["hang", "grandchild"])
def test_nothing_is_left_when_the_process_of_the_task_is_killed(make_settings, stand_in, short_grace, behaviour):
    stand_in.behave(s01=[behaviour])
    plan = preprocess_plan.make_plan(make_settings(participant_label=("01",)))
    task = subprocess.Popen([sys.executable, "-c", TASK], stdin=subprocess.PIPE)
    try:
        task.stdin.write(json.dumps(plan.make_job("01", "it is new")).encode())
        task.stdin.close()
        log = Path(plan.app.output, "logs", "sub-01.log")
        assert wait_for(lambda: log.exists() and "hanging" in log.read_text()), "the log can be followed while the app runs"
        assert len(stand_in.left()) == (2 if behaviour == "grandchild" else 1)
    finally:
        task.kill()
        task.wait()
    assert wait_for(lambda: not stand_in.left())
    assert log.read_text().endswith("terminated: its Spark task is gone\n")


@pytest.mark.engine
def test_a_driver_that_was_killed_leaves_nothing_running_and_the_next_takes_up_what_it_left(make_settings, stand_in, spark):
    stand_in.behave(s02=["hang", "ok"], s10=["hang", "ok"])
    # The session of the tests was started before this test's environment was set.
    settings = make_settings(command=f"env STAND_IN={shlex.quote(str(stand_in.folder))} {make_settings().command}")
    program = "import sys; from sparkneuro.cli import main; sys.exit(main())"
    words = [sys.executable, "-c", program, "preprocess", settings.bids_dir]
    words += ["--output", settings.output, "--command", settings.command, "--fs-license-file", settings.fs_license_file]
    words += ["--cores", "1", "--min-free-gb", "0", "--log", "off"]
    environment = {**os.environ, "SPARK_MASTER": "local[3]", "SPARK_DRIVER_MEMORY": "512m"}
    driver = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        assert wait_for(lambda: has_receipt(settings.output, "01") and len(stand_in.left()) == 2, 300)
        with pytest.raises(SettingsError, match="another preprocessing is at work"):
            preprocess.needs_spark(settings)
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    assert wait_for(lambda: not stand_in.left(), 120)
    assert "2 done, 1 skipped (done before), 0 failed" in preprocess.run(settings, spark)
    assert len(list((stand_in.folder / "pids").glob("sub-01.run-*"))) == 1
    stand_in.behave(s02=["crash"])
    Path(settings.output, "sub-02.html").unlink()
    with pytest.raises(PreprocessingError, match="0 done, 2 skipped .* 1 failed.*\n  sub-02 failed: exit code 3"):
        preprocess.run(settings, spark)
