import numpy as np
import pytest

from sparkneuro.data import row_space, store
from sparkneuro.data.scan_ranges import from_ranges, to_ranges
from sparkneuro.errors import FormatError

AFFINE = np.array([[-3.0, 0.1, 0, 90], [0.1, 3.5, 0, -110], [0, 0, 4, -60], [0, 0, 0, 1.0]])


def test_values_of_voxels_go_where_the_mask_says():
    mask = np.random.default_rng(0).random((4, 5, 3)) < 0.5
    row = np.arange(0, mask.sum(), 2)
    volume = row_space.place_rows(row_space.number_voxels(mask), row, row * 1.5)
    np.testing.assert_array_equal(volume[mask][row], row * 1.5)
    assert np.isnan(volume).sum() == volume.size - len(row)


def test_a_volume_without_rows_is_nan():
    assert np.isnan(row_space.place_rows(np.zeros((2, 3, 4), np.int32), np.empty(0, int), np.empty(0))).all()


def test_rows_are_at_the_centre_of_their_voxels():
    numbers = np.zeros((4, 5, 3), np.int32)
    numbers[1, 2:4, 0], numbers[3, 4, 2] = 1, 3
    centres = row_space.locate_rows(numbers, AFFINE)
    np.testing.assert_allclose(centres[0], (AFFINE @ [1, 2.5, 0, 1])[:3])
    np.testing.assert_allclose(centres[2], (AFFINE @ [3, 4, 2, 1])[:3])
    assert np.isnan(centres[1]).all()


def test_names_of_parcels_come_back(tmp_path):
    path = str(tmp_path / "parcels.tsv")
    row_space.write_names(path, [(3, "Vis 1"), (7, "Default")])
    assert row_space.read_names(path) == {3: "Vis 1", 7: "Default"}


@pytest.mark.parametrize(("content", "message"), [("a\tb\n1\t2\n", "index and name"), ("index\tname\nx\ty\n", "a whole number")])
def test_a_table_of_names_of_another_form_is_refused(tmp_path, content, message):
    store.write_bytes(str(tmp_path / "x.tsv"), content.encode())
    with pytest.raises(FormatError, match=message):
        row_space.read_names(str(tmp_path / "x.tsv"))


def test_ranges_and_numbers_are_two_forms_of_one_thing():
    numbers = np.flatnonzero(np.random.default_rng(0).random(100) < 0.6)
    np.testing.assert_array_equal(from_ranges(to_ranges(numbers)), numbers)
    assert to_ranges(np.empty(0, int)) == [] and len(from_ranges([])) == 0
