import numpy as np
import pytest

from sparkneuro.errors import FormatError, SettingsError
from sparkneuro.preprocess.harmonise import CombatModel, check_design, code_covariates, fit_combat

N_SUBJECTS, N_VOXELS = 90, 230


@pytest.fixture(scope="module")
def planted():
    """Values with a planted effect of site (added and multiplied) and of age; and the age effect itself."""
    rng = np.random.default_rng(0)
    sites = np.array(["ds01", "ds02", "ds03"])[np.arange(N_SUBJECTS) % 3]
    age = rng.uniform(20, 70, N_SUBJECTS)
    effect = rng.normal(0.02, 0.01, N_VOXELS)
    noise = 0.3 * rng.normal(size=(N_SUBJECTS, N_VOXELS))
    added = np.array([{"ds01": 0.0, "ds02": 1.5, "ds03": -0.8}[site] for site in sites])[:, None]
    multiplied = np.array([{"ds01": 1.0, "ds02": 1.8, "ds03": 0.6}[site] for site in sites])[:, None]
    values = 2 + age[:, None] * effect + added + multiplied * noise
    return values, sites, age[:, None], effect


@pytest.fixture(scope="module")
def model(planted):
    values, sites, age, _ = planted
    return fit_combat(values[:60], sites[:60], age[:60], ["age"])


def slopes(values, age, sites=None):
    """Regression of each voxel on age (and, where they are given, sites): the slope of age."""
    columns = [age, *([sites[:, None] == np.unique(sites)] if sites is not None else [np.ones((len(age), 1))])]
    return np.linalg.lstsq(np.hstack(columns).astype(float), values, rcond=None)[0][0]


def spread_of_sites(values, sites, age, effect):
    """Largest difference of the sites' means beyond what age explains, and ratio of their standard deviations."""
    residuals = values - age * effect
    parts = [residuals[sites == site] for site in np.unique(sites)]
    means = [part.mean() for part in parts]
    deviations = [part.std(axis=0).mean() for part in parts]
    return max(means) - min(means), max(deviations) / min(deviations)


@pytest.mark.parametrize("subjects", [slice(0, 60), slice(60, 90)], ids=["training", "test"])
def test_a_planted_site_effect_disappears_and_an_age_effect_stays(planted, model, subjects):
    values, sites, age, effect = (part[subjects] if len(part) == N_SUBJECTS else part for part in planted)
    harmonised = model.apply(values, sites, age)
    before, after = spread_of_sites(values, sites, age, effect), spread_of_sites(harmonised, sites, age, effect)
    assert before[0] > 2 and before[1] > 2.5
    assert after[0] < 0.1 and after[1] < 1.25
    assert abs((slopes(harmonised, age) - effect).mean()) < 0.001
    assert np.corrcoef(slopes(harmonised, age), effect)[0, 1] > np.corrcoef(slopes(values, age), effect)[0, 1]


def test_it_is_what_the_library_gives_for_its_training_subjects(planted, model):
    neuro = pytest.importorskip("neuroHarmonize")
    pandas = pytest.importorskip("pandas")
    values, sites, age, _ = planted
    _, theirs = neuro.harmonizationLearn(values[:60], pandas.DataFrame({"SITE": sites[:60], "age": age[:60, 0]}), seed=0)
    np.testing.assert_allclose(model.apply(values[:60], sites[:60], age[:60]), theirs, rtol=1e-6)


def test_a_subject_is_harmonised_by_itself_though_sites_are_missing(planted, model):
    values, sites, age, _ = planted
    together = model.apply(values[60:], sites[60:], age[60:])
    for subject in (60, 61, 62):
        alone = model.apply(values[subject : subject + 1], sites[subject : subject + 1], age[subject : subject + 1])
        np.testing.assert_allclose(alone[0], together[subject - 60], rtol=1e-12)


def test_a_model_survives_its_file_and_equal_models_have_equal_bytes(planted, model, tmp_path):
    values, sites, age, _ = planted
    model.save(str(tmp_path / "a.npz"))
    fit_combat(values[:60], sites[:60], age[:60], ["age"]).save(str(tmp_path / "b.npz"))
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    loaded = CombatModel.load(str(tmp_path / "a.npz"))
    np.testing.assert_array_equal(loaded.apply(values, sites, age), model.apply(values, sites, age))
    (tmp_path / "a.npz").write_bytes(b"no archive")
    with pytest.raises(FormatError, match="this is no ComBat model"):
        CombatModel.load(str(tmp_path / "a.npz"))


def test_voxels_that_a_training_subject_lacks_are_left_out(planted):
    values, sites, age, _ = planted
    holes = values[:60].copy()
    holes[3, 7] = np.nan
    holes[:, 11] = 2.5
    model = fit_combat(holes, sites[:60], age[:60], ["age"])
    assert np.flatnonzero(~model.kept).tolist() == [7, 11]
    lacking = values[60:62].copy()
    lacking[0, 20] = np.nan
    harmonised = model.apply(lacking, sites[60:62], age[60:62])
    assert harmonised.shape == (2, N_VOXELS - 2) and np.argwhere(np.isnan(harmonised)).tolist() == [[0, 18]]


def test_a_site_that_the_model_does_not_know_is_refused(planted, model):
    values, _, age, _ = planted
    with pytest.raises(SettingsError, match="knows the sites ds01, ds02, ds03; it cannot harmonise ds09"):
        model.apply(values[:1], ["ds09"], age[:1])


@pytest.mark.parametrize(
    ("sites", "covariate", "message"),
    [
        (["a"] * 6, [1, 2, 3, 4, 5, 6], "there must be two with training subjects"),
        (["a"] * 5 + ["b"], [1, 2, 3, 4, 5, 6], "two training subjects of each data set at least; b has one"),
        (["a"] * 3 + ["b"] * 3, [0, 0, 0, 1, 1, 1], r"cannot tell data sets and covariates \(sex=M\) apart"),
    ],
)
def test_a_design_that_cannot_be_fitted_is_refused(sites, covariate, message):
    with pytest.raises(SettingsError, match=message):
        check_design(sites, np.array(covariate, float)[:, None], ["sex=M"])


def test_words_become_columns_and_missing_values_are_named():
    rows = {"a": {"hand": "left"}, "b": {"hand": "right"}, "c": {"hand": "both"}}
    matrix, columns = code_covariates(rows, ["hand"])
    assert columns == ["hand=left", "hand=right"] and matrix.tolist() == [[1, 0], [0, 1], [0, 0]]
    with pytest.raises(SettingsError, match="covariate age is unknown for a, b, c; give it in participants.tsv"):
        code_covariates(rows, ["age"])
    assert code_covariates(rows, [])[0].shape == (3, 0)
