"""On which rows an autoencoder is measured, and how PCA does on the same."""

from collections import namedtuple

import numpy as np

from sparkneuro.data import store
from sparkneuro.errors import SettingsError
from sparkneuro.pipelines.split import is_held_out, select_rows

# Which rows are measured (a mask over RowErrors), whether the training's split says so, which they are and which PCA was fitted
# on in words.
Evaluation = namedtuple("Evaluation", "measured by_split which fitted_on")


def check_length(table, record):
    """Check that the model takes the table's series.

    Parameters
    ----------
    table : VoxelTable
        The table.
    record : dict
        The model's ``training.json``.

    Returns
    -------
    fit : bool
        Whether the training cropped or padded its series, so that the report does too.

    Raises
    ------
    SettingsError
        When runs have another length than the model, and the training did not say what to do with such.
    """
    length, fit = record["series_length"], "seriesLength" in record.get("params", {})
    for run in table.runs:
        if run.n_scans != length and not fit:
            remedy = f"train with --series-length {length} or choose another table"
            raise SettingsError(f"{table.path}: run {run.key} has {run.n_scans} scans, but the model takes {length}; {remedy}.")
    return fit


def choose_rows(table, record, rows):
    """Choose the rows on which methods are compared: those held out from the training, where it is known which.

    Parameters
    ----------
    table : VoxelTable
        The table.
    record : dict
        The model's ``training.json``.
    rows : RowErrors
        All rows of the table.

    Returns
    -------
    evaluation : Evaluation
        The choice, and how it is said.
    """
    split, everything = record["split"], np.ones(len(rows.run), bool)
    labels = {
        "subjects": {run.subject for run in table.runs}, "runs": {run.key for run in table.runs},
        "blocks": set(range(table.n_blocks)), "none": set(),
    }[split["kind"]]  # fmt: skip
    same_name = store.locate(table.path)[1].rpartition("/")[2] == store.locate(record["table"])[1].rpartition("/")[2]
    if not same_name or labels != {*split["training"], *split["validation"]}:
        which = f"all {len(everything):,} rows of this table, which is not the one that the model was trained on"
        return Evaluation(everything, False, which, "the same rows")
    if split["kind"] == "blocks":
        held_out = np.isin(rows.voxel // table.block_size, split["validation"])
    else:
        held_out = np.array([is_held_out(split, run, 0) for run in table.runs])[rows.run]
    if not held_out.any():
        which = f"all {len(everything):,} rows, training rows included, because none were held out"
        return Evaluation(everything, False, which, "the same rows")
    what = f"{len(split['validation'])} of {len(labels)} {split['kind']}"
    caveat = "; neighbouring voxels share signal, so these are new voxels but not new people" if split["kind"] == "blocks" else ""
    which = f"{held_out.sum():,} held-out rows ({what}{caveat})"
    return Evaluation(held_out, True, which, f"the {(~held_out).sum():,} training rows")


def measure_pca(dataframe, split, series_length, fit):
    """Measure the error of PCA with every number of components.

    One pass over the series on Spark, two when some are held out; only sums of products move, see `accumulate_moments`.

    Parameters
    ----------
    dataframe : pyspark.sql.DataFrame
        Of `data.spark.read_voxel_table`.
    split : dict or None
        Of `split.choose_split`: fitted on its training rows, measured on the others. None: all rows for both.
    series_length : int
        Samples T of a series.
    fit : bool
        Whether series of other lengths are cropped or padded, or refused.

    Returns
    -------
    errors : ndarray of shape (T + 1,)
        Mean squared error with 0, 1, ..., T components.
    """
    from sparkneuro.analysis.pca import fit_components, mean_squared_errors
    from sparkneuro.analysis.spark import accumulate_moments

    if split is None:
        training = measured = accumulate_moments(dataframe, series_length, fit=fit)
    else:
        training = accumulate_moments(select_rows(dataframe, split, "training"), series_length, fit=fit)
        measured = accumulate_moments(select_rows(dataframe, split, "validation"), series_length, fit=fit)
    return mean_squared_errors(measured, fit_components(training))


def compare_methods(rows, measured, pca_errors, model):
    """Put the autoencoder's errors beside those of PCA.

    Parameters
    ----------
    rows : RowErrors
        All rows of the table.
    measured : ndarray of shape (n_rows,), bool
        Those that count.
    pca_errors : ndarray of shape (T + 1,)
        Of `measure_pca`, on the same rows.
    model : DeepConvolutionalAutoencoder
        The model.

    Returns
    -------
    table : list of tuple
        Method, numbers kept of a series, switches kept of it, mean squared error, median r or None.
    errors : dict of str to float
        Mean squared error of each method.
    """
    length = model.series_length
    switches = sum(n * filters for n, filters in zip(model.decoder.lengths[1:], model.filters[:3], strict=True))
    parts = (
        ("autoencoder", switches, rows.error, rows.correlation),
        ("autoencoder, H alone", 0, rows.error_from_features, rows.correlation_from_features),
    )
    table = [
        (name, length, bits, float(error[measured].mean(dtype=float)), float(np.nanmedian(correlation[measured])))
        for name, bits, error, correlation in parts
    ]
    table += [(f"PCA, {name}", n, 0, float(pca_errors[n]), None) for name, n in (("T/2", length // 2), ("T/4", length // 4))]
    table.append(("mean series", 0, 0, float(pca_errors[0]), None))
    return table, {row[0]: row[3] for row in table}
