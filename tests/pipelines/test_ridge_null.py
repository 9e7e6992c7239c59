"""A planted relation is significant, independent autocorrelated series are not, and few scans are said to be too few."""

import json
from dataclasses import replace

import nibabel
import numpy as np
import pytest
from scipy.signal import lfilter

from sparkneuro.data.nifti import write_volume
from sparkneuro.data.target_block import read_columns
from sparkneuro.data.voxel_table import Run, VoxelTable, write_block
from sparkneuro.encoding.significance import circular_shift_p, fdr
from sparkneuro.errors import FormatError, SettingsError
from sparkneuro.pipelines import comparison as comparison_module
from sparkneuro.pipelines import ridge_null, ridge_score
from sparkneuro.pipelines.ridge_null import Settings, count_shifts, explain_floor, needs_spark, standardize_run

pytestmark = pytest.mark.processes  # takes seconds

SHAPE, SCANS, BLOCK = (4, 5, 3), (151, 127, 140), 17
N_VOXELS, N_SCANS = 60, sum(SCANS)
SIGNAL = np.arange(20)  # voxels of subject 01 that are predicted
CUTS = np.cumsum((0, *SCANS))
RUNS = [slice(start, stop) for start, stop in zip(CUTS, CUTS[1:], strict=False)]


def draw_ar1(n_targets, seed, n_scans=N_SCANS):
    """First-order autoregressive series, as autocorrelated as BOLD."""
    noise = np.random.default_rng(seed).standard_normal((n_scans + 100, n_targets))
    return lfilter([1], [1, -0.8], noise, axis=0)[100:].astype(np.float32)


def write_table(path, series, scans=SCANS, missing=()):
    """A table of the series of each subject, (n_scans of all runs, n_voxels); `missing` are (run, voxel) without a row."""
    runs, slices = [], [slice(end - n, end) for n, end in zip(scans, np.cumsum(scans), strict=True)]
    for subject, values in series.items():
        for place, rows in enumerate(slices):
            kept = np.setdiff1d(np.arange(N_VOXELS), [voxel for run, voxel in missing if run == place])
            runs.append(Run(subject, "", "movie", str(place + 1), scans[place], 2.0, "made", "", len(kept)))
            for block in range(-(-N_VOXELS // BLOCK)):
                voxel = kept[kept // BLOCK == block].astype(np.int32)
                write_block(str(path), runs[-1], block, voxel, np.ascontiguousarray(values[rows][:, voxel].T))
    affine = np.diag([2.0, 2.0, 2.5, 1.0])
    write_volume(f"{path}/mask.nii.gz", np.ones(SHAPE, np.uint8), affine)
    VoxelTable(str(path), "native", affine.tolist(), SHAPE, tuple(runs), BLOCK, N_VOXELS, (), "z-score").save()


@pytest.fixture
def pair(tmp_path):
    """Series and predictions of two subjects, on disk: in 01 some voxels are predicted, in 02 none is."""
    predicted = {"01": draw_ar1(N_VOXELS, 1), "02": draw_ar1(N_VOXELS, 2)}
    Y = {"01": draw_ar1(N_VOXELS, 3), "02": draw_ar1(N_VOXELS, 4)}
    Y["01"][:, SIGNAL] += predicted["01"][:, SIGNAL]
    Y["01"][:, 33] = 7.0  # constant in the table
    Y["02"][RUNS[1], 34] = 3.0  # constant in one run
    for subject in Y:
        for place, run in enumerate(RUNS):
            Y[subject][run] += 50 * place  # as of runs that were not z-scored
    write_table(tmp_path / "p.voxels", predicted)
    write_table(tmp_path / "y.voxels", Y, missing=[(2, 41)])
    return Y, predicted


@pytest.fixture
def in_process(monkeypatch):
    """Tasks run in this process; the jobs that they got."""
    called = []

    def call(spark, function, jobs):
        called.extend(jobs)
        return [function(job) for job in jobs]

    monkeypatch.setattr(comparison_module, "run_or_raise", call)
    return called


def settings_of(tmp_path, **changes):
    names = {"predictions": "p.voxels", "table": "y.voxels", "output": "out"}
    return Settings(**{name: str(tmp_path / value) for name, value in names.items()}, **changes)


def z_score_runs(series):
    """Each run by itself, in float64."""
    parts = [np.asarray(series[run], float) for run in RUNS]
    return np.concatenate([(part - part.mean(axis=0)) / np.where(np.ptp(part, axis=0), part.std(axis=0), 1) for part in parts])


def read_scores(tmp_path, subject):
    return read_columns(str(tmp_path / "out" / "scores" / f"subject={subject}.parquet"))


def test_what_is_predicted_is_significant_and_what_is_not_is_not(pair, tmp_path, in_process):
    settings = settings_of(tmp_path)
    assert needs_spark(settings)
    result = ridge_null.run(settings, None)
    columns = read_scores(tmp_path, "01")
    significant = columns["voxel"][columns["q"] <= 0.05]
    assert set(SIGNAL) <= set(significant) and len(significant) <= len(SIGNAL) + 3
    np.testing.assert_array_equal(columns["q"], fdr(columns["p"]))
    assert result["sub-01"].startswith(f"{len(significant)} of 58 voxels (") and "sub-01, but" not in result
    others = read_scores(tmp_path, "02")
    assert (others["q"] > 0.05).all() and result["sub-02"].startswith("0 of 59 voxels (0.0%)")
    volume = np.asanyarray(nibabel.load(tmp_path / "out" / "maps" / "sub-01_r_significant.nii.gz").dataobj).reshape(-1)
    np.testing.assert_array_equal(np.flatnonzero(np.nan_to_num(volume)), significant)
    np.testing.assert_array_equal(volume[significant], columns["r"][np.isin(columns["voxel"], significant)])
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(volume)), [33, 41])  # constant, and not in every run


def test_p_is_that_of_all_runs_z_scored_one_by_one(pair, tmp_path, in_process):
    ridge_null.run(settings_of(tmp_path, min_shift=13), None)
    Y, predicted = pair
    kept = np.setdiff1d(np.arange(N_VOXELS), [41])
    for subject in ("01", "02"):
        arrays = (z_score_runs(values[subject])[:, kept] for values in (Y, predicted))
        r, p, null_counts = circular_shift_p(*arrays, min_shift=13)
        columns = read_scores(tmp_path, subject)
        np.testing.assert_array_equal(columns["voxel"], kept)
        np.testing.assert_allclose(columns["r"], r, atol=1e-5)
        np.testing.assert_allclose(columns["p"], p, atol=1.5 / N_SCANS)  # in float32 a shift may change sides
        assert np.isnan(columns["p"][kept == 33]).all() == (subject == "01")
        facts = json.loads((tmp_path / "out" / "scores.json").read_text())["subjects"][subject]
        assert facts["n_scans"] == N_SCANS and facts["n_shifts"] == N_SCANS - 25
        assert sum(facts["null_counts"]) == null_counts.sum() == facts["n_shifts"] * (58 if subject == "01" else 59)
        assert np.abs(np.subtract(facts["null_counts"], null_counts)).sum() <= 10


def test_independent_series_are_rarely_called_significant(tmp_path, in_process):
    subjects = [f"{n:02d}" for n in range(1, 13)]
    write_table(tmp_path / "p.voxels", {subject: draw_ar1(N_VOXELS, 100 + n) for n, subject in enumerate(subjects)})
    write_table(tmp_path / "y.voxels", {subject: draw_ar1(N_VOXELS, 200 + n) for n, subject in enumerate(subjects)})
    comparison = ridge_null.check_inputs(settings_of(tmp_path))
    options = {"command": "ridge null", "min_shift": 10}
    scores = comparison_module.compute_blocks(comparison, str(tmp_path / "out"), ridge_null.shift_block, options, None)
    p = np.concatenate([scores[subject]["p"] for subject in subjects])
    assert len(p) == 720 and 0.03 < np.mean(p <= 0.05) < 0.08 and 0.4 < np.mean(p <= 0.5) < 0.6


def test_another_rate_takes_the_blocks_that_are_there_and_another_shift_does_not(pair, tmp_path, in_process):
    ridge_null.run(settings_of(tmp_path), None)
    assert len(in_process) == 8
    strict = settings_of(tmp_path, fdr=0.001)
    assert not needs_spark(strict)
    assert ridge_null.run(strict, None)["sub-01"] == "0 of 58 voxels (0.0%) significant at FDR 0.001"
    assert len(in_process) == 8
    with pytest.raises(SettingsError, match="holds results with other min_shift"):
        needs_spark(settings_of(tmp_path, min_shift=11))


def test_a_null_and_a_score_do_not_share_a_folder(pair, tmp_path, in_process):
    ridge_null.run(settings_of(tmp_path), None)
    settings = settings_of(tmp_path)
    with pytest.raises(SettingsError, match="holds something else than a ridge score"):
        ridge_score.needs_spark(ridge_score.Settings(settings.predictions, settings.table, settings.output))


def test_too_few_scans_to_find_anything_are_said_to_be_too_few(tmp_path, in_process):
    predicted = {"01": draw_ar1(N_VOXELS, 5, n_scans=41)}
    Y = {"01": draw_ar1(N_VOXELS, 6, n_scans=41)}
    Y["01"][:, :2] = predicted["01"][:, :2]
    write_table(tmp_path / "p.voxels", predicted, scans=(41,))
    write_table(tmp_path / "y.voxels", Y, scans=(41,))
    result = ridge_null.run(settings_of(tmp_path), None)
    p = read_scores(tmp_path, "01")["p"]
    assert p[:2].tolist() == [1 / 23] * 2
    sentence = result["sub-01, but"]
    assert sentence.startswith("no voxel is significant at FDR 0.05: 22 shifts allow no p below 0.043, which")
    assert json.loads((tmp_path / "out" / "scores.json").read_text())["subjects"]["01"]["warning"] == sentence


@pytest.mark.parametrize(
    ("n_tested", "n_smallest", "rate", "min_shift"), [(265, 3, 0.05, 10), (57, 1, 0.01, 4), (900, 7, 0.1, 25)]
)
def test_as_many_scans_as_are_named_suffice_and_one_fewer_does_not(n_tested, n_smallest, rate, min_shift):
    def q_of(n_scans):
        p = np.full(n_tested + 2, 0.9)
        p[-2:], p[:n_smallest] = np.nan, 1 / (1 + count_shifts(n_scans, min_shift))
        return p, fdr(p)

    p, q = q_of(120)
    sentence = explain_floor(p, q, 120, min_shift, rate)
    needed = int(sentence.split("at least ")[1].split(" scans")[0].replace(",", ""))
    assert f"which {n_smallest} of {n_tested} voxels have" in sentence and needed > 120
    assert np.nanmin(q_of(needed)[1]) <= rate * (1 + 1e-12) < np.nanmin(q_of(needed - 1)[1])


def test_the_floor_is_not_to_blame_where_no_voxel_reaches_it_or_some_are_significant():
    p = np.array([0.5, 0.2, np.nan])
    assert explain_floor(p, fdr(p), 120, 10, 0.05) is None
    p = np.full(30, 1 / 102)
    assert explain_floor(p, fdr(p), 120, 10, 0.05) is None


def test_a_run_is_z_scored_exactly_0_where_it_is_constant():
    series = np.asfortranarray(1e4 + draw_ar1(7, 8, n_scans=53))
    series[:, 2] = 0.1
    expected = series.astype(float)
    expected[:, 2] = np.arange(53)
    expected = (expected - expected.mean(axis=0)) / expected.std(axis=0)
    expected[:, 2] = 0
    standardized = standardize_run(series)
    np.testing.assert_allclose(standardized, expected, atol=1e-5)
    assert standardized is series and not standardized[:, 2].any()


def test_settings_and_tables_that_make_no_sense_are_refused(pair, tmp_path):
    with pytest.raises(SettingsError, match="--min-shift must be a whole number of at least 1; got 0"):
        needs_spark(settings_of(tmp_path, min_shift=0))
    for wrong in (0, 1.5):
        with pytest.raises(SettingsError, match="--fdr must be a number above 0 and of at most 1"):
            needs_spark(settings_of(tmp_path, fdr=wrong))
    message = f"at least 20 circular shifts, and the {N_SCANS} scans of sub-01 and --min-shift 200 leave 19; test on more runs"
    with pytest.raises(FormatError, match=message):
        needs_spark(settings_of(tmp_path, min_shift=200))
    table = VoxelTable.open(str(tmp_path / "y.voxels"))
    replace(table, runs=table.runs[1:]).save()
    with pytest.raises(FormatError, match="there is no run sub-01_task-movie_run-1"):
        needs_spark(settings_of(tmp_path))


@pytest.mark.engine
def test_blocks_are_tested_on_spark(spark, pair, tmp_path):
    ridge_null.run(settings_of(tmp_path), spark)
    columns = read_scores(tmp_path, "01")
    assert (columns["q"][np.isin(columns["voxel"], SIGNAL)] <= 0.05).all()
