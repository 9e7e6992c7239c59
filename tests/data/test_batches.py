import errno
import gc
import os
import tempfile

import numpy as np
import pyarrow as pa
import pytest

from sparkneuro.data.batches import BatchSequence, SeriesSpool, fit_length, hash_rows, read_series
from sparkneuro.errors import FormatError, StorageError


def lists_of(*lengths):
    rows = [[float(10 * i + j) for j in range(n)] for i, n in enumerate(lengths)]
    return pa.array(rows, pa.list_(pa.float32())), rows


def test_equal_lists_are_read_without_a_copy():
    column, rows = lists_of(5, 5, 5)
    series = read_series(column, 5)
    np.testing.assert_array_equal(series, rows)
    assert series.base is not None and not series.flags.owndata


def test_a_slice_of_a_column_is_read_at_its_place():
    column, rows = lists_of(4, 4, 4, 4)
    np.testing.assert_array_equal(read_series(column.slice(1, 2), 4), rows[1:3])


def test_lists_of_other_lengths_are_cropped_and_padded():
    column, rows = lists_of(3, 5, 4, 3)
    expected = [row[:4] + [0.0] * (4 - len(row)) for row in rows]
    np.testing.assert_array_equal(read_series(column, 4), expected)
    np.testing.assert_array_equal(read_series(column.slice(1), 4), expected[1:])


def test_lists_of_other_lengths_are_refused_where_they_must_not_be_fitted():
    with pytest.raises(FormatError, match="must have 4 scans; got 3, 4, 5"):
        read_series(lists_of(3, 5, 4)[0], 4, fit=False)


@pytest.mark.parametrize("rows", [[[1.0], None], [[1.0], [None]]])
def test_missing_values_are_refused(rows):
    with pytest.raises(FormatError, match="no missing values"):
        read_series(pa.array(rows, pa.list_(pa.float32())), 1)


def test_fit_length_crops_and_pads_at_the_end():
    series = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(fit_length(series, 2), [[0, 1], [3, 4]])
    np.testing.assert_array_equal(fit_length(series, 5), [[0, 1, 2, 0, 0], [3, 4, 5, 0, 0]])


def test_a_spool_gives_back_what_was_written(tmp_path):
    rng = np.random.default_rng(0)
    parts = [rng.standard_normal((n, 6)).astype(np.float32) for n in (4, 1, 7)]
    spool = SeriesSpool(6, str(tmp_path))
    for part in parts:
        spool.append(part)
    series = spool.matrix()
    np.testing.assert_array_equal(series, np.concatenate(parts))
    assert not series.flags.writeable


def test_a_spool_without_rows_is_an_empty_matrix(tmp_path):
    assert SeriesSpool(6, str(tmp_path)).matrix().shape == (0, 6)


def test_a_spool_has_no_name_on_disk(tmp_path):
    spool = SeriesSpool(6, str(tmp_path))
    spool.append(np.ones((3, 6), np.float32))
    series = spool.matrix()
    assert os.listdir(tmp_path) == []
    del spool
    gc.collect()
    assert (series == 1).all()


def test_a_full_disk_is_one_clear_sentence(tmp_path, monkeypatch):
    class FullFile:
        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self):
            pass

    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **options: FullFile())
    with pytest.raises(StorageError, match="disk of .* is full after 0 series; make room"):
        SeriesSpool(6, str(tmp_path)).append(np.ones((3, 6), np.float32))


@pytest.fixture
def sequence():
    series = np.repeat(np.arange(11, dtype=np.float32)[:, None], 2, axis=1)
    return BatchSequence(series, batch_size=4, epochs=3, seed=1, partition=2)


def test_every_epoch_holds_every_row_once_the_partial_batch_included(sequence):
    assert (sequence.n_batches, sequence.last_clock) == (3, 9)
    for epoch in range(3):
        batches = [sequence.batch(epoch * 3 + k) for k in (1, 2, 3)]
        assert [len(batch) for batch in batches] == [4, 4, 3]
        assert sorted(np.concatenate(batches)[:, 0]) == list(range(11))


def test_epochs_and_partitions_have_orders_of_their_own(sequence):
    other = BatchSequence(sequence.series, 4, 3, seed=1, partition=3)
    firsts = [sequence.batch(1).tolist(), sequence.batch(4).tolist(), other.batch(1).tolist()]
    assert firsts[0] != firsts[1] and firsts[0] != firsts[2]


def test_whoever_continues_sees_the_same_batches(sequence):
    again = BatchSequence(sequence.series, 4, 3, seed=1, partition=2)
    np.testing.assert_array_equal(again.batch(8), [sequence.batch(clock) for clock in range(1, 10)][7])


def test_batches_do_not_depend_on_the_order_in_which_rows_came(sequence):
    """Spark may deliver a retried task's rows in another order; exactly once must stay exactly once."""
    shuffled = BatchSequence(sequence.series[np.random.default_rng(7).permutation(11)], 4, 3, seed=1, partition=2)
    for clock in range(1, 10):
        np.testing.assert_array_equal(shuffled.batch(clock), sequence.batch(clock))


def test_rows_are_hashed_piece_by_piece():
    series = np.random.default_rng(0).standard_normal((23, 6)).astype(np.float32)
    np.testing.assert_array_equal(hash_rows(series, piece=5), hash_rows(series))
    assert len(set(hash_rows(series).tolist())) == 23


def test_windows_end_every_n_push_batches_and_with_the_epoch(sequence):
    assert [clock for clock in range(1, 10) if sequence.ends_window(clock, 2)] == [2, 3, 5, 6, 8, 9]
    assert [clock for clock in range(1, 10) if sequence.ends_window(clock, 5)] == [3, 6, 9]
    assert all(sequence.ends_window(clock, 1) for clock in range(1, 10))


def test_no_rows_make_no_batches():
    assert BatchSequence(np.empty((0, 5), np.float32), 4, 3).last_clock == 0
