"""Maps hold each value where its voxel is; tables and the summary hold the same numbers; pictures are where matplotlib is."""

import json
import sys

import nibabel
import numpy as np
import pytest

from sparkneuro.data.nifti import write_volume
from sparkneuro.data.target_block import read_columns
from sparkneuro.data.voxel_table import Run, VoxelTable
from sparkneuro.pipelines.score_maps import summarise_columns, write_scores

pytestmark = pytest.mark.processes  # takes seconds

SHAPE, N_TARGETS = (5, 6, 4), 37
AFFINE = np.array([[-3.0, 0.1, 0, 90], [0.1, 3.5, 0, -110], [0, 0, 4, -60], [0, 0, 0, 1.0]])


@pytest.fixture
def mask():
    return np.random.default_rng(0).uniform(size=SHAPE) < 0.6


@pytest.fixture
def table(tmp_path, mask):
    """A voxel table without rows."""
    path = str(tmp_path / "movie.voxels")
    write_volume(f"{path}/mask.nii.gz", mask.astype(np.uint8), AFFINE)
    runs = tuple(Run(subject, "", "movie", "1", 31, 2.0, "made", "", 0) for subject in ("01", "02"))
    return VoxelTable(path, "native", AFFINE.tolist(), SHAPE, runs, 17, int(mask.sum()), (), "z-score")


def make_scores(table, seed=0):
    """Scores of some of the voxels; the r of two of them is NaN."""
    rng = np.random.default_rng(seed)
    voxel = np.sort(rng.choice(table.n_voxels, N_TARGETS, replace=False)).astype(np.int32)
    r = rng.uniform(-0.5, 0.9, N_TARGETS).astype(np.float32)
    r[[3, 8]] = np.nan
    q = np.where(np.isnan(r), np.nan, rng.uniform(size=N_TARGETS))
    return {
        "voxel": voxel, "r": r, "r2": r**2, "q": q, "r_significant": np.where(q <= 0.5, r, np.float32(0)),
        "alpha": rng.choice([0.1, 10.0, 1000.0], N_TARGETS), "loss": np.full(N_TARGETS, np.nan),
    }  # fmt: skip


def files_of(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_every_value_is_at_its_voxel(table, mask, tmp_path):
    scores = {"01": make_scores(table, seed=1), "02": make_scores(table, seed=2)}
    write_scores(str(tmp_path / "out"), table, scores)
    where = np.argwhere(mask)
    for subject, columns in scores.items():
        for name in ("r", "r2", "q", "alpha", "r_significant"):
            image = nibabel.load(tmp_path / "out" / "maps" / f"sub-{subject}_{name}.nii.gz")
            np.testing.assert_allclose(image.affine, AFFINE, atol=1e-6)
            assert image.get_data_dtype() == np.float32
            volume = np.asanyarray(image.dataobj)
            assert volume.shape == SHAPE
            np.testing.assert_allclose(volume[tuple(where[columns["voxel"]].T)], columns[name], rtol=1e-6)
            assert np.isfinite(volume).sum() == np.isfinite(columns[name]).sum()
    assert not (tmp_path / "out" / "maps" / "sub-01_loss.nii.gz").exists()  # nothing but NaN


def test_tables_hold_every_column_as_it_was(table, tmp_path):
    scores = {"01": make_scores(table)}
    write_scores(str(tmp_path / "out"), table, scores)
    columns = read_columns(str(tmp_path / "out" / "scores" / "subject=01.parquet"))
    assert list(columns) == list(scores["01"])
    for name, values in columns.items():
        np.testing.assert_array_equal(values, scores["01"][name])
        assert values.dtype == scores["01"][name].dtype


def test_the_summary_is_that_of_the_finite_scores(table, tmp_path):
    columns = make_scores(table)
    extra = {"min_shift": 7, "fdr": 0.25, "subjects": {"01": {"n_scans": 81, "r": "is replaced"}}}
    summary = write_scores(str(tmp_path / "out"), table, {"01": columns}, extra)
    assert json.loads((tmp_path / "out" / "scores.json").read_text()) == summary
    facts, r = summary["subjects"]["01"], columns["r"][np.isfinite(columns["r"])].astype(float)
    assert summary["min_shift"] == 7 and facts["n_scans"] == 81 and facts["n_targets"] == N_TARGETS
    assert facts["r"] == {"mean": r.mean(), "median": np.median(r), "max": r.max(), "n_nan": 2}
    n = int((columns["q"] <= 0.25).sum())
    assert facts["significant"] == {"fdr": 0.25, "n": n, "n_tested": 35, "share": n / 35}


def test_scores_that_are_all_nan_have_no_mean():
    nothing = {"voxel": np.arange(3), "r": np.full(3, np.nan), "q": np.full(3, np.nan)}
    summary = summarise_columns(nothing)
    assert summary["r"] == {"mean": None, "median": None, "max": None, "n_nan": 3}
    assert summary["significant"] == {"fdr": 0.05, "n": 0, "n_tested": 0, "share": None}


def test_scores_that_are_all_nan_are_written(table, tmp_path):
    columns = {"voxel": np.arange(3, dtype=np.int32), "r": np.full(3, np.nan, np.float32)}
    write_scores(str(tmp_path / "out"), table, {"01": columns})
    assert files_of(tmp_path / "out") == ["scores.json", "scores/subject=01.parquet"]


def test_pictures_are_drawn_of_what_is_there(table, tmp_path):
    pytest.importorskip("matplotlib", reason="the report extra is not installed")
    scores, folder = {"01": make_scores(table)}, tmp_path / "out" / "figures"
    write_scores(str(tmp_path / "out"), table, scores, {"subjects": {"01": {"null_counts": [1] * 200}}})
    each = ["sub-01_alpha.png", "sub-01_alpha.svg", "sub-01_r.png", "sub-01_r_histogram.svg", "sub-01_r_significant.png"]
    assert files_of(folder) == each
    assert b"chance (circular shifts)" in (folder / "sub-01_r_histogram.svg").read_bytes()
    scores["01"]["alpha"][:] = 10.0
    # What a fit says of one penalty for all targets: the losses it was chosen by.
    one = {"alpha": 10.0, "criterion": "gcv", "losses": [[0.3, None, 0.2]]}
    fit = {"settings": {"alphas": [0.1, 1.0, 10.0]}, "subjects": {"01": one}}
    write_scores(str(tmp_path / "one"), table, scores, fit)
    assert files_of(tmp_path / "one" / "figures") == [name for name in each if name != "sub-01_alpha.png"]
    assert b"loss (gcv)" in (tmp_path / "one" / "figures" / "sub-01_alpha.svg").read_bytes()
    # One penalty that was given, so that nothing was chosen.
    write_scores(str(tmp_path / "given"), table, scores, {"subjects": {"01": {"alpha": 10.0, "losses": []}}})
    assert files_of(tmp_path / "given" / "figures") == [name for name in each if "alpha" not in name]


def test_without_matplotlib_all_but_the_pictures_is_written(table, tmp_path, monkeypatch, caplog):
    scores = {"01": make_scores(table), "02": make_scores(table)}
    write_scores(str(tmp_path / "with"), table, scores)
    caplog.clear()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with caplog.at_level("WARNING"):
        write_scores(str(tmp_path / "without"), table, scores)
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == 1 and "no figures are drawn" in warnings[0] and "sparkneuro[report]" in warnings[0]
    expected = [name for name in files_of(tmp_path / "with") if not name.startswith("figures/")]
    assert files_of(tmp_path / "without") == expected and len(expected) == 13


def test_scores_are_written_to_a_uri_whole(table, tmp_path):
    write_scores(f"file://{tmp_path}/out", table, {"01": make_scores(table)})
    assert "scores.json" in files_of(tmp_path / "out")
    assert not [name for name in files_of(tmp_path / "out") if ".unfinished" in name]
