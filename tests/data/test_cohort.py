import json

import pytest

from sparkneuro.data.cohort import (
    Dataset,
    find_participants,
    join_participants,
    name_datasets,
    read_participants,
    write_participants,
)
from sparkneuro.errors import FormatError


def describe(folder, content):
    folder.mkdir(parents=True)
    (folder / "dataset_description.json").write_text(content)
    return str(folder)


def test_names_come_from_descriptions_and_folders_and_are_unique(tmp_path):
    sources = [
        describe(tmp_path / "a", json.dumps({"Name": "Movie  watching\n"})), describe(tmp_path / "b", json.dumps({"Name": ""})),
        describe(tmp_path / "c" / "d", json.dumps({"Name": "Movie watching"})), str(tmp_path / "rest.voxels"), "s3://bucket/b",
    ]  # fmt: skip
    datasets = name_datasets(sources, ["bids", "bids", "bids", "voxels", "voxels"])
    assert [dataset.name for dataset in datasets] == ["Movie watching", "b", "Movie watching (2)", "rest", "b (2)"]
    assert [dataset.label for dataset in datasets] == ["ds01", "ds02", "ds03", "ds04", "ds05"]


def test_data_sets_that_have_joined_keep_their_labels():
    known = [Dataset("ds01", "a", "/a", "voxels"), Dataset("ds02", "b", "/b", "voxels")]
    datasets = name_datasets(["/x/b", "/b"], ["voxels", "voxels"], known)
    assert datasets == [Dataset("ds03", "b (2)", "/x/b", "voxels"), known[1]]


def test_subjects_have_labels_of_letters_and_digits():
    assert Dataset("ds12", "x", "/x", "bids").subject("pilot-03_b") == "ds12subpilot03b"


def test_a_damaged_description_is_named(tmp_path):
    with pytest.raises(FormatError, match="dataset_description.json: this is no JSON object"):
        name_datasets([describe(tmp_path / "a", "{")], ["bids"])


def test_participants_are_found_for_derivatives_and_for_tables(tmp_path):
    (tmp_path / "participants.tsv").write_text("participant_id\tage\nsub-01\t31\nsub-02\n")
    for source, run in (
        (str(tmp_path), ""), (str(tmp_path / "derivatives/fmriprep"), ""),
        ("/elsewhere/t.voxels", f"{tmp_path}/sub-01/func/sub-01_bold.nii.gz"),
        ("/elsewhere/t.voxels", f"{tmp_path}/derivatives/fmriprep/sub-01/func/sub-01_bold.nii.gz"),
    ):  # fmt: skip
        assert find_participants(source, run) == {"01": {"age": "31"}, "02": {"age": "n/a"}}
    assert find_participants("/elsewhere/t.voxels") == {}


def test_participants_of_all_data_sets_share_their_columns(tmp_path):
    one, two = Dataset("ds01", "One", "/1", "bids"), Dataset("ds02", "Two", "/2", "bids")
    known = {"ds01": {"01": {"age": "31", "dataset": "old"}}, "ds02": {"01": {"hand": "left"}}}
    rows = join_participants([(two, "01"), (one, "01"), (one, "02")], known)
    write_participants(str(tmp_path / "p.tsv"), rows)
    assert (tmp_path / "p.tsv").read_text().splitlines() == [
        "participant_id\tdataset\tdataset_name\tsource_participant_id\tage\thand",
        "sub-ds01sub01\tds01\tOne\tsub-01\t31\tn/a",
        "sub-ds01sub02\tds01\tOne\tsub-02\tn/a\tn/a",
        "sub-ds02sub01\tds02\tTwo\tsub-01\tn/a\tleft",
    ]
    assert read_participants(str(tmp_path / "p.tsv"))["ds02sub01"]["hand"] == "left"


def test_a_table_of_something_else_is_refused(tmp_path):
    (tmp_path / "participants.tsv").write_text("name\tage\nx\t3\n")
    with pytest.raises(FormatError, match="the column participant_id is missing; it has name, age"):
        read_participants(str(tmp_path / "participants.tsv"))
