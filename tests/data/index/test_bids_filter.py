"""Which files a filter takes, and what it says when it takes none."""

import json

import pytest

from sparkneuro.data.bids import parse_name
from sparkneuro.data.index.bids_filter import BidsFilter, describe_unmatched, find_unmatched, make_filter
from sparkneuro.data.index.bids_filter_file import KEYS
from sparkneuro.errors import FormatError, SettingsError

MNI = "MNI152NLin2009cAsym"
NAMES = (
    "sub-01_ses-a_task-rest_run-01_bold", "sub-01_ses-a_task-rest_run-2_bold", "sub-02_task-motor_acq-hi_run-1_part-mag_bold",
    "sub-03_task-rest_space-T1w_desc-preproc_bold", f"sub-03_task-rest_space-{MNI}_desc-preproc_bold",
    f"sub-03_task-rest_space-{MNI}_res-2_desc-preproc_bold", "sub-02_task-motor_acq-hi_run-1_sbref", "sub-01_ses-b_T1w",
)


def select(bids_filter, names=NAMES):
    """Places in `names` of the files that a filter takes."""
    return [place for place, name in enumerate(names) if bids_filter.matches(*parse_name(name))]


@pytest.fixture
def write_filter(tmp_path):
    """A function that writes a filter file and returns its path."""

    def write(content):
        path = tmp_path / "filter.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return str(path)

    return write


@pytest.mark.parametrize(
    ("words", "taken"),
    [
        ({}, [0, 1, 2, 3, 4, 5, 6, 7]),
        ({"participant_label": ["01"]}, [0, 1, 7]),
        ({"participant_label": ["sub-01", "02"]}, [0, 1, 2, 6, 7]),
        ({"participant_label": ["1"]}, []),
        ({"session_id": ["ses-b"]}, [7]),
        ({"task_id": ("task-rest",), "session_id": "a"}, [0, 1]),
        ({"run": [1]}, [0, 2, 6]),
        ({"run": ["run-01", "2"]}, [0, 1, 2, 6]),
        ({"space": "native"}, [0, 1, 2, 6, 7]),
        ({"space": MNI}, [4, 5]),
        ({"space": f"{MNI}:res-2"}, [5]),
        ({"space": f"{MNI}:res-02"}, [5]),
        ({"space": f"{MNI}:res-native"}, [4]),
        ({"space": ("T1w", "native"), "task_id": ["rest"]}, [0, 1, 3]),
    ],
)
def test_a_file_is_taken_when_every_option_names_a_label_of_it(words, taken):
    assert select(make_filter(**words)) == taken


@pytest.mark.parametrize(
    ("query", "taken"),
    [
        ({"bold": {"task": "rest", "session": "a", "run": [1]}}, [0, 6, 7]),
        ({"bold": {"session": None}}, [2, 3, 4, 5, 6, 7]),
        ({"bold": {"session": "Query.NONE", "acquisition": "Query.NONE"}}, [3, 4, 5, 6, 7]),
        ({"bold": {"acquisition": "*"}, "t1w": {"session": "a"}}, [2, 6]),
        ({"bold": {"acq": "Query.ANY"}, "sbref": {"run": [2]}}, [2, 7]),
        ({"bold": {"part": ["mag", None], "datatype": "func", "extension": ".nii.gz"}}, [0, 1, 2, 3, 4, 5, 6, 7]),
        ({"bold": {"session": "Query.OPTIONAL", "subject": "sub-01"}}, [0, 1, 6, 7]),
        ({"bold": {"space": f"{MNI}:res-2"}, "t1w": {}}, [5, 6, 7]),
        ({"bold": {"suffix": "sbref"}}, [6, 7]),
        ({"bold": {"run": ["*", None], "resolution": 2}}, [5, 6, 7]),
        ({}, [0, 1, 2, 3, 4, 5, 6, 7]),
    ],
)
def test_a_filter_file_speaks_of_the_files_of_its_modalities(write_filter, query, taken):
    assert select(make_filter(bids_filter_file=write_filter(query))) == taken


def test_options_and_filter_file_hold_together(write_filter):
    path = write_filter({"bold": {"run": 1}})
    assert select(make_filter(participant_label=["01", "03"], bids_filter_file=path)) == [0, 7]


def test_datatype_and_extension_count_where_they_are_known(write_filter):
    bids_filter = make_filter(bids_filter_file=write_filter({"bold": {"datatype": "func", "extension": "nii.gz"}}))
    assert bids_filter.matches({"sub": "1", "datatype": "func", "extension": "nii.gz"}, "bold")
    assert not bids_filter.matches({"sub": "1", "datatype": "perf"}, "bold")
    assert not bids_filter.matches({"sub": "1", "extension": "nii"}, "bold")


def test_a_filter_is_a_value():
    assert make_filter(run=[1], space="T1w") == make_filter(run=("1",), space=("T1w",)) != BidsFilter()
    assert len({make_filter(run=[1]), make_filter(run=[1])}) == 1


def test_every_entity_of_the_standard_is_known_by_both_its_names():
    schema = pytest.importorskip("bids2table").get_arrow_schema()
    for field in schema:
        if b"entity" in (field.metadata or {}):
            short, long = (field.metadata[word].decode() for word in (b"name", b"entity"))
            assert KEYS[long] == KEYS[short] == ("extension" if short == "ext" else short)


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ("{", FormatError, "filter.json: this filter file is not valid JSON"),
        ("[1]", FormatError, "filter.json: a filter file is a JSON object of objects"),
        ({"bold": "rest"}, FormatError, "a JSON object of objects"),
        ({"bodl": {}}, SettingsError, "'bodl' is no modality; expected one of bold, sbref"),
        ({"bold": {"sesion": "1"}}, SettingsError, r"bold asks for 'sesion', which is no BIDS entity; did you mean session\?"),
        ({"bold": {"regex": "1"}}, SettingsError, "'regex', which is no BIDS entity; expected one of sub, ses"),
        ({"bold": {"run": True}}, SettingsError, "bold.run must be a label, a number, null, or a list of these; got true"),
        ({"bold": {"run": [{}]}}, SettingsError, "bold.run must be a label"),
        ({"bold": {"run": []}}, SettingsError, "bold.run is an empty list, which selects nothing"),
        ({"bold": {"run": "Query.SOME"}}, SettingsError, "bold.run must be one of Query.NONE, Query.ANY"),
    ],
)
def test_a_filter_file_that_makes_no_sense_is_refused(write_filter, content, error, message):
    with pytest.raises(error, match=message) as caught:
        make_filter(bids_filter_file=write_filter(content))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"participant_label": ["sub-01_ses-a"]}, "--participant-label takes labels .* such as 01 or sub-01; got 'sub-01_ses-a'"),
        ({"session_id": ["sub-01"]}, "--session-id takes labels"),
        ({"run": [""]}, "--run takes labels"),
        ({"space": "MNI:2"}, "--space takes spaces such as native, T1w"),
        ({"space": "native:res-2"}, "--space takes"),
        ({"space": "MNI:size-2"}, "--space takes"),
    ],
)
def test_a_label_that_is_none_is_refused(words, message):
    with pytest.raises(SettingsError, match=message):
        make_filter(**words)


BOLD = [parse_name(name)[0] for name in NAMES if name.endswith("_bold")]


@pytest.mark.parametrize(
    ("words", "labels", "sentence"),
    [
        ({"participant_label": ["01", "03"], "space": MNI}, ["01"], "--participant-label 01 selects no bold file that meets"),
        ({"participant_label": ["01", "07"]}, ["07"], "--participant-label 07 selects no bold file: there are 01, 02, 03"),
        ({"run": [1, 2]}, [], ""),
        ({"session_id": ["b"]}, ["b"], "--session-id b selects no bold file: there is a"),
        ({"space": "MNI"}, ["MNI"], f"--space MNI selects no bold file: there are {MNI}, {MNI}:res-2, T1w, native"),
        ({"task_id": ["motor"], "session_id": ["a"]}, ["a", "motor"], "--session-id a, --task-id motor select no bold file that"),
    ],
)
def test_a_label_that_selects_nothing_is_told_with_those_that_there_are(words, labels, sentence):
    bids_filter = make_filter(**words)
    assert [label for _, label in find_unmatched(bids_filter, BOLD)] == labels
    found = describe_unmatched(bids_filter, BOLD)
    assert found.startswith(sentence) and bool(found) == bool(labels)


def test_a_label_of_the_filter_file_that_selects_nothing_is_told_too(write_filter):
    bids_filter = make_filter(bids_filter_file=write_filter({"bold": {"ceagent": ["gd", None], "task": "*"}, "t1w": {"run": 7}}))
    assert describe_unmatched(bids_filter, BOLD) == (
        "bold.ceagent in filter.json gd selects no bold file: no name has the entity ce"
    )
