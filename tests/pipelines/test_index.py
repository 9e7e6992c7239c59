"""The command as a whole."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sparkneuro.cli import main
from sparkneuro.data import store
from sparkneuro.data.index.bids_index_file import read_index
from sparkneuro.errors import FormatError, SettingsError
from sparkneuro.pipelines import index
from sparkneuro.pipelines.index import Settings

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data" / "index"))
from bids_trees import write_fmriprep, write_raw, write_tree  # noqa: E402


@pytest.fixture
def archive(tmp_path):
    raw = write_raw(tmp_path / "ds001")
    write_fmriprep(raw / "derivatives" / "fmriprep")
    return raw


@pytest.fixture
def output(tmp_path):
    return str(tmp_path / "bids.index.parquet")


def test_the_command_tells_what_there_is_and_what_has_changed(archive, output, capsys):
    assert main(["index", str(archive), "--derivatives", "--output", output]) == 0
    *table, empty, sentence = capsys.readouterr().out.splitlines()
    assert table[0].split() == ["data", "set", "datatype", "suffix", "task", "files", "subjects", "size"] and empty == ""
    assert ["ds001", "func", "bold", "rest", "4", "2", "19", "B"] in [line.split() for line in table]
    assert sentence.startswith(f"{output}: 27 files of 2 data sets in ")
    assert sentence.endswith(": 27 new, 0 changed, 0 unchanged, 0 removed; 10 sidecars read.")
    write_tree(archive, {"sub-09/func/sub-09_task-rest_bold.nii.gz": None})
    assert main(["index", str(archive), "--no-show", "--output", output]) == 0
    [sentence] = capsys.readouterr().out.splitlines()
    assert sentence.endswith(
        ": 1 new, 0 changed, 18 unchanged, 9 removed; 0 sidecars read; 1 link without content, to be fetched with datalad get."
    )


def test_an_index_of_unchanged_folders_is_not_written_again(archive, output, monkeypatch):
    index.run(Settings((str(archive),), output=output))
    monkeypatch.setattr(store, "open_replacement", None)
    assert "18 unchanged" in index.run(Settings((str(archive),), output=output))


def test_it_needs_no_spark(archive, output):
    assert not index.needs_spark(Settings((str(archive),), output=output))


def test_an_index_made_from_another_working_directory_is_the_same(archive, output, monkeypatch, tmp_path):
    index.run(Settings((str(archive),), output=output))
    monkeypatch.chdir(tmp_path)
    index.run(Settings(("ds001/",), output="other.parquet"))
    assert (tmp_path / "other.parquet").read_bytes() == Path(output).read_bytes()


def test_a_folder_without_description_and_sidecars_that_disagree_are_told(tmp_path, output, caplog):
    images = {f"sub-1/sub-1_task-x_run-{number}_bold.nii": "" for number in range(7)}
    rivals = {f"sub-1/run-{number}_bold.json": {"A": 2} for number in range(7)}
    folder = write_tree(tmp_path / "d", {**images, **rivals, "sub-1/task-x_bold.json": {"A": 1}})
    with caplog.at_level(logging.WARNING):
        index.run(Settings((str(folder),), output=output))
    assert f"{folder} has no dataset_description.json; its files are indexed all the same." in caplog.messages
    assert sum("disagree on A" in message for message in caplog.messages) == 5
    assert caplog.messages[-1] == "2 more sidecars disagree in this way."


def test_an_output_that_is_something_else_is_left_alone(archive, output):
    Path(output).write_text("my notes")
    with pytest.raises(FormatError, match="damaged, or no index of BIDS files; choose another file"):
        index.run(Settings((str(archive),), output=output))
    assert Path(output).read_text() == "my notes"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"output": None}, SettingsError, "the index needs a name: give one with --output"),
        ({"folders": ("/absent",)}, FormatError, "/absent: there is no such folder"),
    ],
)
def test_what_makes_no_sense_is_refused(archive, output, change, error, message):
    with pytest.raises(error, match=message):
        index.run(Settings(**{"folders": (str(archive),), "output": output, **change}))
    assert not os.path.exists(output)


def test_a_damaged_sidecar_leaves_the_old_index(archive, output):
    index.run(Settings((str(archive),), output=output))
    before = Path(output).read_bytes()
    (archive / "task-rest_bold.json").write_text("{")
    with pytest.raises(FormatError, match="task-rest_bold.json: this is not valid JSON"):
        index.run(Settings((str(archive),), output=output))
    assert Path(output).read_bytes() == before


@pytest.mark.processes
def test_a_kill_in_the_middle_leaves_the_old_index(archive, output):
    index.run(Settings((str(archive),), output=output))
    before = Path(output).read_bytes()
    pipe = archive / "sub-02" / "sub-02_bold.json"
    os.mkfifo(pipe)
    program = "import sys; from sparkneuro.cli import main; sys.exit(main(sys.argv[1:]))"
    command = subprocess.Popen([sys.executable, "-c", program, "index", str(archive), "--output", output])
    try:
        with open(pipe, "w"):  # returns when the command has opened the other end: it is reading sidecars now
            command.kill()
            assert command.wait(60) < 0
    finally:
        command.kill()
        command.wait()
    assert Path(output).read_bytes() == before and sorted(os.listdir(Path(output).parent)) == ["bids.index.parquet", "ds001"]
    pipe.unlink()
    assert "18 unchanged, 0 removed" in index.run(Settings((str(archive),), output=output))


def test_the_index_holds_the_sidecar_of_each_image(archive, output):
    index.run(Settings((str(archive),), output=output))
    images = [row for row in read_index(output).to_pylist() if row["extension"] == ".nii.gz"]
    assert len(images) == 7
    for row in images:
        assert json.loads(row["sidecar"]).get("RepetitionTime") == row["repetition_time"]
