"""Small voxel and feature tables with planted weights, for the tests of encoding over a voxel table."""

from dataclasses import dataclass

import numpy as np

from sparkneuro.data.feature_table import write_features
from sparkneuro.data.nifti import write_volume
from sparkneuro.data.voxel_table import Run, VoxelTable, write_block


@dataclass(frozen=True)
class Planted:
    """A voxel table, a feature table, and the arrays that they hold.

    Y is a dict of subject to (n_scans of all runs, n_voxels); X (n_scans of all runs, n_features); runs are slices.
    """

    table: VoxelTable
    features: str
    X: np.ndarray
    Y: dict
    runs: list


def plant(folder, subjects=("01",), scans=(41, 37, 45, 33), n_features=7, shape=(4, 5, 3), block_size=17, noise=1.0, seed=0,
          missing=()):  # fmt: skip
    """Write a voxel table whose series are features times planted weights, and noise.

    Parameters
    ----------
    folder : pathlib.Path
        Where the tables go.
    subjects : sequence of str
        Labels; all see the same stimulus.
    scans : sequence of int
        Of each run.
    n_features, block_size : int
        Sizes; a block has so many voxels.
    shape : tuple of int
        Of the volume, all of it in the mask.
    noise : float
        Standard deviation beside the signal's of 1.
    seed : int
        Seed.
    missing : sequence of (int, int)
        Runs and voxels that have no row.

    Returns
    -------
    planted : Planted
        The tables and what they hold.
    """
    rng = np.random.default_rng(seed)
    n_voxels, ends = int(np.prod(shape)), np.cumsum(scans)
    runs = [slice(int(end - n), int(end)) for end, n in zip(ends, scans, strict=True)]
    X = rng.standard_normal((ends[-1], n_features)).astype(np.float32)
    path = str(folder / "movie.voxels")
    records, Y = [], {}
    for subject in subjects:
        weights = rng.standard_normal((n_features, n_voxels)) / n_features**0.5
        series = (X @ weights + noise * rng.standard_normal((ends[-1], n_voxels))).astype(np.float32)
        Y[subject] = series
        for place, rows in enumerate(runs):
            kept = np.setdiff1d(np.arange(n_voxels), [voxel for run, voxel in missing if run == place])
            run = Run(subject, "", "movie", str(place + 1), scans[place], 1.5, "made", "", len(kept))
            records.append(run)
            for block in range(-(-n_voxels // block_size)):
                voxel = kept[(kept >= block * block_size) & (kept < (block + 1) * block_size)].astype(np.int32)
                write_block(path, run, block, voxel, np.ascontiguousarray(series[rows][:, voxel].T))
    affine = np.diag([2.0, 2.0, 2.5, 1.0])
    write_volume(f"{path}/mask.nii.gz", np.ones(shape, np.uint8), affine)
    table = VoxelTable(path, "native", affine.tolist(), shape, tuple(sorted(records, key=lambda run: run.key)), block_size,
                       n_voxels, ("planted",), "z-score")  # fmt: skip
    table.save()
    for place, rows in enumerate(runs):
        write_features(str(folder / "vgg.features"), Run("", "", "movie", str(place + 1), scans[place], 1.5, "", "", 0), X[rows])
    return Planted(table, str(folder / "vgg.features"), X, Y, runs)


def call_each(function, jobs):
    """Call a task for each job, in this process: what Spark does on a cluster."""
    return [function(job) for job in jobs]
