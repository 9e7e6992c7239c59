"""The report as a whole: its sections, its numbers against NumPy and scikit-learn, and what it refuses."""

import json
import re

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="the report extra is not installed")
keras = pytest.importorskip("keras", reason="the keras extra is not installed")

from sparkneuro.data.nifti import write_volume  # noqa: E402
from sparkneuro.data.voxel_table import Run, VoxelTable, write_block  # noqa: E402
from sparkneuro.errors import FormatError, SettingsError  # noqa: E402
from sparkneuro.pipelines.report import Settings, run  # noqa: E402

T, N_VOXELS, BLOCK = 34, 30, 13
HEADINGS = [
    "Data", "Training", "Original and reconstruction", "First-layer filters", "Map of reconstruction error",
    "Reconstruction error beside PCA", "Hidden features", "Settings and versions",
]  # fmt: skip


def write_table(path, subjects, n_scans=T, units="z-score", seed=0):
    """A table with one run a subject; voxel 5 of the first has no row."""
    rng, runs, rows = np.random.default_rng(seed), [], {}
    mask = np.zeros((6, 5, 4), np.uint8)
    mask.flat[:: mask.size // N_VOXELS] = 1
    affine = np.diag([-3.0, 3, 4, 1])
    for subject in subjects:
        series = np.cumsum(rng.standard_normal((N_VOXELS, n_scans)), axis=1)
        series = (series - series.mean(1, keepdims=True)) / series.std(1, keepdims=True)
        voxels = np.delete(np.arange(N_VOXELS, dtype=np.int32), [5] if subject == subjects[0] else [])
        made = Run(subject, "", "rest", "", n_scans, 2.0, "x", "y", len(voxels), N_VOXELS - len(voxels))
        for block in range(-(-N_VOXELS // BLOCK)):
            inside = voxels[voxels // BLOCK == block]
            write_block(path, made, block, inside, series[inside].astype(np.float32))
        runs.append(made)
        rows[subject] = series[voxels].astype(np.float32)
    write_volume(f"{path}/mask.nii.gz", mask, affine)
    VoxelTable(path, "native", affine.tolist(), mask.shape, tuple(runs), BLOCK, N_VOXELS, ("z-score",), units).save()
    return rows


def write_model(folder, table, split):
    """A tiny model, hardly trained, and the record of its training."""
    from sparkneuro.models.dca import build_dca
    from sparkneuro.train import model_folder

    model = build_dca("tiny", T, seed=0)
    model.optimizer.build(model.trainable_variables)
    epoch = {"epoch": 1, "loss": 17.0, "validation_loss": 16.5, "series_per_s": 99.0, "seconds": 2.0}
    record = {
        "mode": "downpour", "settings": {"epochs": 1}, "table": table, "series_length": T, "n_parameters": model.count_params(),
        "split": split, "n_training_series": 59, "n_validation_series": 30, "params": {}, "startup_s": 1.0, "training_s": 2.0,
        "series_per_s": 99.0, "history": [{**epoch, "staleness_mean": 0.5, "staleness_max": 1}],
    }  # fmt: skip
    model_folder.write_model(folder, model, record)
    return model


@pytest.mark.engine
def test_the_page_holds_every_section_and_the_right_numbers(spark, tmp_path):
    decomposition = pytest.importorskip("sklearn.decomposition")
    table, features, output = (str(tmp_path / name) for name in ("t.voxels", "h.voxels", "new folder/report.html"))
    rows = write_table(table, ["01", "02", "03"])
    write_table(features, ["01", "02", "03"], n_scans=7, units="feature")
    model = write_model(str(tmp_path / "m"), table, {"kind": "subjects", "training": ["01", "03"], "validation": ["02"]})
    result = run(Settings(table, str(tmp_path / "m"), features, output), spark)
    page = (tmp_path / "new folder" / "report.html").read_text()
    assert result["report"] == output
    assert re.findall(r"<h2>(.*?)</h2>", page) == HEADINGS
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert not list((tmp_path / "new folder").glob(".*"))
    numbers = json.loads(re.search(r'id="report">(.*?)</script>', page).group(1))
    held_out, training = rows["02"], np.concatenate([rows["01"], rows["03"]]).astype(float)
    errors = numbers["mean_squared_error"]
    assert numbers["n_rows"] == 30 and numbers["measured_on"] == "30 held-out rows (1 of 3 subjects)"
    assert errors["autoencoder"] == pytest.approx(np.mean((model(held_out) - held_out) ** 2), rel=1e-4)
    from_features = model.decoder(model.encoder(held_out))
    assert errors["autoencoder, H alone"] == pytest.approx(np.mean((from_features - held_out) ** 2), rel=1e-4)
    for name, n_components in (("PCA, T/2", 17), ("PCA, T/4", 8)):
        pca = decomposition.PCA(n_components, svd_solver="full").fit(training)
        expected = np.mean((pca.inverse_transform(pca.transform(held_out)) - held_out) ** 2)
        assert errors[name] == pytest.approx(expected, rel=1e-4)
    correlations = [np.corrcoef(x, y)[0, 1] for x, y in zip(held_out, np.array(model(held_out)), strict=True)]
    assert numbers["median_r"]["autoencoder"] == pytest.approx(np.median(correlations), abs=1e-5)
    found = [example["correlation"] for example in numbers["examples"]]
    assert found[0] == pytest.approx(max(correlations), abs=1e-5) and found[-1] == pytest.approx(min(correlations), abs=1e-5)


@pytest.mark.engine
def test_all_rows_are_measured_and_said_to_be_when_none_were_held_out(spark, tmp_path):
    table, output = str(tmp_path / "t.voxels"), str(tmp_path / "report.html")
    write_table(table, ["01"])
    write_model(str(tmp_path / "m"), table, {"kind": "none", "training": [], "validation": []})
    run(Settings(table, str(tmp_path / "m"), None, output), spark)
    page = (tmp_path / "report.html").read_text()
    assert "all 29 rows, training rows included, because none were held out" in page
    assert re.findall(r"<h2>(.*?)</h2>", page) == [heading for heading in HEADINGS if heading != "Hidden features"]


def test_a_folder_that_holds_no_model_is_refused(tmp_path):
    table = str(tmp_path / "t.voxels")
    write_table(table, ["01"])
    (tmp_path / "m").mkdir()
    with pytest.raises(FormatError, match="must be the folder of a trained model"):
        run(Settings(table, str(tmp_path / "m"), None, str(tmp_path / "report.html")), None)


def test_a_model_of_another_length_and_an_output_that_is_a_folder_are_refused(tmp_path):
    table, model = str(tmp_path / "t.voxels"), str(tmp_path / "m")
    write_table(table, ["01"], n_scans=T + 3)
    write_model(model, table, {"kind": "none", "training": [], "validation": []})
    with pytest.raises(SettingsError, match=f"has {T + 3} scans, but the model takes {T}"):
        run(Settings(table, model, None, str(tmp_path / "report.html")), None)
    with pytest.raises(SettingsError, match="is a folder; --output must name a file"):
        run(Settings(table, model, None, str(tmp_path)), None)
    assert not (tmp_path / "report.html").exists()
