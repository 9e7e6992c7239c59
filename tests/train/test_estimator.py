import numpy as np
import pyarrow as pa
import pytest

pytest.importorskip("pyspark", reason="needs the spark extra")
keras = pytest.importorskip("keras", reason="needs the keras extra")

from sparkneuro.data.batches import BatchSequence  # noqa: E402
from sparkneuro.errors import FormatError, SettingsError  # noqa: E402
from sparkneuro.train.estimator import DownpourTrainer  # noqa: E402
from sparkneuro.train.gradients import read_vector  # noqa: E402
from sparkneuro.train.progress import TrainingWatch  # noqa: E402
from sparkneuro.train.trained_model import DownpourModel  # noqa: E402

pytestmark = pytest.mark.engine


@pytest.fixture
def rows(spark, series):
    held_out = np.arange(len(series)) % 5 == 0
    table = pa.table({"series": list(series), "voxel": np.arange(len(series), dtype=np.int32), "held_out": held_out})
    return spark.createDataFrame(table).coalesce(1)


def test_one_worker_through_spark_is_plain_training(rows, series, make_model):
    model = make_model(batch_normalization=True)
    first = read_vector(model)[0]
    trained = DownpourTrainer(model=model, nWorkers=1, nServers=2, epochs=5, batchSize=11, seed=8, progress=False).fit(rows)
    np.testing.assert_array_equal(read_vector(model)[0], first)  # the caller's model is not touched
    sequence = BatchSequence(series, 11, 5, seed=8)
    for clock in range(1, sequence.last_clock + 1):
        model.train_on_batch(sequence.batch(clock), sequence.batch(clock))
    plain = read_vector(model)[0]
    assert np.linalg.norm(read_vector(trained.model)[0] - plain) <= 1e-6 * np.linalg.norm(plain)
    assert [epoch["epoch"] for epoch in trained.training["history"]] == [1, 2, 3, 4, 5]


def test_held_out_rows_are_measured_and_not_trained_on(rows, series, make_model):
    trainer = DownpourTrainer(
        model=make_model(), nWorkers=2, epochs=30, batchSize=8, validationIndicatorCol="held_out", progress=False
    )
    trained = trainer.fit(rows)
    assert trained.training["n_training_series"] == np.count_nonzero(np.arange(107) % 5)
    held_out = series[::5]
    expected = trained.model.evaluate(held_out, held_out, verbose=0)
    assert trained.training["history"][-1]["validation_loss"] == pytest.approx(expected, rel=1e-4)


def test_transform_adds_what_the_part_of_the_model_gives(rows, series, make_model):
    model = make_model(batch_normalization=True)
    fitted = DownpourTrainer(model=model, outputLayer="hidden", nWorkers=2, progress=False).fit(rows)
    frame = fitted.transform(rows)
    assert frame.columns == ["series", "voxel", "held_out", "features"]
    answer = frame.toArrow()
    features = np.stack(answer["features"].to_numpy())
    hidden = keras.Model(fitted.model.inputs, fitted.model.get_layer("hidden").output)
    order = answer["voxel"].to_numpy()
    np.testing.assert_allclose(features, hidden.predict(series[order], verbose=0), rtol=1e-5, atol=1e-6)
    whole = np.stack(fitted.transform(rows, {fitted.outputLayer: ""}).toArrow()["features"].to_numpy())
    np.testing.assert_allclose(whole, fitted.model.predict(series[order], verbose=0), rtol=1e-5, atol=1e-6)


def test_trainer_and_model_are_saved_and_loaded(rows, make_model, tmp_path):
    trainer = DownpourTrainer(model=make_model(), outputLayer="hidden", nWorkers=2, epochs=2, progress=False)
    trainer.save(str(tmp_path / "trainer"))
    again = DownpourTrainer.load(str(tmp_path / "trainer"))
    assert (again.getOrDefault("epochs"), again.getOrDefault("outputLayer")) == (2, "hidden")
    fitted = again.fit(rows)
    fitted.save(str(tmp_path / "model"))
    loaded = DownpourModel.load(str(tmp_path / "model"))
    assert loaded.training["history"] == fitted.training["history"]
    before, after = (np.stack(m.transform(rows).toArrow()["features"].to_numpy()) for m in (fitted, loaded))
    np.testing.assert_array_equal(before, after)
    with pytest.raises(SettingsError, match="exists already"):
        fitted.save(str(tmp_path / "model"))
    fitted.write().overwrite().save(str(tmp_path / "model"))


def test_other_lengths_are_refused_unless_a_length_is_given(spark, make_model):
    rows = spark.createDataFrame([([0.5] * 13,), ([0.5] * 9,), ([0.5] * 15,)], "series array<float>").coalesce(1)
    with pytest.raises(Exception, match="series must have 13 scans; got 9, 13, 15"):
        DownpourTrainer(model=make_model(), nWorkers=1, progress=False).fit(rows)
    fitted = DownpourTrainer(model=make_model(), nWorkers=1, seriesLength=13, outputLayer="hidden", progress=False).fit(rows)
    assert fitted.transform(rows).count() == 3


@pytest.mark.parametrize(
    "options, match",
    [
        ({"model": None}, "model must be a built and compiled keras.Model"),
        ({"nWorkers": 0}, "nWorkers must be a whole number of at least 1; got 0"),
        ({"batchSize": -1}, "batchSize must be"),
        ({"wireType": "int8"}, "wireType must be one of float32, bfloat16, float16; got 'int8'"),
        ({"patience": 3}, "patience needs rows that are held out"),
        ({"resume": True}, "checkpointDir must name the folder"),
        ({"nWorkers": 3, "maxStaleness": 1}, "max_staleness must be at least 2 with 3 workers"),
        ({"mode": "synchronous", "nPush": 2}, "nPush must be 1 in a synchronous training; got 2"),
        ({"mode": "synchronous", "nWorkers": 3}, "runs all workers at once: 3 workers do not fit on 2 slots"),
        ({"serversOn": "executors", "nServers": 2}, "2 parameter servers on executors need 3 slots.*the cluster has 2"),
        ({"seriesLength": 12}, "seriesLength must be 13, as the model takes; got 12"),
    ],
)
def test_settings_that_make_no_sense_are_refused(rows, make_model, options, match):
    with pytest.raises(SettingsError, match=match):
        DownpourTrainer(**{"model": make_model(), "progress": False, **options}).fit(rows)


def test_an_optimizer_that_servers_cannot_apply_is_refused(rows, make_model):
    with pytest.raises(SettingsError, match="treat every weight by itself .*; got Muon"):
        DownpourTrainer(model=make_model(keras.optimizers.Muon()), progress=False).fit(rows)


@pytest.mark.parametrize(
    "options",
    [
        {"wireType": "bfloat16"},
        {"wireType": "float16", "tls": True},
        {"pipeline": True, "nServers": 2},
        {"mode": "synchronous"},
        {"maxStaleness": 1, "stalenessScaling": True},
        {"nWorkers": 1, "serversOn": "executors"},
    ],
    ids=lambda options: "-".join(f"{name}-{value}" for name, value in options.items()),
)
def test_every_way_of_training_learns(rows, series, make_model, options):
    model = make_model(keras.optimizers.Adam(0.01))
    before = model.evaluate(series, series, verbose=0)
    trained = DownpourTrainer(**{"model": model, "nWorkers": 2, "epochs": 12, "batchSize": 8, "progress": False, **options}).fit(
        rows
    )
    assert trained.model.evaluate(series, series, verbose=0) < 0.5 * before
    history = trained.training["history"]
    assert len(history) == 12
    if options.get("maxStaleness"):
        assert max(epoch["staleness_max"] for epoch in history) <= options["maxStaleness"]
    if options.get("mode"):
        assert max(epoch["staleness_max"] for epoch in history) == 0


def test_training_ends_when_the_validation_loss_gets_no_better(rows, series, make_model, tmp_path):
    model = make_model(keras.optimizers.SGD(0.0001))  # the loss falls for ever, but from one epoch on it is told that it rises
    trainer = DownpourTrainer(
        model=model, nWorkers=2, epochs=400, batchSize=8, validationIndicatorCol="held_out", patience=2, progress=False,
        eventDir=str(tmp_path / "events"),
    )  # fmt: skip
    losses = iter([3.0, 1.0, *np.linspace(2, 3, 400)])

    class Watched(TrainingWatch):
        def __init__(self, n_rows, validate, *arguments):
            super().__init__(n_rows, lambda: (next(losses), validate()[1]), *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sparkneuro.train.estimator.TrainingWatch", Watched)
        trained = trainer.fit(rows)
    training = trained.training
    assert training["stopped_early"] and training["best"]["validation_loss"] == 1.0
    assert len(training["history"]) < 400
    assert len(list((tmp_path / "events").iterdir())) == 1


def test_a_training_that_has_ended_can_be_resumed_and_does_nothing_again(rows, make_model, tmp_path):
    options = {"nWorkers": 2, "epochs": 3, "batchSize": 8, "progress": False, "checkpointDir": str(tmp_path / "kept")}
    first = DownpourTrainer(model=make_model(), **options).fit(rows)
    again = DownpourTrainer(model=make_model(), resume=True, **options).fit(rows)
    np.testing.assert_array_equal(read_vector(first.model)[0], read_vector(again.model)[0])
    assert [epoch["loss"] for epoch in again.training["history"]] == [epoch["loss"] for epoch in first.training["history"]]


def test_checkpoints_of_another_training_are_refused(rows, make_model, tmp_path):
    options = {"nWorkers": 1, "batchSize": 8, "progress": False, "checkpointDir": str(tmp_path / "kept")}
    DownpourTrainer(model=make_model(), **options).fit(rows)
    with pytest.raises(SettingsError, match=r"are of another training: it has batchSize 8, not 9"):
        DownpourTrainer(model=make_model(), resume=True, **{**options, "batchSize": 9}).fit(rows)
    with pytest.raises(SettingsError, match="it has model .*, not "):
        DownpourTrainer(model=make_model(batch_normalization=True), resume=True, **options).fit(rows)
    with pytest.raises(SettingsError, match="it has nServers 1, not 2"):
        DownpourTrainer(model=make_model(), resume=True, nServers=2, **options).fit(rows)
    with pytest.raises(FormatError, match="must hold checkpoints to resume from; it holds none"):
        DownpourTrainer(model=make_model(), resume=True, **{**options, "checkpointDir": str(tmp_path / "none")}).fit(rows)


def test_no_rows_are_refused(rows, make_model):
    with pytest.raises(SettingsError, match="must be rows to train on"):
        DownpourTrainer(model=make_model(), progress=False).fit(rows.limit(0))


def test_columns_that_do_not_fit_are_refused(rows, make_model):
    fitted = DownpourModel(make_model(), {"series_length": 13})
    with pytest.raises(SettingsError, match="inputCol must be a column .*got 'nothing'"):
        fitted.transform(rows, {fitted.inputCol: "nothing"})
    with pytest.raises(SettingsError, match="the frame has 'voxel' already"):
        fitted.transform(rows, {fitted.outputCol: "voxel"})
    with pytest.raises(SettingsError, match="outputLayer must be a part of the model .*got 'soul'"):
        fitted.transform(rows, {fitted.outputLayer: "soul"})


def test_a_folder_of_something_else_is_refused(tmp_path):
    with pytest.raises(FormatError, match="must be the folder of a trained model"):
        DownpourModel.load(str(tmp_path))
