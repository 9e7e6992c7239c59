import pytest

from sparkneuro.data import store
from sparkneuro.data.download.fetch_record import RECORD, FetchRecord


def row(path, size=5):
    return {"path": path, "size": size, "mtime_ns": 1700000000123456789, "sha256": "ab", "etag": 'q"uote', "source": f"s3://b/{path}"}


@pytest.fixture
def folder(tmp_path):
    """A folder with a record of three files."""
    with FetchRecord(str(tmp_path)) as record:
        for path in ("c.txt", 'a "b".txt', "b.txt"):
            record.add(row(path))
    return tmp_path


def test_what_is_written_down_is_read_back_sorted(folder):
    lines = (folder / RECORD).read_text().splitlines()
    assert lines[0].split("\t")[:4] == ["path", "size", "mtime_ns", "sha256"] and len(lines) == 4
    rows = FetchRecord(str(folder)).rows
    assert list(rows) == ['a "b".txt', "b.txt", "c.txt"]
    assert rows["b.txt"].items() >= row("b.txt").items() and rows["b.txt"]["checksum"] == ""


def test_each_file_is_in_the_table_as_soon_as_it_is_added(folder):
    record = FetchRecord(str(folder))
    record.add(row("d.txt"))
    record.add(row("b.txt", size=6))
    found = FetchRecord(str(folder)).rows  # as after a kill: nothing was closed
    assert set(found) == {'a "b".txt', "b.txt", "c.txt", "d.txt"} and found["b.txt"]["size"] == 6
    record.close()


@pytest.mark.parametrize("n_lost", [1, 7, 60])
def test_a_line_that_was_cut_off_costs_that_line_alone(folder, n_lost):
    content = (folder / RECORD).read_bytes()
    (folder / RECORD).write_bytes(content[:-n_lost])
    with FetchRecord(str(folder)) as record:
        assert set(record.rows) == {'a "b".txt', "b.txt"}
        record.add(row("e.txt"))
        assert set(FetchRecord(str(folder)).rows) == {'a "b".txt', "b.txt", "e.txt"}


def test_an_unchanged_record_is_not_written_again(folder):
    before = store.stat(str(folder / RECORD))
    with FetchRecord(str(folder)):
        pass
    assert store.stat(str(folder / RECORD)) == before


def test_what_is_forgotten_is_gone_from_the_table(folder):
    with FetchRecord(str(folder)) as record:
        record.forget("b.txt")
    assert set(FetchRecord(str(folder)).rows) == {'a "b".txt', "c.txt"}


def test_a_table_of_something_else_says_nothing(tmp_path):
    store.write_bytes(str(tmp_path / RECORD), b"name\tage\nx\t3\n")
    assert FetchRecord(str(tmp_path)).rows == {}
