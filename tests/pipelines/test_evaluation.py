"""Which rows count when methods are compared."""

from types import SimpleNamespace

import numpy as np
import pytest

from sparkneuro.data.voxel_table import Run, VoxelTable
from sparkneuro.errors import SettingsError
from sparkneuro.pipelines.evaluation import check_length, choose_rows, compare_methods
from sparkneuro.pipelines.reconstruction import RowErrors

N_VOXELS = 11


def make_table(n_runs=3, path="here/t.voxels"):
    """A table of 11 voxels in blocks of 4, one run a subject."""
    runs = tuple(Run(f"{n:02d}", "", "rest", "", 40, 2.0, "x", "y", N_VOXELS) for n in range(1, n_runs + 1))
    return VoxelTable(path, "native", np.eye(4).tolist(), (3, 4, 5), runs, 4, N_VOXELS, (), "z-score")


def make_rows(n_runs=3):
    """Every voxel of every run; a row's error is its place."""
    run, voxel = np.divmod(np.arange(n_runs * N_VOXELS, dtype=np.int32), N_VOXELS)
    error = np.arange(n_runs * N_VOXELS, dtype=np.float32)
    return RowErrors(run, voxel, error, error / 100, 2 * error, -error / 100)


def make_record(kind, training, validation, table="elsewhere/t.voxels"):
    return {"split": {"kind": kind, "training": training, "validation": validation}, "table": table, "series_length": 40}


KEYS = [f"sub-0{n}_task-rest" for n in (1, 2, 3)]


@pytest.mark.parametrize(
    ("kind", "training", "validation"), [("subjects", ["01", "03"], ["02"]), ("runs", [KEYS[0], KEYS[2]], [KEYS[1]])]
)
def test_held_out_people_and_runs_are_measured(kind, training, validation):
    rows = make_rows()
    chosen = choose_rows(make_table(), make_record(kind, training, validation), rows)
    np.testing.assert_array_equal(chosen.measured, rows.run == 1)
    assert chosen.by_split
    assert chosen.which == f"11 held-out rows (1 of 3 {kind})"
    assert chosen.fitted_on == "the 22 training rows"


def test_held_out_blocks_are_measured_with_a_word_of_caution():
    rows = make_rows(1)
    chosen = choose_rows(make_table(1), make_record("blocks", [0, 1], [2]), rows)
    np.testing.assert_array_equal(chosen.measured, rows.voxel >= 8)
    assert "not new people" in chosen.which


def test_all_rows_are_measured_and_said_to_be_when_none_were_held_out():
    chosen = choose_rows(make_table(), make_record("none", [], []), make_rows())
    assert chosen.measured.all() and not chosen.by_split
    assert chosen.which == "all 33 rows, training rows included, because none were held out"


@pytest.mark.parametrize(("n_runs", "name"), [(2, "t.voxels"), (3, "other.voxels")])
def test_another_table_than_that_of_the_training_is_called_so(n_runs, name):
    record = make_record("subjects", ["01", "03"], ["02"])
    chosen = choose_rows(make_table(n_runs, f"here/{name}"), record, make_rows(n_runs))
    assert chosen.measured.all() and not chosen.by_split
    assert "not the one that the model was trained on" in chosen.which


def test_a_model_of_another_length_is_refused_unless_its_training_fitted_series():
    record = {"series_length": 52, "params": {}}
    with pytest.raises(SettingsError, match="run sub-01_task-rest has 40 scans, but the model takes 52; train with"):
        check_length(make_table(), record)
    assert check_length(make_table(), {**record, "params": {"seriesLength": 52}})
    assert not check_length(make_table(), {"series_length": 40})


def test_methods_are_compared_on_the_measured_rows_alone():
    rows, measured = make_rows(1), np.arange(N_VOXELS) >= 8
    model = SimpleNamespace(series_length=40, filters=(4, 5, 6, 7), decoder=SimpleNamespace(lengths=[40, 20, 10, 5]))
    table, errors = compare_methods(rows, measured, np.linspace(1, 0, 41), model)
    assert table[0] == ("autoencoder", 40, 20 * 4 + 10 * 5 + 5 * 6, 9.0, pytest.approx(0.09))
    assert errors["autoencoder, H alone"] == 18
    assert errors["PCA, T/4"] == pytest.approx(0.75)
    assert errors["PCA, T/2"] == pytest.approx(0.5)
