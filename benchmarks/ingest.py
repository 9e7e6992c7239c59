"""How fast one run becomes rows, and in how much memory: a task of `sparkneuro ingest` against nilearn and plain decompression.

    python benchmarks/ingest.py [--quick] [--cores 2] [--source BOLD.nii.gz --mask MASK.nii.gz]

Three ways, each in a process of its own that is pinned to the same core: `decompress` reads the file through isal and throws the
bytes away; `task` is what one Spark task of an ingest does, from the .nii.gz to the Parquet files; `nilearn` is the usual script,
NiftiMasker and one Parquet file. The mask is given. The ways take turns, after a small run that loads all code and after the
disk is synchronised. Medians of wall-clock and processor time are printed, and the peak of each process above what it held
before, as a multiple of the masked run in float32.

Without --source a run like a scanner's is made: 1,200 scans of 91 x 109 x 91 voxels (2 mm), int16, 230,000 voxels in the mask.
A recording of 156 scans is measured as well where ../shared/data has it. The recipes: detrending and z-scores; that and a
high-pass filter; that and 24 confounds. nilearn takes minutes for the made run: once for the first recipe, and for the others
with --all.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
RECIPES = {"plain": {}, "high-pass": {"high_pass": 0.008}, "confounds": {"n_confounds": 24}}
RECORDING = Path(__file__).resolve().parents[1] / "../shared/data/studyforrest_localizer"


def main():
    """Measure and print; the last line is one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smaller run, one round: shows that it works, measures little")
    parser.add_argument("--source", help="BOLD file to take instead of a made one")
    parser.add_argument("--mask", help="its mask")
    parser.add_argument("--cores", type=int, default=1, help="cores of each process")
    parser.add_argument("--rounds", type=int, help="rounds of the plain recipe; 3 when absent")
    parser.add_argument("--all", action="store_true", help="let nilearn take its turn in every round and recipe")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.child:
        print(json.dumps(measure_here(**json.loads(words.child))))
        return
    rounds = words.rounds or (1 if words.quick else 3)
    with tempfile.TemporaryDirectory() as folder:
        small = make_run(f"{folder}/small", (16, 17, 18), 2000, n_scans=150)
        if words.source:
            runs = {"": (words.source, words.mask)}
        else:
            size = ((46, 55, 46), 29_000, 120) if words.quick else ((91, 109, 91), 230_000, 1200)
            runs = {"": make_run(f"{folder}/made", *size)} | ({} if words.quick else find_recording(folder))
        result = {}
        for name, run in runs.items():
            for recipe in RECIPES:
                often = words.all or words.quick or name
                n_turns = {"decompress": rounds, "task": rounds, "nilearn": rounds if often else int(recipe == "plain")}
                measured = take_turns(folder, run, small, recipe, n_turns, words.cores)
                result |= compare(name, recipe, measured)
    print(json.dumps({**result, "cores": words.cores}))


def take_turns(folder, run, small, recipe, n_turns, n_cores):
    """What `measure_here` tells of each way and round."""
    environment = {**os.environ, **dict.fromkeys(THREADS, str(n_cores))}
    measured = {way: [] for way, n in n_turns.items() if n}
    for turn in range(max(n_turns.values())):
        for way in (way for way, n in n_turns.items() if turn < n):
            job = {"way": way, "run": run, "small": small, "recipe": recipe, "folder": f"{folder}/output", "n_cores": n_cores}
            words = [sys.executable, __file__, "--child", json.dumps(job)]
            answer = subprocess.run(words, env=environment, stdout=subprocess.PIPE, text=True, check=True)
            measured[way].append(json.loads(answer.stdout.splitlines()[-1]))
    return measured


def compare(name, recipe, measured):
    """Print the medians of a source and recipe, and return the ratios under their keys."""
    middle = {way: {key: median(one[key] for one in rounds) for key in rounds[0]} for way, rounds in measured.items()}
    task, plain, nilearn = middle["task"], middle["decompress"], middle.get("nilearn")
    size = f"{task['n_voxels']:.0f} voxels x {task['n_scans']:.0f} scans, {task['source_mb']:.0f} MB ({task['compression']:.0%})"
    print(f"\n{name or 'run'}, {recipe}: {size}, median of {len(measured['task'])}")
    for way, numbers in middle.items():
        memory = "" if way == "decompress" else f"   peak {numbers['peak_ratio']:5.2f} x masked run"
        rate = f"{numbers['raw_mb'] / numbers['wall']:7.1f} MB/s"
        print(f"{way:<10} {numbers['wall']:7.2f} s wall {numbers['cpu']:7.2f} s processor   {rate}{memory}", flush=True)
    values = {} if nilearn is None else {
        "ingest_vs_nilearn": nilearn["wall"] / task["wall"], "ingest_vs_nilearn_cpu": nilearn["cpu"] / task["cpu"],
        "peak_memory_ratio_nilearn": nilearn["peak_ratio"],
    }
    values |= {
        "fraction_of_decompression_rate": plain["wall"] / task["wall"],
        "fraction_of_decompression_rate_cpu": plain["cpu"] / task["cpu"],
        "peak_memory_ratio": task["peak_ratio"],
    }
    ending = "".join(f"_{word}" for word in (name, recipe if recipe != "plain" else "") if word)
    return {key + ending.replace("-", "_"): round(value, 3) for key, value in values.items()}


def measure_here(way, run, small, recipe, folder, n_cores):
    """Time one way in this process."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-n_cores:])
    make = {"decompress": make_decompression, "task": make_task, "nilearn": make_script}[way]
    options = RECIPES[recipe]
    shutil.rmtree(folder, ignore_errors=True)
    make(f"{folder}/small", *small, **options)()
    call = make(f"{folder}/run", *run, **options)
    os.sync()  # what an earlier way has left for the disk is not this one's work
    held = _status("VmRSS")
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = _status("VmHWM") - held
    shutil.rmtree(folder, ignore_errors=True)
    return {"wall": wall, "cpu": cpu, **describe(*run, peak)}


def describe(source, mask, peak):
    """Sizes of a run, and a peak as a multiple of the masked run in float32."""
    from sparkneuro.data.nifti import read_header, read_volume

    header, n_voxels = read_header(source), int((read_volume(mask)[0] != 0).sum())
    n_scans, size = header.shape[3], Path(source).stat().st_size
    return {
        "n_voxels": n_voxels, "n_scans": n_scans, "source_mb": size / 1e6, "raw_mb": header.n_bytes / 1e6,
        "compression": size / header.n_bytes, "peak_ratio": peak / (4 * n_voxels * n_scans),
    }


def _status(key):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return 1024 * int(line.split()[1])
    raise SystemExit("This program reads the memory of its processes from /proc: it needs Linux.")


def make_decompression(_, source, mask, **options):
    """Merely decompress."""
    from isal import igzip

    def decompress():
        buffer = bytearray(1 << 17)
        with igzip.open(source, "rb") as file:
            while file.readinto(buffer):
                pass

    return decompress


def make_task(table, source, mask, high_pass=None, n_confounds=0):
    """What one Spark task does, without Spark; the plan, which the driver makes, is made here."""
    from sparkneuro.pipelines.ingest import Settings
    from sparkneuro.pipelines.ingest_plan import make_plan
    from sparkneuro.pipelines.ingest_rows import make_rows
    from sparkneuro.pipelines.ingest_task import ingest_run

    plan = make_plan(Settings((source,), output=table, mask=mask, high_pass=high_pass))
    make_rows(plan, None)
    job = plan.make_job(plan.sources[0])
    if n_confounds:
        values = make_confounds(job["source"]["n_scans"], n_confounds)
        names = [f"c{number}" for number in range(n_confounds)]
        rows = ["\t".join(names), *("\t".join(map(repr, row)) for row in values.tolist())]
        job["source"]["confounds"], job["recipe"]["confounds"] = f"{table}/confounds.tsv", names
        Path(job["source"]["confounds"]).write_text("\n".join(rows))
    return partial(ingest_run, job)


def make_script(*words, **options):
    """The usual script, not begun."""
    return partial(run_script, *words, **options)


def run_script(table, source, mask, high_pass=None, n_confounds=0):
    """The usual script: mask and clean the whole run by NiftiMasker, write one Parquet file."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    from nilearn.maskers import NiftiMasker

    from sparkneuro.data.runs import find_runs

    run = find_runs([source])[0]
    masker = NiftiMasker(mask, detrend=True, standardize="zscore_sample", high_pass=high_pass, t_r=run.t_r)
    confounds = make_confounds(run.n_scans, n_confounds) if n_confounds else None
    series = np.ascontiguousarray(masker.fit_transform(source, confounds=confounds).T, np.float32)
    lists = pa.ListArray.from_arrays(np.arange(len(series) + 1, dtype=np.int32) * series.shape[1], pa.array(series.reshape(-1)))
    os.makedirs(table)
    rows = pa.table({"voxel": pa.array(np.arange(len(series), dtype=np.int32)), "series": lists})
    pq.write_table(rows, f"{table}/run.parquet", use_dictionary=False)


def make_confounds(n_scans, n_confounds):
    """Random walks, as head motion is one."""
    import numpy as np

    return np.random.default_rng(1).normal(size=(n_scans, n_confounds)).cumsum(axis=0)


def find_recording(folder):
    """The recording and its EPI mask, where it is there."""
    from sparkneuro.data.nifti import write_volume
    from sparkneuro.data.recordings.scans import read_mean_image
    from sparkneuro.preprocess.brain_mask import compute_mask

    paths = sorted(RECORDING.rglob("*_bold.nii.gz"))
    if not paths:
        return {}
    mean, affine = read_mean_image(str(paths[0]))
    write_volume(f"{folder}/recording_mask.nii.gz", compute_mask(mean, affine).astype("uint8"), affine)
    return {"recording": (str(paths[0]), f"{folder}/recording_mask.nii.gz")}


def make_run(folder, shape, n_voxels, n_scans):
    """Write a run like a scanner's, scan by scan, and its mask: a smooth brain that drifts, thermal noise, air around it."""
    import numpy as np
    from isal import igzip
    from scipy.ndimage import gaussian_filter

    from sparkneuro.data.nifti import write_volume

    rng, affine = np.random.default_rng(0), np.diag([2.0, 2.0, 2.0, 1.0])
    grid = np.meshgrid(*(np.linspace(-1.2, 1.2, n) for n in shape), indexing="ij")
    inside = np.zeros(shape, bool)
    inside.flat[np.argsort(sum(axis**2 for axis in grid), axis=None, kind="stable")[:n_voxels]] = True
    mask, source = f"{folder}/mask.nii.gz", f"{folder}/sub-01_task-rest_bold.nii.gz"
    write_volume(mask, inside.astype(np.uint8), affine)
    # The header is that of a volume which says how many scans there are; the scans follow.
    write_volume(source, np.empty((*shape, 1), np.int16), affine, t_r=2.0)
    with igzip.open(source, "rb") as file:
        header = bytearray(file.read(352))
    header[40:50] = np.array([4, *shape, n_scans], "<i2").tobytes()
    brain = inside.ravel(order="F")
    mean = np.where(brain, 9000 + 20000 * gaussian_filter(rng.normal(size=shape), 4).ravel(order="F"), 0).astype(np.float32)
    drift = (100 * rng.standard_normal(brain.size, np.float32)) * brain
    # Each scan takes its noise from another place of a long stretch; gzip looks back 32 kB only.
    noise, air = (rng.standard_normal(4 * brain.size, np.float32) for _ in range(2))
    air = 12 * np.hypot(air, noise)
    with igzip.open(source, "wb", compresslevel=1) as file:
        file.write(header)
        for scan in range(n_scans):
            stretch = slice(start := rng.integers(3 * brain.size), start + brain.size)
            values = mean + 90 * noise[stretch] + drift * np.float32(scan / n_scans - 0.5)
            file.write(np.rint(np.where(brain, values, air[stretch])).astype(np.int16).tobytes())
    return source, mask


if __name__ == "__main__":
    main()
