"""Write one self-contained HTML page on a voxel table and the autoencoder that was trained on it.

Runs and their quality (sparkneuro quality shows them scan by scan), the course of the training, series beside their
reconstructions, the first layer's filters, a map of the reconstruction error, and that error beside PCA's. The rows are
reconstructed on Spark; only a few numbers a row come back.
"""

import logging
import platform
from dataclasses import asdict, dataclass
from importlib import metadata

import numpy as np

from sparkneuro.data import store
from sparkneuro.data.batches import fit_length
from sparkneuro.data.row_space import locate_rows, place_rows
from sparkneuro.data.voxel_table import VoxelTable
from sparkneuro.errors import FormatError, SettingsError
from sparkneuro.pipelines.evaluation import check_length, choose_rows, compare_methods, measure_pca
from sparkneuro.pipelines.quality_section import check_pages, describe_quality
from sparkneuro.pipelines.settings import argument, option
from sparkneuro.train.model_folder import read_model_bytes, read_record

log = logging.getLogger(__name__)
SOFTWARE = ("sparkneuro", "keras", "tensorflow", "pyspark", "numpy", "pyarrow", "matplotlib")
RANKS = (("best", 1.0), ("upper quartile", 0.75), ("median", 0.5), ("lower quartile", 0.25), ("worst", 0.0))


@dataclass(frozen=True)
class Settings:
    """Settings of ``sparkneuro report``; see each field's help."""

    table: str = argument("voxel table, usually the one that the model was trained on")
    model: str = option("dca.model", "folder of a trained model")
    features: str = option(None, "voxel table of hidden features, written by sparkneuro transform")
    output: str = option("report.html", "the page")
    quality: str = option(None, "folder of pages that sparkneuro quality has written, to link to")


def needs_spark(settings):
    """Say whether a Spark session is needed: always, once tables and model are known to be ones.

    Parameters
    ----------
    settings : Settings
        The job's settings.

    Returns
    -------
    needed : bool
        True.

    Raises
    ------
    FormatError
        When a table or the model is not one.
    SettingsError
        When the pages on quality are not there.
    """
    for path in filter(None, (settings.table, settings.features)):
        VoxelTable.open(path)
    read_record(settings.model)
    if settings.quality:
        check_pages(settings.quality)
    return True


def run(settings, spark):
    """Measure the model on the table, and write the page.

    Parameters
    ----------
    settings : Settings
        The job's settings.
    spark : pyspark.sql.SparkSession
        The session.

    Returns
    -------
    result : dict
        Where the page is, and the errors in it.

    Raises
    ------
    FormatError
        When the table or the model is not one.
    SettingsError
        When they do not go together, or the output is a folder.
    """
    from sparkneuro.report.html import build_page

    if store.is_folder(settings.output):
        raise SettingsError(f"{settings.output} is a folder; --output must name a file.")
    table, record = VoxelTable.open(settings.table), read_record(settings.model)
    features = VoxelTable.open(settings.features) if settings.features else None
    packed = read_model_bytes(settings.model)
    sections, numbers = build_sections(spark, table, record, packed, features)
    quality = describe_quality(table, settings.output, settings.quality)
    sections[1:1] = [quality] if quality else []
    numbers = {"format": 1, "table": settings.table, "model": settings.model, **numbers}
    subtitle = f"Voxel table {settings.table}, model {settings.model}"
    page = build_page("Deep convolutional autoencoder: report", subtitle, sections, numbers)
    store.write_bytes(settings.output, page.encode())
    errors = numbers["mean_squared_error"]
    return {
        "report": settings.output,
        "measured on": numbers["measured_on"],
        **{f"error, {name}": f"{error:.4g}" for name, error in errors.items()},
        "median r": f"{numbers['median_r']['autoencoder']:.3f}",
    }


def build_sections(spark, table, record, packed, features=None):
    """Measure everything, and describe it.

    Parameters
    ----------
    spark : pyspark.sql.SparkSession
        The session.
    table : VoxelTable
        The table.
    record : dict
        The model's ``training.json``.
    packed : bytes
        The model's ``.keras`` file.
    features : VoxelTable or None
        Its hidden features.

    Returns
    -------
    sections : list of tuple of (str, list of str)
        For `html.build_page`.
    numbers : dict
        The figures that the sections show.
    """
    from sparkneuro.data.spark import read_voxel_table
    from sparkneuro.pipelines.reconstruction import measure_rows
    from sparkneuro.report import sections

    fit, length = check_length(table, record), record["series_length"]
    model = _unpack(packed)
    frame = read_voxel_table(spark, table.path)
    log.info("reconstructing %d runs", len(table.runs))
    rows = measure_rows(frame, table.runs, packed, length, fit)
    evaluation = choose_rows(table, record, rows)
    log.info("principal components")
    pca_errors = measure_pca(frame, record["split"] if evaluation.by_split else None, length, fit)
    examples = _draw_examples(table, rows, evaluation.measured, model, length)
    t_r, unit = _common([run.t_r for run in table.runs]), table.units
    table_rows, errors = compare_methods(rows, evaluation.measured, pca_errors, model)
    levels = {name: errors[name] for name in ("autoencoder", "autoencoder, H alone")}
    numbers = table.row_numbers() if table.has_grid else None
    mask, affine = None if numbers is None else numbers > 0, np.array(table.affine)
    described = [
        sections.describe_data([asdict(run) for run in table.runs], table.steps, mask, affine, _mean_tsnr(table), unit),
        sections.describe_training(record),
        sections.describe_reconstructions(examples, rows.correlation[evaluation.measured], evaluation.which, t_r, unit),
        sections.describe_filters(model.encoder.convolutions[0].get_weights()[0][:, 0], t_r),
        *([] if numbers is None else [_describe_map(rows, numbers, affine, len(table.runs), _square(unit))]),
        sections.describe_errors(table_rows, pca_errors, levels, evaluation.which, evaluation.fitted_on, _square(unit)),
    ]
    if features is not None:
        described.append(_describe_features(spark, features))
    described.append(sections.describe_settings(record["settings"], _versions()))
    numbers = {
        "measured_on": evaluation.which, "n_rows": int(evaluation.measured.sum()), "series_length": length, "unit": unit,
        "mean_squared_error": errors, "pca_mean_squared_error": pca_errors,
        "median_r": {row[0]: row[4] for row in table_rows if row[4] is not None},
        "examples": [{name: example[name] for name in ("name", "correlation")} for example in examples],
        "training": {name: value for name, value in record.items() if name != "settings"},
    }  # fmt: skip
    return described, numbers


def _unpack(packed):
    from sparkneuro.models.dca import DeepConvolutionalAutoencoder
    from sparkneuro.train.model_folder import unpack_model

    model = unpack_model(packed)
    if not isinstance(model, DeepConvolutionalAutoencoder):
        raise FormatError(f"the model must be a DeepConvolutionalAutoencoder; it is a {type(model).__name__}.")
    return model


def _draw_examples(table, rows, measured, model, length):
    from sparkneuro.models.dca_reconstruction import Reconstructions

    candidates = np.flatnonzero(measured & np.isfinite(rows.correlation))
    if not len(candidates):
        return []
    order = candidates[np.argsort(rows.correlation[candidates], kind="stable")]
    places = [order[round(rank * (len(order) - 1))] for _, rank in RANKS]
    series = np.concatenate([_read_series(table, rows, place, length) for place in places])
    reconstructions = Reconstructions(model).predict_on_batch(series)[0]
    where = locate_rows(table.row_numbers(), table.affine) if table.has_grid else None
    examples = []
    for n, ((rank, _), place) in enumerate(zip(RANKS, places, strict=True)):
        spot = f"row {rows.voxel[place]}"
        if where is not None:
            x, y, z = where[rows.voxel[place]]
            spot = f"x {x:.0f}, y {y:.0f}, z {z:.0f} mm"
        name = f"{rank} ({table.runs[rows.run[place]].key}, {spot})"
        correlation = float(rows.correlation[place])
        examples.append({"name": name, "series": series[n], "reconstruction": reconstructions[n], "correlation": correlation})
    return examples


def _read_series(table, rows, place, length):
    voxels, series = table.read_block(table.runs[rows.run[place]], rows.voxel[place] // table.block_size)
    at = np.searchsorted(voxels, rows.voxel[place])
    return fit_length(series[at : at + 1], length)


def _describe_map(rows, numbers, affine, n_runs, unit):
    from sparkneuro.report.sections import describe_map

    counts, sums = np.bincount(rows.voxel), np.bincount(rows.voxel, rows.error)
    measured = np.flatnonzero(counts)
    errors = place_rows(numbers, measured, sums[measured] / counts[measured])
    return describe_map(np.nan_to_num(errors), np.isfinite(errors), numbers > 0, affine, n_runs, unit)


def _mean_tsnr(table):
    total, counts = np.zeros(table.shape), np.zeros(table.shape)
    for run in table.runs:
        tsnr = table.tsnr_map(run)
        if tsnr is not None:
            total += tsnr
            counts += tsnr > 0
    return total / np.maximum(counts, 1) if counts.any() else None


def _describe_features(spark, features):
    from sparkneuro.analysis.pca import fit_components
    from sparkneuro.analysis.spark import accumulate_moments
    from sparkneuro.data.spark import read_voxel_table
    from sparkneuro.report.sections import describe_features

    width = features.runs[0].n_scans
    moments = accumulate_moments(read_voxel_table(spark, features.path), width)
    return describe_features(fit_components(moments).variances, moments.n_series, features.path)


def _versions():
    found = {"Python": platform.python_version()}
    for name in SOFTWARE:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _common(values):
    return values[0] if len(set(values)) == 1 else None


def _square(unit):
    return f"{unit}²"
