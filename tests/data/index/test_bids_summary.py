import pyarrow as pa

from sparkneuro.data.index import bids_summary
from sparkneuro.data.index.bids_index import index_schema
from sparkneuro.data.index.bids_summary import summarise_index


def make_index(*rows):
    columns = ("dataset", "datatype", "suffix", "task", "sub", "extension", "size")
    return pa.Table.from_pylist([dict(zip(columns, row, strict=True)) for row in rows], index_schema())


def lines_of(table):
    return [line.split() for line in summarise_index(table).splitlines()]


def test_files_subjects_and_bytes_are_counted_by_data_set_datatype_suffix_and_task():
    bold = ("d1", "func", "bold", "rest")
    table = make_index(
        (*bold, "01", ".nii.gz", 1_500_000), (*bold, "01", ".nii.gz", 500_000), (*bold, "02", ".nii.gz", None),
        (*bold, "02", ".json", 70), ("d1", "anat", "T1w", None, "02", ".nii.gz", 999), ("d2", *bold[1:3], "x", "7", ".nii", 1),
        ("d1", None, "README", None, None, None, 5), ("d1", None, "participants", "odd", None, ".tsv", 6),
    )
    assert lines_of(table) == [
        ["data", "set", "datatype", "suffix", "task", "files", "subjects", "absent", "size"],
        ["d1", "anat", "T1w", "1", "1", "999", "B"],
        ["d1", "func", "bold", "rest", "3", "2", "1", "2", "MB"],
        ["d1", "(other)", "2", "11", "B"],
        ["d2", "func", "bold", "x", "1", "1", "1", "B"],
    ]


def test_a_column_that_is_empty_is_left_out():
    assert lines_of(make_index(("d", "anat", "T1w", None, "1", ".nii", 5_000)))[0] == [
        "data", "set", "datatype", "suffix", "files", "subjects", "size"
    ]


def test_a_long_table_ends_by_a_count(monkeypatch):
    monkeypatch.setattr(bids_summary, "N_ROWS", 3)
    table = make_index(*(("d", "func", "bold", f"t{number}", "1", ".nii", 1) for number in range(8)))
    text = summarise_index(table).splitlines()
    assert len(text) == 5 and text[-1] == "... and 5 more lines"
