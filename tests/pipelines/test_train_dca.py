"""The command as a whole, on a small synthetic table: choices without Spark, trainings with it."""

import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="needs the keras extra")

from sparkneuro.data.nifti import write_volume  # noqa: E402
from sparkneuro.data.voxel_table import Run, VoxelTable, write_block  # noqa: E402
from sparkneuro.errors import FormatError, SettingsError  # noqa: E402
from sparkneuro.pipelines import train_dca, transform  # noqa: E402
from sparkneuro.pipelines.train_dca import Settings, announce_fitting, choose_series_length  # noqa: E402
from sparkneuro.train.model_folder import read_model_bytes, read_record, unpack_model  # noqa: E402


def write_table(path, lengths=(20, 20, 20), n_voxels=70, block_size=32):
    """A table of one run a length: sines with noise, in three blocks, the last of them partial."""
    rng = np.random.default_rng(0)
    runs = []
    for number, n_scans in enumerate(lengths, start=1):
        run = Run(f"0{number}", "", "rest", "", n_scans, 2.0, "", "", n_voxels)
        phases, speeds = rng.uniform(0, 6, (n_voxels, 1)), rng.uniform(0.2, 0.6, (n_voxels, 1))
        series = np.sin(np.arange(n_scans) * speeds + phases) * 1.4 + 0.1 * rng.standard_normal((n_voxels, n_scans))
        for block, start in enumerate(range(0, n_voxels, block_size)):
            voxel = np.arange(start, min(start + block_size, n_voxels), dtype=np.int32)
            write_block(path, run, block, voxel, series[voxel].astype(np.float32))
        runs.append(run)
    shape = (7, 5, 2)
    write_volume(f"{path}/mask.nii.gz", np.ones(shape, np.uint8), np.eye(4))
    table = VoxelTable(path, "native", np.eye(4).tolist(), shape, tuple(runs), block_size, n_voxels, (), "z-score")
    table.save()
    return table


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return write_table(str(tmp_path_factory.mktemp("table") / "sines.voxels"))


def settings_for(table, tmp_path, **options):
    chosen = {"preset": "tiny", "epochs": 3, "batch_size": 16, "progress": False, "learning_rate": 0.1, **options}
    return Settings(table.path, output=str(tmp_path / "tiny.model"), **chosen)


def test_runs_of_unequal_length_need_a_series_length(tmp_path):
    table = write_table(str(tmp_path / "t.voxels"), lengths=(20, 24, 20))
    with pytest.raises(SettingsError, match="--series-length must say .*got runs 2 of 20 scans, 1 of 24 scans"):
        train_dca.run(settings_for(table, tmp_path, standalone=True), None)
    assert not (tmp_path / "tiny.model").exists()


def test_cropping_and_padding_are_said(caplog):
    table = SimpleNamespace(runs=[SimpleNamespace(n_scans=n) for n in (20, 24, 20, 22)])
    assert choose_series_length(table, 22) == 22
    announce_fitting(table, 22)
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "runs of 20 scans are padded with zeros at the end to 22: 2.",
        "runs of 24 scans are cropped at the end to 22: 1.",
    ]


@pytest.mark.parametrize(
    "options, match",
    [
        ({"epochs": 0}, "--epochs must be a whole number of at least 1; got 0"),
        ({"batch_size": 0}, "--batch-size must be"),
        ({"workers": 0}, "--workers must be"),
        ({"learning_rate": 0.0}, "--learning-rate must be a number above 0"),
        ({"precision": "float8"}, "--precision must be one of float32, mixed_bfloat16; got 'float8'"),
        ({"events": "s3://bucket/events"}, "--events must be a folder of this machine, .*; got s3://bucket/events"),
        ({"patience": 0}, "--patience must be a whole number of at least 1; got 0"),
        ({"resume": True}, "tiny.model.checkpoints holds no checkpoints to go on from; train without --resume"),
        ({"resume": True, "checkpoint_every": 0}, "--resume goes on from checkpoints"),
        ({"series_length": 4}, "--series-length must be a whole number of at least 16; got 4"),
        ({"validation_subjects": ("77",)}, "must be subjects of the table"),
    ],
)
def test_settings_that_make_no_sense_are_refused_before_anything_is_written(table, tmp_path, options, match):
    with pytest.raises(SettingsError, match=match):
        train_dca.needs_spark(settings_for(table, tmp_path, **options))
    assert not (tmp_path / "tiny.model").exists()


def test_a_folder_that_is_no_table_is_refused(tmp_path):
    with pytest.raises(FormatError, match="not a voxel table"):
        train_dca.run(Settings(str(tmp_path), standalone=True), None)


@pytest.mark.processes
def test_standalone_training_learns_and_leaves_a_model(table, tmp_path):
    result = train_dca.run(settings_for(table, tmp_path, standalone=True, epochs=8), None)
    record = read_record(result["model"])
    losses = [epoch["loss"] for epoch in record["history"]]
    assert len(losses) == 8 and losses[-1] < 0.7 * losses[0]
    assert (record["n_training_series"], record["n_validation_series"]) == (140, 70)
    assert record["split"]["kind"] == "runs" and record["mode"] == "standalone"
    model = unpack_model(read_model_bytes(result["model"]))
    run = table.find_run(record["split"]["validation"][0])
    held_out = np.concatenate([table.read_block(run, block)[1] for block in range(table.n_blocks)])
    loss = model.evaluate(held_out, held_out, verbose=0)  # of the best epoch's weights, not of the last's
    assert loss == pytest.approx(min(epoch["validation_loss"] for epoch in record["history"]), rel=1e-4)
    assert loss == pytest.approx(record["best"]["validation_loss"], rel=1e-4)


@pytest.mark.processes
def test_standalone_training_ends_when_the_validation_loss_gets_no_better(table, tmp_path):
    settings = settings_for(table, tmp_path, standalone=True, epochs=300, patience=1, learning_rate=0.3, best_weights=False)
    record = read_record(train_dca.run(settings, None)["model"])
    assert record["stopped_early"] and len(record["history"]) < 300 and record["best"] is None


def test_another_optimizer_is_taken_by_its_name(table, tmp_path):
    model = train_dca.make_model(settings_for(table, tmp_path, optimizer="Adam"), 20)
    assert isinstance(model.optimizer, keras.optimizers.Adam)
    with pytest.raises(SettingsError, match="--optimizer must be the name of a Keras optimizer.*got 'magic'"):
        train_dca.make_model(settings_for(table, tmp_path, optimizer="magic"), 20)


@pytest.mark.processes
def test_a_model_is_not_replaced_unless_allowed(table, tmp_path):
    settings = settings_for(table, tmp_path, standalone=True, epochs=1)
    train_dca.run(settings, None)
    with pytest.raises(SettingsError, match="tiny.model exists already; name another --output, or give --overwrite"):
        train_dca.run(settings, None)
    train_dca.run(settings_for(table, tmp_path, standalone=True, epochs=2, overwrite=True), None)
    assert len(read_record(str(tmp_path / "tiny.model"))["history"]) == 2


@pytest.mark.processes
def test_mixed_precision_reaches_the_layers_and_nothing_else(table, tmp_path):
    before = keras.config.dtype_policy()
    train_dca.run(settings_for(table, tmp_path, standalone=True, epochs=1, precision="mixed_bfloat16"), None)
    model = unpack_model(read_model_bytes(str(tmp_path / "tiny.model")))
    assert model.encoder.convolutions[0].compute_dtype == "bfloat16"
    assert keras.config.dtype_policy() == before


@pytest.mark.engine
@pytest.mark.parametrize(
    "options", [{}, {"servers": 2, "push": 3, "fetch": 3, "warmup_steps": 2, "validation_subjects": ("02",)}]
)
def test_training_on_spark_and_transforming(spark, table, tmp_path, options):
    result = train_dca.run(settings_for(table, tmp_path, epochs=8, **options), spark)
    record = read_record(result["model"])
    losses = [epoch["loss"] for epoch in record["history"]]
    assert len(losses) == 8 and losses[-1] < max(losses)  # whether it learns well is asked elsewhere
    assert (record["n_training_series"], record["n_validation_series"], record["mode"]) == (140, 70, "downpour")
    assert all(epoch["staleness_max"] >= 0 for epoch in record["history"])

    output = str(tmp_path / "h.voxels")
    transform.run(transform.Settings(table.path, model=result["model"], output=output), spark)
    features = VoxelTable.open(output)
    assert (features.units, [run.key for run in features.runs]) == ("feature", [run.key for run in table.runs])
    model = unpack_model(read_model_bytes(result["model"]))
    for run in features.runs:
        for block in range(table.n_blocks):
            voxel, series = table.read_block(run, block)
            voxel_again, h = features.read_block(run, block)
            np.testing.assert_array_equal(voxel, voxel_again)
            np.testing.assert_allclose(h, model.encoder.predict(series, verbose=0), rtol=1e-4, atol=1e-5)


@pytest.mark.engine
def test_runs_are_cropped_and_padded_on_spark(spark, tmp_path):
    table = write_table(str(tmp_path / "t.voxels"), lengths=(20, 24))
    result = train_dca.run(settings_for(table, tmp_path, epochs=1, series_length=22, validation_fraction=0.0), spark)
    assert read_record(result["model"])["series_length"] == 22
    output = str(tmp_path / "h.voxels")
    transform.run(transform.Settings(table.path, model=result["model"], output=output), spark)
    assert [run.n_scans for run in VoxelTable.open(output).runs] == [22, 22]


@pytest.mark.engine
def test_a_table_that_lacks_a_file_is_refused(spark, tmp_path):
    table = write_table(str(tmp_path / "t.voxels"))
    os.unlink(table.block_path(table.runs[1], 0))
    with pytest.raises(FormatError, match="210 rows are promised and 178 are there; make the table again"):
        train_dca.run(settings_for(table, tmp_path), spark)
    assert not (tmp_path / "tiny.model").exists()


@pytest.mark.engine
def test_ctrl_c_during_training_leaves_nothing(tmp_path):
    table = write_table(str(tmp_path / "t.voxels"))
    output = tmp_path / "tiny.model"
    words = ["train", "dca", table.path, "--preset", "tiny", "--epochs", "100000", "--output", str(output)]
    with open(tmp_path / "stderr", "w+") as errors:
        command = [sys.executable, "-c", "import sys; from sparkneuro.cli import main; sys.exit(main())", *words]
        process = subprocess.Popen(command, stderr=errors, stdout=subprocess.DEVNULL, start_new_session=True)
        deadline = time.monotonic() + 120
        while "staleness" not in (said := (tmp_path / "stderr").read_text()) and time.monotonic() < deadline:
            assert process.poll() is None, said
            time.sleep(0.2)
        ours = _descendants(process.pid)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process of the group
        assert process.wait(timeout=60) == 130
    said = (tmp_path / "stderr").read_text()
    assert (
        said.rstrip().splitlines()[-1].endswith("sparkneuro: interrupted; what was finished is kept.") and "Traceback" not in said
    )
    assert not output.exists()
    assert len(ours) >= 3  # the JVM, a worker, a server
    assert _wait_until_gone(ours) == []


@pytest.mark.engine
def test_a_training_whose_driver_was_killed_is_resumed_and_repeats_no_batch(tmp_path):
    table = write_table(str(tmp_path / "t.voxels"))
    output = tmp_path / "tiny.model"
    words = ["train", "dca", table.path, "--preset", "tiny", "--epochs", "40", "--batch-size", "4", "--workers", "2"]
    words += ["--servers", "2", "--checkpoint-every", "25", "--output", str(output), "--no-progress"]
    command = [sys.executable, "-c", "import sys; from sparkneuro.cli import main; sys.exit(main())"]
    process = subprocess.Popen([*command, *words], stdout=subprocess.DEVNULL, start_new_session=True)
    checkpoints = tmp_path / "tiny.model.checkpoints"
    deadline = time.monotonic() + 120
    while not list(checkpoints.glob("shard-001-of-002.0000000001?5.npz")) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.05)
    ours = _descendants(process.pid)
    process.kill()
    process.wait()
    assert _wait_until_gone(ours) == [] and not output.exists()
    done = max(int(path.name.split(".")[1]) for path in checkpoints.glob("shard-000-*"))
    refused = subprocess.run([*command, *words], capture_output=True, text=True, timeout=120)
    assert refused.returncode == 1 and "go on with it by --resume" in refused.stderr
    resumed = subprocess.run([*command, *words, "--resume", "--seed", "1"], capture_output=True, text=True, timeout=120)
    assert resumed.returncode == 1 and "are of another training: it has seed 0, not 1" in resumed.stderr
    resumed = subprocess.run([*command, *words, "--resume"], capture_output=True, text=True, timeout=240)
    assert resumed.returncode == 0, resumed.stderr
    record = read_record(str(output))
    assert [epoch["epoch"] for epoch in record["history"]] == list(range(1, 41))
    # One update a batch: 140 rows in two partitions, whose last batch is partial or not. One applied twice would be one more.
    assert done >= 100 and record["updates"] in (40 * 35, 40 * 36)
    assert not checkpoints.exists()


def test_a_training_that_failed_before_its_first_update_has_left_nothing_to_go_on_from(table, tmp_path):
    folder = tmp_path / "other.model.checkpoints"
    folder.mkdir()
    (folder / "run.json").write_text("{}")
    (folder / "shard-000-of-001.000000000000.npz").write_bytes(b"")
    settings = Settings(table.path, output=str(tmp_path / "other.model"))
    train_dca.prepare(settings)
    (folder / "shard-000-of-001.000000000001.npz").write_bytes(b"")
    with pytest.raises(SettingsError, match="go on with it by --resume, or give --overwrite"):
        train_dca.prepare(settings)


def _descendants(pid):
    psutil = pytest.importorskip("psutil")
    return psutil.Process(pid).children(recursive=True)


def _wait_until_gone(processes):
    psutil = pytest.importorskip("psutil")
    return psutil.wait_procs(processes, timeout=30)[1]
