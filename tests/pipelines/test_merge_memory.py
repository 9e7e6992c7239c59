"""How much memory a merge takes, measured from outside: the peak of a process that merges one run."""

import json
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest

from sparkneuro.data.nifti import write_volume
from sparkneuro.data.row_space import MASK
from sparkneuro.data.voxel_table import Run, VoxelTable, write_block

MEASURE = """
import json, re, sys
import numpy as np
from sparkneuro.pipelines.merge_task import merge_run
job = json.loads(sys.argv[1])
def peak():
    return 1024 * int(re.search(r"VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())[1])
merge_run({**job["small"], "stamp": ""})  # code that is loaded when it is first used belongs to the imports
before = peak()
merge_run(job["large"])
print(peak() - before)
"""
SHAPE, AFFINE = (50, 60, 36), np.diag([3.0, 3.0, 3.0, 1.0])
TARGET_SHAPE, TARGET_AFFINE = (46, 55, 33), np.diag([3.2, 3.2, 3.2, 1.0])


def make_job(folder, n_scans):
    """A source table with one run, a cohort's mask, and the job between them."""
    rng = np.random.default_rng(0)
    mask = rng.random(SHAPE) < 0.7
    n_voxels, source, table = int(mask.sum()), str(folder / f"s{n_scans}.voxels"), str(folder / f"c{n_scans}.voxels")
    run = Run("01", "", "rest", "", n_scans, 2.0, "x.nii.gz", "", n_voxels)
    write_volume(f"{source}/{MASK}", mask.astype(np.uint8), AFFINE)
    VoxelTable(source, "MNI", AFFINE.tolist(), SHAPE, (run,), 4096, n_voxels, (), "z-score").save()
    for block, start in enumerate(range(0, n_voxels, 4096)):
        voxels = np.arange(start, min(start + 4096, n_voxels), dtype=np.int32)
        write_block(source, run, block, voxels, rng.standard_normal((len(voxels), n_scans), np.float32))
    target = np.zeros(TARGET_SHAPE, np.uint8)
    target[1:-1, 1:-1, 1:-1] = 1
    write_volume(f"{table}/{MASK}", target, TARGET_AFFINE)
    fields = {"path": source, "affine": AFFINE.tolist(), "shape": SHAPE, "block_size": 4096, "n_voxels": n_voxels}
    grid = {"shape": TARGET_SHAPE, "affine": TARGET_AFFINE.tolist()}
    job = {
        "table": table, "source": fields, "origin": asdict(run), "run": {"subject": "ds01sub01"}, "dataset": "ds01",
        "participant": "01", "steps": [], "grid": grid, "n_voxels": int(target.sum()), "block_size": 4096,
        "interpolation": "linear", "t_r": None, "standardize": True, "adjustment": "", "stamp": "s",
    }
    return job, 4 * n_scans * n_voxels, 4 * n_scans * int(target.sum())


# Not getrusage: its peak is inherited from the process that starts this one.
@pytest.mark.processes
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak from /proc")
def test_the_peak_is_little_more_than_the_run_on_both_grids(tmp_path):
    small, *_ = make_job(tmp_path, 3)
    large, own, regridded = make_job(tmp_path, 150)
    words = [sys.executable, "-c", MEASURE, json.dumps({"small": small, "large": large})]
    peak = int(subprocess.run(words, capture_output=True, text=True, check=True, timeout=300).stdout)
    assert own > 40e6 and regridded > 40e6
    assert peak <= 1.3 * (own + regridded), f"{peak / (own + regridded):.2f} times the run as it was and as it will be"
