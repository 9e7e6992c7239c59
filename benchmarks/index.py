"""How fast an archive is indexed: `sparkneuro index` against pybids, the same folder, each in a process of its own.

    python benchmarks/index.py [--quick] [--rounds N]

A BIDS data set of 200 subjects with 40 files each is made: BOLD runs of two tasks with a sidecar each, event tables, anatomy, and
sidecars of the tasks at the top and of the subjects below. Three ways take turns; medians of the wall time are printed, from the
first line of work on (imports of the libraries are not counted, they are printed apart):

    cold     `sparkneuro index` without an old index: names, sidecars with inheritance resolved, one Parquet file
    again    the same with the index that is there, nothing changed
    pybids   BIDSLayout without validation into a database file, and the metadata of every image

Both find the same images with the same fields, which is checked first.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

FILES_OF_A_SUBJECT = 40
SLICES = [round(0.033 * number, 3) for number in range(60)]

INDEX = """
import json, sys, time
start = time.perf_counter()
from sparkneuro.data.index import bids_datasets
from sparkneuro.data.index import bids_index_file
from sparkneuro.data.index import bids_index_update
from sparkneuro.data.index import bids_summary
from sparkneuro.data.index.bids_index import index_schema
from sparkneuro.pipelines.index import Settings, run
index_schema()
imported, cpu = time.perf_counter(), time.process_time()
run(Settings((sys.argv[1],), output=sys.argv[2]))
print(json.dumps([time.perf_counter() - imported, time.process_time() - cpu, imported - start]))
"""

PYBIDS = """
import json, sys, time
start = time.perf_counter()
import bids, bids.layout
imported, cpu = time.perf_counter(), time.process_time()
layout = bids.BIDSLayout(sys.argv[1], validate=False, database_path=sys.argv[2])
found = {file.path: file.get_metadata() for file in layout.get(extension=".nii.gz")}
seconds, cpu = time.perf_counter() - imported, time.process_time() - cpu
if len(sys.argv) > 3:
    json.dump(found, open(sys.argv[3], "w"))
print(json.dumps([seconds, cpu, imported - start]))
"""


def main():
    """Measure and print; the last line is one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smaller data set, one round: shows that it works")
    parser.add_argument("--rounds", type=int, default=3, help="how often each way is measured")
    words = parser.parse_args()
    n_subjects, n_rounds = (8, 1) if words.quick else (200, words.rounds)
    with tempfile.TemporaryDirectory() as folder:
        n_files = make_dataset(f"{folder}/ds", n_subjects)
        n_images = check_agreement(folder)
        seconds, cpu, imports = measure(folder, n_rounds)
    print(f"{n_files} files, {n_images} images with equal fields, one process, median of {n_rounds}")
    for way, times in seconds.items():
        spread, loading = f"{min(times):.3f} to {max(times):.3f}", median(imports[way])
        print(f"{way:<8} {median(times):8.3f} s ({spread}), {median(cpu[way]):.3f} s of CPU; imports {loading:.2f} s")
    cold, again, pybids = (round(median(seconds[way]), 4) for way in ("cold", "again", "pybids"))
    result = {"index_8000_files_s": cold, "index_again_s": again, "pybids_s": pybids, "vs_pybids": round(pybids / cold, 1)}
    result["index_8000_files_with_imports_s"] = round(cold + median(imports["cold"]), 4)
    result |= {f"{way}_cpu_s": round(median(times), 4) for way, times in cpu.items()}
    print(json.dumps({**result, "n_files": n_files, "n_images": n_images}))


def make_dataset(root, n_subjects):
    """Write the data set and return the number of its files; images are empty, which no way of indexing looks at."""
    write(f"{root}/dataset_description.json", {"Name": "benchmark", "BIDSVersion": "1.9.0"})
    for task, t_r in (("rest", 2.0), ("motor", 0.8)):
        write(f"{root}/task-{task}_bold.json", {"TaskName": task, "RepetitionTime": t_r, "Manufacturer": "Siemens"})
    for number in range(n_subjects):
        make_subject(f"{root}/sub-{number:03d}", f"sub-{number:03d}")
    return sum(len(files) for _, _, files in os.walk(root))


def make_subject(folder, subject):
    """Write 40 files: two sessions of one T1w and six runs, each with its sidecar and four of them with events."""
    write(f"{folder}/{subject}_task-rest_bold.json", {"CoilString": "HE1-4"})
    write(f"{folder}/{subject}_task-motor_bold.json", {"CoilString": "HE1-2"})
    for session in ("ses-a", "ses-b"):
        stem = f"{folder}/{session}/anat/{subject}_{session}_T1w"
        write(f"{stem}.nii.gz", None)
        write(f"{stem}.json", {"EchoTime": 0.003})
        for task in ("rest", "motor"):
            for run in (1, 2, 3):
                stem = f"{folder}/{session}/func/{subject}_{session}_task-{task}_run-{run:02d}"
                write(f"{stem}_bold.nii.gz", None)
                write(f"{stem}_bold.json", {"EchoTime": 0.03, "FlipAngle": 70, "SliceTiming": SLICES})
                if task == "motor" or run == 1 + (session == "ses-b"):
                    write(f"{stem}_events.tsv", None)
    for name in ("scans.tsv", "sessions.tsv"):
        write(f"{folder}/{subject}_{name}", None)


def write(path, content):
    """Write a JSON, or an empty file."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text("" if content is None else json.dumps(content, indent=2))


def check_agreement(folder):
    """Index by both ways and compare the fields of every image; return the number of images."""
    from sparkneuro.data.index.bids_index_file import read_index

    call(INDEX, f"{folder}/ds", f"{folder}/check.parquet")
    call(PYBIDS, f"{folder}/ds", f"{folder}/check.db", f"{folder}/check.json")
    theirs = json.loads(Path(f"{folder}/check.json").read_text())
    rows = read_index(f"{folder}/check.parquet").select(["path", "sidecar", "extension"]).to_pylist()
    ours = {row["path"]: json.loads(row["sidecar"]) for row in rows if row["extension"] == ".nii.gz"}
    if ours != theirs:
        raise SystemExit(f"the ways differ: {len(ours)} images and {len(theirs)}, or their fields")
    return len(ours)


def measure(folder, n_rounds):
    """Seconds of work, seconds of the processor for it, and seconds of imports, of each way and round."""
    seconds, cpu, imports = ({way: [] for way in ("cold", "again", "pybids")} for _ in range(3))
    for number in range(n_rounds):
        for way in seconds:
            program, target = (PYBIDS, f"{folder}/{number}.db") if way == "pybids" else (INDEX, f"{folder}/{number}.parquet")
            answers = call(program, f"{folder}/ds", target)
            for kind, answer in zip((seconds, cpu, imports), answers, strict=True):
                kind[way].append(answer)
    return seconds, cpu, imports


def call(program, *words):
    """Run a program in a process of its own and return what its last line says."""
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    answer = subprocess.run([sys.executable, "-c", program, *words], env=one_thread, check=True, capture_output=True, text=True)
    return json.loads(answer.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
