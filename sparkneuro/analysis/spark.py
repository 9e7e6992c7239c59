"""Analyses over the rows of a DataFrame: each partition is reduced where it lies, and only sums move."""

from functools import partial

import numpy as np
import pyarrow as pa

from sparkneuro.analysis.pca import Moments, accumulate, merge
from sparkneuro.data.batches import read_series

MOMENTS = "n_series long, total binary, products binary"


def accumulate_moments(dataframe, series_length, column="series", fit=False):
    """Sum up the series of a DataFrame for their principal components.

    Each partition sends one row of ``8 T (T + 1)`` bytes (0.65 MB at T = 284) into a tree of sums between executors; the driver
    receives about the square root of the number of partitions of them. No shuffle of the series.

    Parameters
    ----------
    dataframe : pyspark.sql.DataFrame
        With a column of series.
    series_length : int
        Samples T that each series has, or is cropped or zero-padded to.
    column : str
        Name of the array<float> column.
    fit : bool
        Whether series of other lengths are cropped or padded, or refused.

    Returns
    -------
    moments : Moments
        Sums over all rows; of none when there are none.
    """
    task = partial(_sum_partition, series_length=series_length, fit=fit)
    rows = dataframe.select(column).mapInArrow(task, MOMENTS).rdd
    # The zero of the sum travels with every task, so it is a scalar and not a matrix.
    moments = rows.map(_to_moments).treeAggregate(Moments(0, np.zeros(1), np.zeros((1, 1))), merge, merge)
    if moments.n_series == 0:
        return Moments(0, np.zeros(series_length), np.zeros((series_length, series_length)))
    return moments


def _sum_partition(batches, series_length, fit):
    moments = accumulate(np.empty((0, series_length)))
    for batch in batches:
        moments = merge(moments, accumulate(read_series(batch.column(0), series_length, fit)))
    if moments.n_series:
        values = {"total": [moments.total.tobytes()], "products": [moments.products.tobytes()]}
        yield pa.RecordBatch.from_pydict({"n_series": [moments.n_series], **values})


def _to_moments(row):
    total = np.frombuffer(row.total)
    return Moments(row.n_series, total, np.frombuffer(row.products).reshape(len(total), len(total)))
