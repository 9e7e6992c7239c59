import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sparkneuro.data.index.bids_index import index_schema
from sparkneuro.data.index.bids_index_file import FORMAT, MARK, read_index, write_index
from sparkneuro.errors import FormatError


@pytest.fixture
def table():
    row = {"dataset": "d", "path": "/d/sub-1_bold.nii", "size": 5, "run": 2, "sidecar": "{}", "slice_timing": [0.5, 1]}
    return pa.Table.from_pylist([row, {**row, "size": None, "extra_entities": [("from", "T1w")]}], index_schema())


def test_an_index_is_read_as_it_was_written(table, tmp_path):
    path = str(tmp_path / "below" / "a.index.parquet")
    write_index(path, table)
    assert read_index(path).equals(table) and read_index(f"file://{path}").equals(table)


def test_any_parquet_reader_opens_it(table, tmp_path):
    write_index(str(tmp_path / "a.parquet"), table)
    frame = pq.read_table(tmp_path / "a.parquet").to_pandas()
    assert list(frame["run"]) == [2, 2] and list(frame["slice_timing"][0]) == [0.5, 1] and json.loads(frame["sidecar"][0]) == {}


def write_other(path, what):
    """Something else where an index should be."""
    if what == "folder":
        path.mkdir()
    elif what == "other":
        pq.write_table(pa.table({"a": [1]}), path)
    elif what == "newer":
        pq.write_table(pa.table({"a": [1]}).replace_schema_metadata({MARK: FORMAT + b"0"}), path)
    elif what != "absent":
        path.write_bytes({"empty": b"", "text": b"a,b\n1,2\n", "cut": b"PAR1" + bytes(90)}[what])


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("absent", "there is no such index; make one with 'sparkneuro index'"), ("folder", "one Parquet file; this is a folder"),
        ("other", "is no index of BIDS files, but other Parquet; choose another"), ("newer", "has format 10, .* reads 1; update"),
        ("empty", "this file is damaged, or no index"), ("text", "damaged, or no index"), ("cut", "damaged, or no index"),
    ],
)
def test_what_is_no_index_is_refused(tmp_path, what, message):
    path = tmp_path / "a.parquet"
    write_other(path, what)
    with pytest.raises(FormatError, match=message) as caught:
        read_index(str(path))
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_an_index_whose_end_is_missing_is_refused(table, tmp_path):
    path = tmp_path / "a.parquet"
    write_index(str(path), table)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(FormatError, match="damaged"):
        read_index(str(path))


def test_a_write_that_is_interrupted_leaves_the_old_index(table, tmp_path, monkeypatch):
    path = tmp_path / "a.parquet"
    write_index(str(path), table)
    before = path.read_bytes()

    def stop(table, stream, **options):
        stream.write(b"PAR1 half")
        raise KeyboardInterrupt

    monkeypatch.setattr(pq, "write_table", stop)
    with pytest.raises(KeyboardInterrupt):
        write_index(str(path), table.slice(1))
    assert [file.name for file in tmp_path.iterdir()] == ["a.parquet"] and path.read_bytes() == before
