"""Rows of a carpet: which voxels, standardised how, and kept in how few bytes."""

import numpy as np
import pytest

from sparkneuro.preprocess.carpet import choose_step, pack_carpet, standardise_rows, unpack_carpet


@pytest.mark.parametrize(
    ("n_voxels", "n_scans"), [(7, 10), (300, 10), (301, 10), (48751, 1200), (200_000, 1201), (200_000, 9000)]
)
def test_a_carpet_has_at_most_300_rows_and_a_bounded_number_of_cells(n_voxels, n_scans):
    step = choose_step(n_voxels, n_scans)
    n_rows = -(-n_voxels // step)
    assert n_rows <= 300 and n_rows * n_scans <= 300 * 1200 + n_scans
    assert step % choose_step(n_voxels, 1) == 0  # rows of a long run are rows of short ones too


def test_rows_are_standardised_and_constant_ones_are_zero():
    rows = 35000 + 200 * np.random.default_rng(0).normal(size=(5, 90))
    rows[3] = 7
    z, sd = standardise_rows(rows)
    np.testing.assert_allclose(sd, rows.std(axis=1), rtol=1e-4)
    kept = np.delete(np.arange(5), 3)
    expected = (rows - rows.mean(axis=1, keepdims=True)) / rows.std(axis=1, keepdims=True).clip(1e-30)
    np.testing.assert_allclose(z[kept], expected[kept], atol=1e-3)
    assert (z[3] == 0).all()


def test_a_packed_carpet_is_good_to_a_thirtysecond():
    z = np.random.default_rng(0).normal(size=(11, 47)).astype(np.float32)
    packed = pack_carpet(z)
    assert packed.dtype == np.int8
    np.testing.assert_allclose(unpack_carpet(packed), z, atol=1 / 32 + 1e-6)
    assert unpack_carpet(pack_carpet(np.array([[99.0, -99.0]]))).tolist() == [[7, -7]]


def test_neighbouring_scans_are_averaged_where_there_are_too_many():
    z = np.random.default_rng(0).normal(size=(3, 25))
    short = unpack_carpet(pack_carpet(z, n_columns=10))
    expected = np.column_stack([z[:, start : start + 3].mean(axis=1) for start in range(0, 25, 3)])
    assert short.shape == (3, 9)
    np.testing.assert_allclose(short, expected, atol=1 / 32 + 1e-6)
