"""How fast a run becomes rows: `sparkneuro ingest` against nibabel + NiftiMasker + Parquet, same file, one thread each.

    python benchmarks/ingest.py [--quick] [--source BOLD.nii.gz --mask MASK.nii.gz]

The run is read, masked (the mask is given), detrended, z-scored and written. Three ways: `task` is what one Spark task does,
called directly; `spark` is the whole command in a session that is up; `nilearn` is the usual script. The ways take turns;
medians are printed, in MB of the compressed source a second. Without --source a run like a scanner's is made: 64 x 64 x 30
voxels, 260 scans, int16.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from statistics import median

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import numpy as np  # noqa: E402  (numpy reads the number of threads when it is imported)
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
from nilearn.maskers import NiftiMasker  # noqa: E402
from scipy.ndimage import gaussian_filter  # noqa: E402

from sparkneuro.data.nifti import read_volume, write_volume  # noqa: E402
from sparkneuro.data.runs import find_runs  # noqa: E402
from sparkneuro.pipelines import ingest  # noqa: E402
from sparkneuro.pipelines.ingest_task import ingest_run  # noqa: E402
from sparkneuro.session import start_session, stop_session  # noqa: E402

RECIPE = {"detrend": True, "high_pass": None, "confounds": [], "standardize": True}


def main():
    """Measure and print; the last line is one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smaller run, fewer rounds: shows that it works, measures little")
    parser.add_argument("--source", help="BOLD file to take instead of a made one")
    parser.add_argument("--mask", help="its mask")
    parser.add_argument("--high-pass", type=float, help="also filter, cut-off in Hz")
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source, mask = (words.source, words.mask) if words.source else make_run(folder, n_scans=60 if words.quick else 260)
        seconds = measure(folder, source, mask, words.high_pass, n_rounds=2 if words.quick else 7)
        size = Path(source).stat().st_size / 1e6
        voxels = int((read_volume(mask)[0] != 0).sum())
    rates = {way: size / median(times) for way, times in seconds.items()}
    print(f"{size:.1f} MB, {voxels} voxels, high-pass {words.high_pass}, one thread, median of {len(seconds['task'])}")
    for way, rate in rates.items():
        print(f"{way:<8} {rate:8.1f} MB/s   {size / rate:6.2f} s   {rate / rates['nilearn']:5.2f} x nilearn")
    result = {f"{way}_mb_per_s": round(rate, 2) for way, rate in rates.items()}
    print(json.dumps({**result, "task_over_nilearn": round(rates["task"] / rates["nilearn"], 3), "n_voxels": voxels}))


def make_run(folder, n_scans):
    """Write a run like a scanner's, and its mask."""
    shape, affine, rng = (64, 64, 30), np.diag([3.5, 3.5, 4.0, 1.0]), np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"))
    brain = (grid**2).sum(axis=0) < 0.75
    baseline = np.where(brain, 9000 + 3000 * gaussian_filter(rng.normal(size=shape), 3), 150)
    bold = np.empty((*shape, n_scans), np.int16)
    for scan in range(n_scans):
        bold[..., scan] = np.rint(baseline + np.where(brain, 90, 30) * rng.normal(size=shape))
    source, mask = str(Path(folder) / "sub-01_task-rest_bold.nii.gz"), str(Path(folder) / "mask.nii.gz")
    write_volume(source, bold, affine, t_r=2.0)
    write_volume(mask, brain.astype(np.uint8), affine)
    return source, mask


def measure(folder, source, mask, high_pass, n_rounds):
    """Seconds of each way and round; a first round of each is not counted."""
    spark = start_session(master="local[1]", app_name="benchmark of ingest")
    ways = {
        "task": lambda table: run_task(table, source, mask, high_pass),
        "spark": lambda table: ingest.run(ingest.Settings((source,), output=table, mask=mask, high_pass=high_pass), spark),
        "nilearn": lambda table: run_nilearn(table, source, mask, high_pass),
    }
    seconds = {way: [] for way in ways}
    try:
        for number in range(n_rounds + 1):
            for way, call in ways.items():
                start = time.perf_counter()
                call(f"{folder}/{way}-{number}")
                seconds[way].append(time.perf_counter() - start)
    finally:
        stop_session(spark)
    return {way: times[1:] for way, times in seconds.items()}


def run_task(table, source, mask, high_pass):
    """What one Spark task does, without Spark."""
    volume, affine = read_volume(mask)
    write_volume(f"{table}/mask.nii.gz", (volume != 0).astype(np.uint8), affine)
    run = find_runs([source])[0].to_dict()
    ingest_run({"table": table, "source": run, "mask": "", "block_size": 4096, "recipe": {**RECIPE, "high_pass": high_pass}})


def run_nilearn(table, source, mask, high_pass):
    """The usual script: mask and clean the whole run by NiftiMasker, write one Parquet file."""
    masker = NiftiMasker(mask, detrend=True, standardize="zscore_sample", high_pass=high_pass, t_r=find_runs([source])[0].t_r)
    series = np.ascontiguousarray(masker.fit_transform(source).T, np.float32)
    lists = pa.ListArray.from_arrays(np.arange(len(series) + 1, dtype=np.int32) * series.shape[1], pa.array(series.reshape(-1)))
    os.makedirs(table)
    rows = pa.table({"voxel": pa.array(np.arange(len(series), dtype=np.int32)), "series": lists})
    pq.write_table(rows, f"{table}/run.parquet", use_dictionary=False)


if __name__ == "__main__":
    main()
