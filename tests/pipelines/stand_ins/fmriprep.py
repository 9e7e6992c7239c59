#!/usr/bin/env python3
"""A stand-in for fMRIPrep: same arguments, files of the same names and forms, in no time; and it misbehaves when it is told to.

Each raw BOLD run gives a preprocessed one (the raw values on the raw grid, said to be in the output space), a brain mask, and a
confounds table with the columns that nilearn's load_confounds reads. $STAND_IN names a folder; its file `behaviour.json` says by
subject what each attempt in turn does (the last one for all that follow), its folder `pids` tells who ran:

    ok, crash, killed, hang, stubborn (hangs and ignores SIGTERM), half (damaged output, exit code 1), half-ok (exit code 0),
    no-report, no-confounds, empty, eat (memory), grandchild (hangs, with a daemon of its own), leave (succeeds but for it)

Standard library only, so that it starts quickly.
"""

import argparse
import gzip
import json
import math
import os
import pathlib
import random
import signal
import struct
import sys
import time

VERSION = "24.1.1"
MOTION = [f"{kind}_{axis}" for kind in ("trans", "rot") for axis in "xyz"]
N_COMPONENTS, N_COSINES = 3, 2


def main():
    if "--version" in sys.argv:
        print(f"fMRIPrep v{os.environ.get('STAND_IN_VERSION', VERSION)}")
        return 0
    options = parse()
    label = options.participant_label[0]
    state = pathlib.Path(os.environ["STAND_IN"]) if "STAND_IN" in os.environ else None
    behaviour = choose_behaviour(state, label)
    announce(state, label)
    print(f"fMRIPrep stand-in: sub-{label}, {behaviour}")
    options.work_dir.mkdir(parents=True, exist_ok=True)
    (options.work_dir / "node.pklz").write_text("what a crashed run goes on from")
    misbehave(behaviour, state, label)
    preprocess(options, label, behaviour)
    if behaviour == "half":
        print("RuntimeError: node bold_mni crashed", file=sys.stderr)
        return 1
    return 0


def parse():
    parser = argparse.ArgumentParser(prog="fmriprep")
    parser.add_argument("bids_dir", type=pathlib.Path)
    parser.add_argument("output_dir", type=pathlib.Path)
    parser.add_argument("analysis_level", choices=["participant"])
    parser.add_argument("--participant-label", "--participant_label", nargs="+", type=lambda label: label.removeprefix("sub-"))
    parser.add_argument("-w", "--work-dir", type=pathlib.Path, default="work")
    parser.add_argument("--nprocs", type=int)
    parser.add_argument("--omp-nthreads", type=int)
    parser.add_argument("--mem", "--mem-mb", type=int)
    parser.add_argument("--output-spaces", nargs="*", default=["MNI152NLin2009cAsym"])
    parser.add_argument("--bids-filter-file", type=pathlib.Path)
    parser.add_argument("--fs-license-file", type=pathlib.Path)
    parser.add_argument("--fs-no-reconall", action="store_true")
    parser.add_argument("--dummy-scans", type=int)
    parser.add_argument("-t", "--task-id")
    options = parser.parse_args()
    for path in (options.bids_dir, options.bids_filter_file, options.fs_license_file):
        if path is not None and not path.exists():
            parser.error(f"Path does not exist: <{path}>.")
    if not (options.bids_dir / "dataset_description.json").exists():
        parser.error("dataset_description.json is missing")
    return options


def choose_behaviour(state, label):
    if state is None or not (state / "behaviour.json").exists():
        return "ok"
    turns = json.loads((state / "behaviour.json").read_text()).get(label, ["ok"])
    n_before = len(list((state / "pids").glob(f"sub-{label}.run-*"))) if (state / "pids").exists() else 0
    return turns[min(n_before, len(turns) - 1)]


def announce(state, label, kind="run"):
    if state is not None:
        (state / "pids").mkdir(exist_ok=True)
        (state / "pids" / f"sub-{label}.{kind}-{os.getpid()}").write_text(json.dumps(sys.argv))


def misbehave(behaviour, state, label):
    if behaviour == "crash":
        print("Traceback (most recent call last):\nValueError: no T1w image for sub-" + label, file=sys.stderr)
        sys.exit(3)
    if behaviour == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if behaviour in ("grandchild", "leave"):
        make_daemon(state, label)
    if behaviour == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        announce(state, label, "deaf")
    if behaviour == "eat":
        eaten = []
        while True:
            eaten.append(bytearray(os.urandom(1 << 12) * (5 << 8)))  # 5 MB, every page of it touched
            time.sleep(0.02)
    if behaviour in ("hang", "stubborn", "grandchild"):
        print("hanging", flush=True)
        time.sleep(600)


def make_daemon(state, label):
    """A process with a session of its own whose parent is gone, as programs leave that are not well kept."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            announce(state, label, "daemon")
            time.sleep(600)
        os._exit(0)
    os.wait()
    while state is not None and not list((state / "pids").glob(f"sub-{label}.daemon-*")):
        time.sleep(0.01)


def preprocess(options, label, behaviour):
    output = options.output_dir
    output.mkdir(parents=True, exist_ok=True)
    description = {
        "Name": "fMRIPrep - fMRI PREProcessing workflow", "BIDSVersion": "1.4.0", "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "fMRIPrep", "Version": VERSION, "CodeURL": "https://github.com/nipreps/fmriprep"}],
    }
    if not os.environ.get("STAND_IN_UNDESCRIBED"):
        (output / "dataset_description.json").write_text(json.dumps(description))
    for raw in sorted((options.bids_dir / f"sub-{label}").rglob("*_bold.nii.gz")):
        if options.task_id and f"_task-{options.task_id}_" not in raw.name:
            continue
        folder = output / raw.parent.relative_to(options.bids_dir)
        folder.mkdir(parents=True, exist_ok=True)
        write_run(raw, folder, options.output_spaces, behaviour)
    if behaviour != "no-report":
        (output / f"sub-{label}.html").write_text(f"<!DOCTYPE html><title>fMRIPrep report</title><p>sub-{label}</p>")


def write_run(raw, folder, spaces, behaviour):
    content = gzip.decompress(raw.read_bytes())
    stem = raw.name.removesuffix("_bold.nii.gz")
    shape = struct.unpack_from("<8h", content, 40)[1:5]
    t_r = struct.unpack_from("<f", content, 92)[0]
    sidecar = {"RepetitionTime": round(t_r, 6), "SkullStripped": False, "TaskName": stem.partition("_task-")[2].partition("_")[0]}
    for space in spaces:
        name, _, resolution = space.partition(":")
        prefix = f"{stem}_space-{name}" + (f"_{resolution}" if resolution else "")
        packed = gzip.compress(in_standard_space(content), 1, mtime=0)
        packed = packed[: len(packed) // 2] if behaviour.startswith("half") else b"" if behaviour == "empty" else packed
        (folder / f"{prefix}_desc-preproc_bold.nii.gz").write_bytes(packed)
        (folder / f"{prefix}_desc-preproc_bold.json").write_text(json.dumps(sidecar))
        mask = gzip.compress(make_mask(content, shape), 1, mtime=0)
        (folder / f"{prefix}_desc-brain_mask.nii.gz").write_bytes(mask)
        (folder / f"{prefix}_desc-brain_mask.json").write_text(json.dumps({"Type": "Brain", "RawSources": []}))
    if behaviour != "no-confounds":
        write_confounds(folder / f"{stem}_desc-confounds_timeseries", shape[3], stem)


def in_standard_space(content):
    """The raw image with sform and qform codes that say MNI."""
    return content[:252] + struct.pack("<2h", 4, 4) + content[256:]


def make_mask(content, shape):
    """A uint8 image: 1 where the first scan is above half of its mean."""
    form, n_voxels = struct.unpack_from("<h", content, 70)[0], shape[0] * shape[1] * shape[2]
    letter = {2: "B", 4: "h", 8: "i", 16: "f", 64: "d", 512: "H"}[form]
    first = struct.unpack_from(f"<{n_voxels}{letter}", content, int(struct.unpack_from("<f", content, 108)[0]))
    middle = sum(first) / n_voxels / 2
    header = bytearray(in_standard_space(content)[:352])
    struct.pack_into("<8h", header, 40, 3, *shape[:3], 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, 2, 8)
    struct.pack_into("<3f", header, 108, 352, 1, 0)  # where the data begin, and no scaling
    return bytes(header) + bytes(value > middle for value in first)


def write_confounds(stem, n_scans, seed):
    columns = make_confounds(n_scans, random.Random(seed))
    rows = zip(*columns.values(), strict=True)
    lines = ["\t".join("n/a" if value is None else f"{value:.6f}" for value in row) for row in rows]
    pathlib.Path(f"{stem}.tsv").write_text("\n".join(["\t".join(columns), *lines]) + "\n")
    components = {}
    for number in range(N_COMPONENTS):
        for kind, method, mask in (("c_comp_cor", "aCompCor", "CSF"), ("w_comp_cor", "aCompCor", "WM"),
                                   ("a_comp_cor", "aCompCor", "combined"), ("t_comp_cor", "tCompCor", None)):
            components[f"{kind}_{number:02}"] = {
                "Method": method, "Retained": True, "SingularValue": 30.0 - number, "VarianceExplained": 0.2 / (number + 1),
                "CumulativeVarianceExplained": 0.2 * (number + 1), **({"Mask": mask} if mask else {}),
            }
    pathlib.Path(f"{stem}.json").write_text(json.dumps(components))


def make_confounds(n_scans, rng):
    """Columns in fMRIPrep's order; a head that drifts and jerks once, and tissues that follow it a little."""
    jerk = n_scans // 2
    motion = {name: [0.002 * k * rng.random() + (0.8 if k >= jerk and name == "trans_z" else 0) for k in range(n_scans)]
              for name in MOTION}
    displacement = [None] + [
        sum(abs(motion[name][k] - motion[name][k - 1]) * (50 if name.startswith("rot") else 1) for name in MOTION)
        for k in range(1, n_scans)
    ]
    columns = {}
    for name in ("global_signal", "csf", "white_matter"):
        columns |= expand(name, [1000 + 10 * rng.random() + 5 * motion["trans_z"][k] for k in range(n_scans)])
    columns["csf_wm"] = [1000 + 10 * rng.random() for _ in range(n_scans)]
    columns["std_dvars"] = [None] + [1 + 0.1 * rng.random() for _ in range(1, n_scans)]
    columns["dvars"] = [None] + [20 * value for value in columns["std_dvars"][1:]]
    columns["framewise_displacement"] = displacement
    columns["rmsd"] = [None] + [value / 2 for value in displacement[1:]]
    for kind in ("t_comp_cor", "a_comp_cor", "c_comp_cor", "w_comp_cor"):
        columns |= {f"{kind}_{number:02}": [rng.gauss(0, 0.1) for _ in range(n_scans)] for number in range(N_COMPONENTS)}
    for order in range(1, N_COSINES + 1):
        columns[f"cosine{order - 1:02}"] = [
            math.sqrt(2 / n_scans) * math.cos(math.pi * order * (k + 0.5) / n_scans) for k in range(n_scans)
        ]
    columns["non_steady_state_outlier00"] = [float(k == 0) for k in range(n_scans)]
    for name in MOTION:
        columns |= expand(name, motion[name])
    columns["motion_outlier00"] = [float(k == jerk) for k in range(n_scans)]
    return columns


def expand(name, values):
    derivative = [None] + [after - before for before, after in zip(values, values[1:], strict=False)]
    return {
        name: values, f"{name}_derivative1": derivative,
        f"{name}_derivative1_power2": [None if value is None else value**2 for value in derivative],
        f"{name}_power2": [value**2 for value in values],
    }


if __name__ == "__main__":
    sys.exit(main())
