"""The estimator on Spark: the same numbers as tasks that are called one by one."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from tables import call_each, plant  # noqa: E402

from sparkneuro.data.spark import write_voxel_table  # noqa: E402
from sparkneuro.encoding.encoder_record import read_scores  # noqa: E402
from sparkneuro.encoding.encoder_settings import EncoderSettings  # noqa: E402
from sparkneuro.encoding.fit_encoder import fit_encoder  # noqa: E402
from sparkneuro.errors import FormatError, SettingsError  # noqa: E402

pytestmark = pytest.mark.engine
ALPHAS = [0.1, 10.0, 1000.0]


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    return plant(tmp_path_factory.mktemp("planted"), ("01", "02"))


@pytest.fixture(scope="module")
def fitted(spark, planted, tmp_path_factory):
    from sparkneuro.encoding.estimator import RidgeEncoder
    from sparkneuro.encoding.spark import read_target_blocks

    output = str(tmp_path_factory.mktemp("fitted") / "m.ridge")
    encoder = RidgeEncoder(features=[planted.features], output=output, alphas=ALPHAS, delays=[0, 1])
    return encoder.fit(read_target_blocks(spark, planted.table.path))


@pytest.mark.parametrize("per_target", [False, True])
def test_spark_gives_what_one_process_gives(spark, planted, tmp_path, per_target):
    from sparkneuro.encoding.estimator import RidgeEncoder
    from sparkneuro.encoding.spark import read_target_blocks

    output = str(tmp_path / "spark.ridge")
    encoder = RidgeEncoder(features=[planted.features], output=output, alphas=ALPHAS, alphaPerTarget=per_target)
    encoder.fit(read_target_blocks(spark, planted.table.path))
    settings = EncoderSettings((planted.features,), str(tmp_path / "one.ridge"), (0,), tuple(ALPHAS), alpha_per_target=per_target)
    fit_encoder(planted.table.path, {"01": [0, 1, 2, 3], "02": [0, 1, 2, 3]}, settings, call_each)
    for subject in ("01", "02"):
        mine, theirs = (read_scores(path, subject, range(4)) for path in (output, settings.output))
        np.testing.assert_array_equal(mine["alpha"], theirs["alpha"])
        np.testing.assert_allclose(mine["r"], theirs["r"], atol=1e-5)


def test_only_the_blocks_that_are_asked_for_are_fitted(spark, planted, tmp_path):
    from sparkneuro.encoding.estimator import RidgeEncoder
    from sparkneuro.encoding.spark import read_target_blocks

    blocks = read_target_blocks(spark, planted.table.path, ["sub-02"]).filter("block > 1")
    model = RidgeEncoder(features=[planted.features], output=str(tmp_path / "m.ridge"), alphas=[1.0]).fit(blocks)
    assert list(model.record["subjects"]) == ["02"]
    assert model.record["subjects"]["02"]["blocks"] == [2, 3]
    assert model.record["subjects"]["02"]["n_targets"] == 26


def test_a_model_predicts_every_run_of_its_features(spark, planted, fitted, tmp_path):
    from sparkneuro.encoding.spark import read_target_blocks

    rows = fitted.transform(read_target_blocks(spark, planted.table.path))
    made = write_voxel_table(rows, str(tmp_path / "p.voxels"), planted.table, "prediction", "z-score", "prediction")
    run = planted.table.find_run("sub-02_task-movie_run-3")
    _, predicted = made.read_block(run, 1)
    _, measured = planted.table.read_block(run, 1)
    r = [np.corrcoef(a, b)[0, 1] for a, b in zip(predicted, measured, strict=True)]
    assert np.mean(r) > 0.6


def test_an_estimator_and_a_model_survive_their_files(spark, planted, fitted, tmp_path):
    from sparkneuro.encoding.encoder_model import RidgeEncoderModel
    from sparkneuro.encoding.estimator import RidgeEncoder

    encoder = RidgeEncoder(features=[planted.features], output="m.ridge", alphas=ALPHAS, testRuns=["task-movie_run-2"], seed=4)
    encoder.write().save(str(tmp_path / "encoder"))
    assert RidgeEncoder.load(str(tmp_path / "encoder")).settings() == encoder.settings()
    fitted.write().save(str(tmp_path / "copy.ridge"))
    copy = RidgeEncoderModel.load(str(tmp_path / "copy.ridge"))
    assert copy.record == fitted.record and copy.getOrDefault("delays") == [0, 1]
    np.testing.assert_array_equal(read_scores(copy.path, "01", range(4))["r"], read_scores(fitted.path, "01", range(4))["r"])
    with pytest.raises(SettingsError, match="holds something already"):
        fitted.write().save(str(tmp_path / "copy.ridge"))


def test_rows_that_are_no_blocks_are_refused(spark, planted):
    from sparkneuro.encoding.estimator import RidgeEncoder

    encoder = RidgeEncoder(features=[planted.features], output="m.ridge")
    with pytest.raises(SettingsError, match="the rows must be blocks of targets, see read_target_blocks; got id"):
        encoder.fit(spark.range(3))


def test_a_failing_task_says_its_sentence_and_leaves_no_model(spark, tmp_path):
    from sparkneuro.encoding.estimator import RidgeEncoder
    from sparkneuro.encoding.spark import read_target_blocks

    planted = plant(tmp_path)
    run = planted.table.find_run("sub-01_task-movie_run-2")
    Path(planted.table.block_path(run, 2)).unlink()
    encoder = RidgeEncoder(features=[planted.features], output=str(tmp_path / "m.ridge"))
    with pytest.raises(FormatError, match="this file of the voxel table is missing"):
        encoder.fit(read_target_blocks(spark, planted.table.path))
    assert not (tmp_path / "m.ridge/encoder.json").exists()
