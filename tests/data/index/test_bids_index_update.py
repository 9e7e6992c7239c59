"""What an index says of each file, and how little is read when little has changed."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from bids_trees import write_fmriprep, write_raw, write_tree  # noqa: E402

from sparkneuro.data.bids import parse_name  # noqa: E402
from sparkneuro.data.index import bids_sidecars  # noqa: E402
from sparkneuro.data.index.bids_datasets import find_datasets  # noqa: E402
from sparkneuro.data.index.bids_index_file import read_index, write_index  # noqa: E402
from sparkneuro.data.index.bids_index_update import update_index  # noqa: E402
from sparkneuro.errors import FormatError  # noqa: E402

FUNC = "sub-01/ses-a/func/sub-01_ses-a_task-rest_run-01"


@pytest.fixture
def archive(tmp_path):
    """A raw data set, with what fMRIPrep made of it below."""
    raw = write_raw(tmp_path / "ds001")
    write_fmriprep(raw / "derivatives" / "fmriprep")
    return raw


@pytest.fixture
def read(monkeypatch):
    """Names of the JSON files that were read, as they are read."""
    names, read_many = [], bids_sidecars.read_many

    def count(root, wanted):
        names.extend(wanted)
        return read_many(root, wanted)

    monkeypatch.setattr(bids_sidecars, "read_many", count)
    return names


def index(*folders, old=None):
    """Update an index of folders and what is below."""
    return update_index(find_datasets(list(map(str, folders)), derivatives=True), old)


def rows_of(table, *columns):
    """The named columns of each file, by its path below the archive; one column alone as it is."""
    rows = {os.path.relpath(row["path"], table["root"][0].as_py()): row for row in table.to_pylist()}
    return {name: row[columns[0]] if len(columns) == 1 else tuple(row[key] for key in columns) for name, row in rows.items()}


def counts_of(update):
    return update.n_new, update.n_changed, update.n_unchanged, update.n_removed


def bytes_of(table, tmp_path):
    """The file that a table becomes."""
    write_index(str(tmp_path / "written.parquet"), table)
    return (tmp_path / "written.parquet").read_bytes()


def test_every_file_has_its_row_with_place_size_time_and_entities(archive):
    table = index(archive).table
    stats = {name: os.stat(archive / name) for name in rows_of(table, "path")}
    assert len(stats) == 18 + 9 and rows_of(table, "path") == {name: str(archive / name) for name in stats}
    assert rows_of(table, "size", "modified") == {name: (stat.st_size, stat.st_mtime_ns) for name, stat in stats.items()}
    for name, row in rows_of(table, *table.column_names).items():
        row = dict(zip(table.column_names, row, strict=True))
        entities = {**row, **dict(row["extra_entities"] or ())}
        found = {key: str(entities.get(key)) for key in parse_name(name)[0]}
        assert found == {key: value.lstrip("0") if key == "run" else value for key, value in parse_name(name)[0].items()}
        assert row["suffix"] == parse_name(name)[1] and row["extension"] == name[name.index(".") :]
    words = rows_of(table, "dataset", "datatype", "run", "res", "desc", "space")
    standard = f"derivatives/fmriprep/{FUNC}_space-MNI152NLin2009cAsym_res-2_desc-preproc_bold.nii.gz"
    assert words[standard] == ("ds001/derivatives/fmriprep", "func", 1, "2", "preproc", "MNI152NLin2009cAsym")
    assert words["sub-02/anat/sub-02_T1w.nii.gz"] == ("ds001", "anat", None, None, None, None)


def test_the_sidecar_of_an_image_has_the_inheritance_of_its_data_set_resolved(archive):
    table = index(archive).table
    timing, sidecars = rows_of(table, "repetition_time", "slice_timing"), rows_of(table, "sidecar")
    assert timing[f"{FUNC}_bold.nii.gz"] == (3, [0, 0.5, 1, 1.5])
    assert json.loads(sidecars[f"{FUNC}_bold.nii.gz"])["Manufacturer"] == "T"
    assert timing["sub-01/ses-b/func/sub-01_ses-b_task-motor_bold.nii.gz"] == (0.8, None)
    standard = f"derivatives/fmriprep/{FUNC}_space-MNI152NLin2009cAsym_res-2_desc-preproc_bold.nii.gz"
    assert timing[standard] == (2.5, None) and json.loads(sidecars[standard])["SkullStripped"] is True
    assert not any(sidecar for name, sidecar in sidecars.items() if ".nii" not in name)


@pytest.mark.processes
def test_entities_and_sidecars_are_those_of_pybids(archive):
    bids = pytest.importorskip("bids")
    layout = bids.BIDSLayout(archive, validate=False, derivatives=archive / "derivatives" / "fmriprep")
    table = index(archive).table
    sidecars, images = rows_of(table, "sidecar"), 0
    short = {"subject": "sub", "session": "ses", "acquisition": "acq", "res": "res", "run": "run", "task": "task"}
    entities = rows_of(table, "datatype", "suffix", "extension", "space", "desc", *short.values())
    for file in layout.get(extension=[".nii.gz"]):
        name, theirs = os.path.relpath(file.path, archive), file.get_entities()
        keys = ("datatype", "suffix", "extension", "space", "desc", *short)
        assert entities[name] == tuple(theirs.get(key) for key in keys), name
        if "res-2" not in name:  # of two JSON files of one level pybids takes either
            assert json.loads(sidecars[name] or "{}") == file.get_metadata(), name
        images += 1
    assert images == 9


def test_a_second_run_reads_nothing_and_gives_the_same_bytes(archive, read, tmp_path):
    first = index(archive)
    assert counts_of(first) == (27, 0, 0, 0) and first.n_read == len(read) == 10
    read.clear()
    second = index(archive, old=first.table)
    assert counts_of(second) == (0, 0, 27, 0) and second.n_read == len(read) == 0
    assert second.table.equals(first.table) and bytes_of(second.table, tmp_path) == bytes_of(first.table, tmp_path)


def touch(path, content):
    """Write other content at another time."""
    before = path.stat().st_mtime_ns
    path.write_text(content)
    os.utime(path, ns=(before + 10**9, before + 10**9))


CHANGES = {
    "a sidecar": (lambda root: touch(root / f"{FUNC}_bold.json", '{"RepetitionTime": 9}'), (0, 1, 26, 0), [f"{FUNC}_bold.json"]),
    "a sidecar at the top": (lambda root: touch(root / "task-rest_bold.json", "{}"), (0, 1, 26, 0), ["task-rest_bold.json"]),
    "an image": (lambda root: touch(root / f"{FUNC}_bold.nii.gz", "longer"), (0, 1, 26, 0), []),
    "a text": (lambda root: touch(root / "participants.tsv", "participant_id\n"), (0, 1, 26, 0), []),
    "a new image": (lambda root: write_tree(root, {"sub-02/anat/sub-02_T2w.nii.gz": "t2"}), (1, 0, 27, 0), []),
    "a new subject": (
        lambda root: write_tree(root, {"sub-00/func/sub-00_task-rest_bold.nii": "", "sub-00/sub-00_bold.json": {"A": 1}}),
        (2, 0, 27, 0), ["sub-00/sub-00_bold.json"],
    ),
    "a new sidecar at the top": (lambda root: write_tree(root, {"bold.json": {"A": 5}}), (1, 0, 27, 0), ["bold.json"]),
    "no sidecar at the top": (lambda root: (root / "T1w.json").unlink(), (0, 0, 26, 1), []),
    "no sidecar": (lambda root: (root / f"{FUNC}_bold.json").unlink(), (0, 0, 26, 1), []),
    "no subject": (lambda root: shutil.rmtree(root / "sub-01"), (0, 0, 19, 8), []),
    "no derivatives": (lambda root: shutil.rmtree(root / "derivatives"), (0, 0, 18, 9), []),
    "other time, same content": (lambda root: os.utime(root / "T1w.json", ns=(5, 5)), (0, 1, 26, 0), ["T1w.json"]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_after_a_change_what_is_new_is_read_and_the_index_is_that_of_a_first_run(archive, read, tmp_path, change):
    first = index(archive)
    apply, counts, names = CHANGES[change]
    apply(archive)
    read.clear()
    second = index(archive, old=first.table)
    assert (counts_of(second), read) == (counts, names)
    anew = index(archive).table
    assert second.table.equals(anew) and not second.table.equals(first.table)
    assert bytes_of(second.table, tmp_path) == bytes_of(anew, tmp_path)


def test_data_sets_come_and_go_and_change_their_names(archive, tmp_path, read):
    other = write_raw(tmp_path / "b" / "ds001")
    both = index(archive, other, old=index(archive).table)
    assert counts_of(both) == (18, 0, 27, 0) and both.table.equals(index(other, archive).table)
    names = set(both.table["dataset"].to_pylist())
    assert len(names) == 3 and {"b/ds001", f"{tmp_path.name}/ds001"} < names
    read.clear()
    assert counts_of(index(other, old=both.table)) == (0, 0, 18, 27) and read == []


def test_a_link_without_content_has_no_size_and_is_counted(archive):
    stem = "sub-02/func/sub-02_task-rest_run-7_bold"
    write_tree(archive, {f"{stem}.nii.gz": None, f"{stem}.json": None})
    update = index(archive)
    found = rows_of(update.table, "size", "modified", "repetition_time")
    assert update.n_absent == 2 and found[f"{stem}.nii.gz"] == (None, None, 1)
    again = index(archive, old=update.table)
    assert again.n_absent == 2 and counts_of(again) == (0, 0, 29, 0)
    (archive / ".git" / "annex").mkdir(parents=True)
    (archive / ".git" / "annex" / "sub-02-func-sub-02_task-rest_run-7_bold.json").write_text('{"RepetitionTime": 6}')
    fetched = index(archive, old=update.table)
    assert counts_of(fetched) == (0, 1, 28, 0) and fetched.table.equals(index(archive).table)
    assert rows_of(fetched.table, "repetition_time")[f"{stem}.nii.gz"] == 6


def test_sidecars_that_disagree_are_told(archive):
    write_tree(archive, {"acq-hi_bold.json": {"TaskName": "other", "RepetitionTime": 8}})
    sentence = f"{archive}: acq-hi_bold.json and task-rest_bold.json disagree on TaskName of the same files; it is left out."
    assert index(archive).disputes == [sentence]  # on RepetitionTime the sidecar of the file itself decides


def test_labels_that_are_no_number_and_unknown_entities_are_kept_aside(tmp_path):
    name = "sub-1_run-1b_echo-99999999999_from-T1w_flip-2_bold.nii"
    table = index(write_tree(tmp_path, {f"sub-1/func/{name}": ""})).table
    [row] = table.to_pylist()
    assert (row["run"], row["echo"], row["flip"]) == (None, None, 2)
    assert dict(row["extra_entities"]) == {"run": "1b", "echo": "99999999999", "from": "T1w"}


@pytest.mark.parametrize(("content", "message"), [("{", "bold.json: this is not valid JSON"), ("[]", "this one is a list")])
def test_a_damaged_sidecar_is_refused_by_its_path(archive, content, message):
    first = index(archive)
    touch(archive / f"{FUNC}_bold.json", content)
    for old in (None, first.table):
        with pytest.raises(FormatError, match=message) as caught:
            index(archive, old=old)
        assert str(archive / FUNC) in str(caught.value) and "\n" not in str(caught.value)


def test_json_that_holds_for_no_image_may_be_what_it_likes(archive, read):
    write_tree(archive, {"sub-01/sub-01_list.json": "[1]", "task-rest_events.json": "{"})
    update = index(archive)
    assert "sub-01/sub-01_list.json" in read and "task-rest_events.json" not in read
    assert index(archive, old=update.table).table.equals(update.table)


def test_a_name_that_is_no_text_is_refused(tmp_path):
    write_tree(tmp_path, {"sub-1/func/sub-1_bold.nii": ""})
    with open(os.fsencode(tmp_path) + b"/sub-1/\xff.nii", "w"):
        pass
    with pytest.raises(FormatError, match="is not valid UTF-8; rename the file"):
        index(tmp_path)


def test_an_index_of_other_columns_is_made_anew(archive, tmp_path):
    whole = index(archive).table
    narrow = whole.drop_columns(["cohort"])
    assert index(archive, old=narrow).table.equals(whole)
    write_index(str(tmp_path / "x.parquet"), whole)
    assert read_index(str(tmp_path / "x.parquet")).equals(whole)
