"""How much memory volumes and an export take, measured from outside: the peak of a process that works on one run."""

import json
import subprocess
import sys

import numpy as np
import pytest

from sparkneuro.data import store
from sparkneuro.data.nifti import write_volume
from sparkneuro.data.voxel_table import Run, VoxelTable, write_block

AFFINE = np.diag([3.0, 3.0, 3.0, 1.0])
MEASURE = """
import json, re, sys
from {module} import {function}
job, small = json.loads(sys.argv[1]), json.loads(sys.argv[2])
def peak():
    return 1024 * int(re.search(r"VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())[1])
{function}(small)  # code that is loaded when it is first used belongs to the imports
before = peak()
{function}(job)
print(peak() - before)
"""
pytestmark = [
    pytest.mark.processes, pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak from /proc")
]


def measure(module, function, job, small):
    words = [sys.executable, "-c", MEASURE.format(module=module, function=function), json.dumps(job), json.dumps(small)]
    return int(subprocess.run(words, capture_output=True, text=True, check=True, timeout=300).stdout)


def test_a_run_of_any_length_takes_some_volumes_and_a_block_of_scans(tmp_path):
    shape, n_scans = (50, 60, 36), 150
    settings = {"shape": [48, 64, 32], "voxel_size": 3.2, "interpolation": "linear", "standardize": "zscore", "dtype": "float32"}
    jobs = []
    for name, length, side in (("long", n_scans, shape), ("short", 2, (6, 5, 4))):
        path = str(tmp_path / f"{name}_bold.nii.gz")
        bold = np.random.default_rng(0).integers(0, 4, size=(*side, length), dtype=np.int8)
        write_volume(path, bold, AFFINE, t_r=2.0)
        size, modified = store.stat(path)
        jobs.append({"output": str(tmp_path / "x"), "settings": settings, "path": path, "key": name, "size": size,
                     "modified": modified, "n_scans": length, "t_r": 2.0})
    jobs[1]["settings"] = {**settings, "shape": [4, 4, 4]}
    peak = measure("sparkneuro.pipelines.volumes_task", "store_image", *jobs)
    volume_bytes = 4 * int(np.prod(settings["shape"]))
    assert 1e6 < peak < 20 * volume_bytes < n_scans * volume_bytes / 7, f"{peak / volume_bytes:.1f} volumes"


def test_an_export_takes_some_blocks_of_the_table(tmp_path):
    n_voxels, n_scans, block_size = 100000, 300, 2000
    jobs = []
    for name, count in (("large", n_voxels), ("small", 50)):
        path = str(tmp_path / f"{name}.voxels")
        run = Run("01", "", "rest", "", n_scans, 2.0, "", "", count)
        for block in range(-(-count // block_size)):
            voxel = np.arange(block * block_size, min(count, (block + 1) * block_size), dtype=np.int32)
            write_block(path, run, block, voxel, np.random.default_rng(block).random((len(voxel), n_scans), np.float32))
        write_volume(f"{path}/mask.nii.gz", np.ones((count // 10, 5, 2), np.uint8), AFFINE)
        VoxelTable(path, "native", AFFINE.tolist(), (count // 10, 5, 2), (run,), block_size, count, (), "z-score").save()
        jobs.append({"table": path, "compression": "gzip", "path": f"{path}.h5", "run_numbers": [0], "files": ["mask.nii.gz"],
                     "fingerprint": "", "n_bytes": 0})
    peak = measure("sparkneuro.pipelines.export_task", "export_file", *jobs)
    block_bytes = block_size * n_scans * 4
    # Arrow's allocator keeps several blocks; a table four times as large takes no more.
    assert 1e6 < peak < 28 * block_bytes < n_voxels * n_scans * 4 * 0.6, f"{peak / block_bytes:.1f} blocks"
