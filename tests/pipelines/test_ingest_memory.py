"""How much memory an ingest takes, measured from outside: the peak of a process that ingests one run."""

import json
import subprocess
import sys

import numpy as np
import pytest

from sparkneuro.data.nifti import write_volume
from sparkneuro.pipelines.ingest import Settings
from sparkneuro.pipelines.ingest_plan import make_plan
from sparkneuro.pipelines.ingest_rows import make_rows

MEASURE = """
import json, re, sys
import numpy as np
from sparkneuro.pipelines.ingest_task import ingest_run
from sparkneuro.preprocess.run_cleaner import RunCleaner
from sparkneuro.data.block import open_block
from sparkneuro.data.runs import SourceRun
job = json.loads(sys.argv[1])
def peak():
    return 1024 * int(re.search(r"VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())[1])
# Code that is loaded when it is first used belongs to the imports.
RunCleaner(50, 2.0, high_pass=job["recipe"]["high_pass"]).clean(np.ones((20, 50), np.float32), np.zeros(20))
with open_block(job["table"] + "/_warm", SourceRun(**job["source"])) as append:
    append(np.zeros(1, np.int32), np.zeros((1, 3), np.float32))
before = peak()
ingest_run(job)
print(peak() - before)
"""


# Not getrusage: its peak is inherited from the process that starts this one.
@pytest.mark.processes
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak from /proc")
@pytest.mark.parametrize("high_pass", [None, 0.008])
@pytest.mark.parametrize(("dtype", "bound"), [("int16", 0.5), ("float32", 1)])
def test_the_peak_is_the_masked_run_as_it_is_stored_and_some_megabytes(tmp_path, dtype, bound, high_pass):
    shape, n_scans = (50, 60, 36), 150
    rng = np.random.default_rng(0)
    bold = rng.integers(0, 4, size=(*shape, n_scans), dtype=np.int8).astype(dtype)
    source, table = str(tmp_path / "sub-01_task-rest_bold.nii.gz"), str(tmp_path / "t.voxels")
    write_volume(source, bold, np.diag([3.0, 3.0, 3.0, 1.0]), t_r=2.0)
    mask = (rng.random(shape) < 0.7).astype(np.uint8)
    write_volume(f"{tmp_path}/mask.nii.gz", mask, np.diag([3.0, 3.0, 3.0, 1.0]))
    masked_bytes = int(mask.sum()) * n_scans * 4
    plan = make_plan(Settings((source,), output=table, mask=f"{tmp_path}/mask.nii.gz", high_pass=high_pass))
    make_rows(plan, None)
    words = [sys.executable, "-c", MEASURE, json.dumps(plan.make_job(plan.sources[0]))]
    peak = int(subprocess.run(words, capture_output=True, text=True, check=True, timeout=300).stdout)
    assert bound * masked_bytes < peak <= bound * masked_bytes + 35e6, f"{peak / 1e6:.0f} MB for {masked_bytes / 1e6:.0f} MB"
