"""Encoding models from the command line: planned, fitted, predicted with, scored and tested."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from sparkneuro import environment
from sparkneuro.cli import main
from sparkneuro.data.nifti import read_volume
from sparkneuro.encoding.encoder_record import read_scores
from sparkneuro.errors import SettingsError
from sparkneuro.pipelines import ridge_fit, ridge_null, ridge_predict, ridge_score

SPEC = importlib.util.spec_from_file_location("encoding_tables", Path(__file__).parents[1] / "encoding" / "tables.py")
tables = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(tables)


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    return tables.plant(tmp_path_factory.mktemp("planted"), ("01", "02"), scans=(90, 80, 110))


def settings_of(planted, output, **options):
    return ridge_fit.Settings(planted.table.path, (planted.features,), str(output), **options)


@pytest.mark.processes
def test_a_plan_writes_nothing(planted, tmp_path):
    settings = settings_of(planted, tmp_path / "m.ridge", plan=True)
    assert not ridge_fit.needs_spark(settings)
    lines = ridge_fit.run(settings, None)
    assert "Tflop" in lines["together"] and "disk at most" in lines
    assert not (tmp_path / "m.ridge").exists()


@pytest.fixture
def spark_elsewhere(monkeypatch):
    """Nothing in the environment says where Spark runs, until a test does."""
    for name in ("SPARK_MASTER", "PYSPARK_GATEWAY_PORT", "SPARK_CONF_DIR", "SPARK_HOME"):
        monkeypatch.delenv(name, raising=False)
    return lambda master: monkeypatch.setenv("SPARK_MASTER", master)


def test_the_memory_of_tasks_on_other_machines_is_not_judged_by_this_one(planted, tmp_path, monkeypatch, spark_elsewhere):
    monkeypatch.setattr(environment, "available_memory", lambda: 100e6)
    spark_elsewhere("spark://head:7077")
    assert ridge_fit.needs_spark(settings_of(planted, tmp_path / "m.ridge"))
    spark_elsewhere("local[2]")
    with pytest.raises(SettingsError, match="tasks at a time need"):
        ridge_fit.needs_spark(settings_of(planted, tmp_path / "m.ridge"))


@pytest.mark.usefixtures("spark_elsewhere")
def test_what_does_not_fit_into_memory_is_refused_before_spark_starts(planted, tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "available_memory", lambda: 100e6)
    with pytest.raises(SettingsError, match="tasks at a time need .* of memory and this machine has 100 MB"):
        ridge_fit.needs_spark(settings_of(planted, tmp_path / "m.ridge"))


def test_a_full_disk_is_foreseen(planted, tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "free_disk", lambda path: 5000)
    with pytest.raises(SettingsError, match="of disk and 5.0 kB are free"):
        ridge_fit.needs_spark(settings_of(planted, tmp_path / "m.ridge"))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "features must name at least one feature table"),
        (["--features", "{features}", "--alphas", "10", "1"], "alphas must ascend"),
        (["--features", "{table}"], "name a file"),
        (["--features", "{features}", "--subjects", "09"], "--subjects must be subjects of the table (01, 02); got 09"),
        (["--features", "{features}", "--test-runs", "run-7"], "test_runs must be runs of subject 01"),
    ],
)
def test_bad_words_are_one_sentence_and_status_1(planted, tmp_path, capsys, words, sentence):
    words = [word.format(features=planted.features, table=planted.table.path) for word in words]
    assert main(["ridge", "fit", planted.table.path, *words, "--output", str(tmp_path / "m.ridge")]) == 1
    said = capsys.readouterr().err.strip()
    assert said.startswith("sparkneuro: error: ") and sentence in said and len(said.splitlines()) == 1
    assert not (tmp_path / "m.ridge").exists()


@pytest.mark.engine
def test_a_model_is_fitted_predicted_with_scored_and_tested(spark, planted, tmp_path):
    model = str(tmp_path / "m.ridge")
    result = ridge_fit.run(settings_of(planted, model, alpha_per_target=True), spark)
    assert "60 voxels, alpha one a voxel" in result["sub-02"]
    summary = json.loads((tmp_path / "m.ridge/scores.json").read_text())
    scores = read_scores(model, "02", range(planted.table.n_blocks))
    assert summary["subjects"]["02"]["r"]["mean"] == pytest.approx(np.mean(scores["r"]), abs=1e-6) and np.mean(scores["r"]) > 0.5
    volume = read_volume(f"{model}/maps/sub-02_r.nii.gz")[0]
    np.testing.assert_allclose(volume[planted.table.mask()], scores["r"])
    assert {path.name for path in (tmp_path / "m.ridge/figures").iterdir()} >= {"sub-01_r.png", "sub-01_r_histogram.svg"}

    predicted = ridge_predict.run(ridge_predict.Settings(model, (), str(tmp_path / "p.voxels")), spark)
    assert predicted["runs"] == 6
    ridge_score.run(ridge_score.Settings(model, planted.table.path, str(tmp_path / "scores")), spark)
    again = read_volume(str(tmp_path / "scores/maps/sub-02_r.nii.gz"))[0]
    np.testing.assert_allclose(again, volume, atol=1e-5)
    ridge_null.run(ridge_null.Settings(model, planted.table.path, str(tmp_path / "null")), spark)
    assert json.loads((tmp_path / "null/scores.json").read_text())["subjects"]["02"]["n_targets"] == 60
