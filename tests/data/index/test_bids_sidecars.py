import json

import pytest

from sparkneuro.data.bids import parse_name
from sparkneuro.data.index.bids_sidecars import Sidecars
from sparkneuro.errors import FormatError

IMAGE = "sub-01/ses-a/func/sub-01_ses-a_task-rest_run-1_bold.nii.gz"


def describe(jsons, image=IMAGE):
    """Repetition time, slice timing, sidecar and disputes of an image among JSON files."""
    sidecars = Sidecars("/d")
    for name, content in jsons.items():
        sidecars.add(name, *parse_name(name), content if isinstance(content, bytes) else json.dumps(content).encode())
    t_r, slice_timing, sidecar = sidecars.describe(image, *parse_name(image))
    return t_r, slice_timing, sidecar and json.loads(sidecar), sidecars.disputes


@pytest.mark.parametrize(
    "name",
    ["bold.json", "task-rest_bold.json", "sub-01/sub-01_bold.json", "sub-01/ses-a/run-1_bold.json", f"{IMAGE[:-7]}.json"],
)
def test_a_json_holds_for_the_names_that_have_its_suffix_and_entities(name):
    assert describe({name: {"X": 1}})[2] == {"X": 1}


@pytest.mark.parametrize(
    "name",
    [
        "task-motor_bold.json", "sbref.json", "sub-01/ses-b/sub-01_bold.json", "sub-02/bold.json", "sub-01/ses-a/anat/bold.json",
        "acq-hi_bold.json", "sub-01/ses-a/func/sub-01_ses-a_task-rest_run-01_bold.json", "sub-01/ses-a/func/deeper/bold.json",
    ],
)
def test_a_json_of_other_names_and_other_folders_does_not_hold(name):
    assert describe({name: {"X": 1}}) == (None, None, None, [])


def test_the_nearest_level_wins_field_by_field():
    *timing, sidecar, disputes = describe({
        "bold.json": {"RepetitionTime": 4, "A": 0, "B": 0, "C": 0, "D": 0},
        "sub-01/sub-01_bold.json": {"RepetitionTime": 3, "A": 1, "B": 1, "C": 1},
        "sub-01/ses-a/task-rest_bold.json": {"A": 2, "B": 2, "SliceTiming": [0, 0.25, 1]},
        IMAGE.replace("nii.gz", "json"): {"A": 3},
    })
    assert sidecar == {"RepetitionTime": 3, "A": 3, "B": 2, "C": 1, "D": 0, "SliceTiming": [0, 0.25, 1]}
    assert timing == [3.0, [0.0, 0.25, 1.0]] and disputes == []


def test_within_a_level_the_name_with_all_entities_of_another_overrides_it():
    first, second, third = "task-rest_run-1_bold.json", "task-rest_bold.json", "bold.json"
    jsons = {first: {"A": 1, "C": 1}, third: {"A": 3, "D": 3}, second: {"A": 2, "B": 2}}
    assert describe(jsons)[2:] == ({"A": 1, "B": 2, "C": 1, "D": 3}, [])


def test_of_two_names_that_disagree_neither_is_believed_and_both_are_told():
    jsons = {"bold.json": {"A": 0}, "task-rest_bold.json": {"A": 1, "B": 1, "C": 9}, "run-1_bold.json": {"A": 2, "B": 1}}
    *_, sidecar, disputes = describe(jsons)
    assert sidecar == {"B": 1, "C": 9}
    assert disputes == ["/d: run-1_bold.json and task-rest_bold.json disagree on A of the same files; it is left out."]


@pytest.mark.parametrize("name", ["task-rest_run-1_bold.json", "sub-01/bold.json"])
def test_a_dispute_is_settled_by_a_name_with_the_entities_of_both_and_by_a_lower_level(name):
    jsons = {"task-rest_bold.json": {"A": 1}, "run-1_bold.json": {"A": 2}, name: {"A": 3}}
    assert describe(jsons)[2:] == ({"A": 3}, [])


@pytest.mark.parametrize("value", ["2", True, None, [2], float("nan"), 10**400])
def test_a_timing_that_is_no_number_is_none(value):
    assert describe({"bold.json": {"RepetitionTime": value, "SliceTiming": [0.5, value]}})[:2] == (None, None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "/d/bold.json: this is not valid JSON"), (b"\xff\xfe{", "/d/bold.json: this is not valid JSON"),
        (b"[1]", "/d/bold.json: a sidecar is a JSON object; this one is a list"), (b"", "not valid JSON"),
    ],
)
def test_a_damaged_json_is_refused_where_it_holds_for_an_image(content, message):
    assert describe({"sbref.json": content}) == (None, None, None, [])
    with pytest.raises(FormatError, match=message):
        describe({"bold.json": content})


def test_json_that_begins_with_a_byte_order_mark_is_read():
    assert describe({"bold.json": b'\xef\xbb\xbf{"A": "\\u00e9"}'})[2] == {"A": "é"}
