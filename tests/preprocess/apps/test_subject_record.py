"""Receipts: a subject is done while everything that its receipt says holds."""

import json
import os

import pytest

from sparkneuro.errors import FormatError
from sparkneuro.preprocess.apps.subject_files import describe_inputs, describe_outputs, list_inputs
from sparkneuro.preprocess.apps.subject_record import (
    find_change,
    finish_record,
    read_record,
    record_path,
    replaced_folder,
    set_aside,
    write_record,
)

IDENTITY = {"version": "24.1.1", "app_words": ["--anat-only"]}


@pytest.fixture
def done(tmp_path):
    """BIDS folder and derivatives with one subject done, and another subject beside it."""
    bids, output = tmp_path / "bids", tmp_path / "out"
    for name in ("sub-1/anat/sub-1_T1w.nii.gz", "sub-1/sub-1_scans.tsv", "sub-11/anat/sub-11_T1w.nii.gz"):
        (bids / name).parent.mkdir(parents=True, exist_ok=True)
        (bids / name).write_text(name)
    (bids / "T1w.json").write_text("{}")
    (bids / "participants.json").write_text("{}")
    for name in ("sub-1/anat/sub-1_desc-preproc_T1w.nii.gz", "sub-1.html"):
        (output / name).parent.mkdir(parents=True, exist_ok=True)
        (output / name).write_text(name)
    finish(bids, output)
    return bids, output


def finish(bids, output):
    inputs, outputs = describe_inputs(str(bids), "1"), describe_outputs(str(output), "1")
    finish_record(str(output), "1", {"identity": IDENTITY, "inputs": inputs, "outputs": outputs})


def change(done, identity=IDENTITY):
    bids, output = done
    return find_change(str(output), "1", str(bids), identity)


def test_a_subject_is_done_while_nothing_changes(done):
    assert change(done) == ""
    (done[0] / "sub-11" / "anat" / "sub-11_T1w.nii.gz").write_text("changed")
    (done[0] / "participants.json").write_text('{"age": {}}')
    (done[1] / "sub-11.html").touch()
    assert change(done) == ""


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (lambda bids, out: (bids / "sub-1/sub-1_scans.tsv").write_text("acq"), "its raw file sub-1/sub-1_scans.tsv has changed"),
        (lambda bids, out: (bids / "sub-1/sub-1_scans.tsv").unlink(), "sub-1/sub-1_scans.tsv is gone among its raw files"),
        (lambda bids, out: (bids / "T2w.json").touch(), "T2w.json is new among its raw files"),
        (lambda bids, out: (out / "sub-1.html").write_text("SUB-1.html"), "sub-1.html is missing or has changed"),
        (lambda bids, out: (out / "sub-1.html").unlink(), "sub-1.html is missing or has changed"),
        (lambda bids, out: (out / ".sparkneuro/sub-1.json").write_text('{"iden'), "it is new"),
        (lambda bids, out: (out / ".sparkneuro/sub-1.json").unlink(), "it is new"),
    ],
)
def test_each_change_is_named(done, act, reason):
    act(*done)
    assert change(done) == reason


def test_a_change_of_time_is_none_when_the_content_is_the_same(done):
    os.utime(done[0] / "sub-1/anat/sub-1_T1w.nii.gz")
    assert change(done) == ""


def test_other_settings_are_named(done):
    assert change(done, {**IDENTITY, "version": "25.0.0", "app_words": []}) == "it was done with other version, app_words"


def test_what_was_begun_is_no_receipt(done):
    bids, output = done
    os.remove(record_path(str(output), "1"))
    write_record(str(output), "1", {"identity": IDENTITY}, ".begun.json")
    assert change(done) == "it was begun and not finished"
    finish(bids, output)
    assert change(done) == "" and read_record(str(output), "1", ".begun.json") is None


def test_what_is_set_aside_is_kept_until_the_subject_is_done(done):
    bids, output = done
    set_aside(str(output), "1", ["sub-1.html", "sub-1/absent.tsv"])
    kept = os.path.join(replaced_folder(str(output), "1"), "sub-1.html")
    assert not (output / "sub-1.html").exists() and open(kept).read() == "sub-1.html"
    finish(bids, output)
    assert not os.path.exists(kept)


def test_a_link_to_nothing_is_one_sentence(done):
    bids, _ = done
    (bids / "sub-1" / "anat" / "sub-1_T2w.nii.gz").symlink_to("../../.git/annex/objects/absent")
    with pytest.raises(FormatError, match="sub-1_T2w.nii.gz: a link to a file that is not there; fetch it first"):
        list_inputs(str(bids), "1")


def test_a_receipt_is_a_json_that_others_can_read(done):
    content = json.loads((done[1] / ".sparkneuro" / "sub-1.json").read_text())
    assert set(content["outputs"]) == {"sub-1.html", "sub-1/anat/sub-1_desc-preproc_T1w.nii.gz"}
    assert set(content["inputs"]) == {"T1w.json", "sub-1/anat/sub-1_T1w.nii.gz", "sub-1/sub-1_scans.tsv"}
