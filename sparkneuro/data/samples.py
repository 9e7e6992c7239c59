"""Folders of ready-made inputs, BIDS-named: the synthetic data set with its truth beside it, and whose folder a folder is."""

import json

import numpy as np

from sparkneuro.data import store, synthetic
from sparkneuro.data.nifti import write_volume
from sparkneuro.errors import SettingsError

DESCRIPTION = "dataset_description.json"
MAKER = "sparkneuro sample"
SLOPE = 0.5
"""What a stored int16 of a synthetic run stands for."""

TRUTH = "derivatives/truth"


def check_folder(folder, name, settings):
    """Check that a folder is absent, empty, or holds the sample that is wanted.

    Parameters
    ----------
    folder : str
        Path of the sample.
    name : str
        Name of the sample.
    settings : dict
        What it is made with.

    Raises
    ------
    SettingsError
        When it holds something else, or another sample.
    """
    path = store.join(folder, DESCRIPTION)
    if store.exists(path):
        _check_description(folder, path, name, settings)
    elif store.exists(folder) and (not store.is_folder(folder) or store.list_files(folder, recursive=True)):
        raise SettingsError(f"{folder}: this holds something else than a sample; choose an empty or new folder.")


def claim_folder(folder, name, settings):
    """Check a folder and make it ours by a BIDS description, which says what sample it is; remove what was left unfinished.

    Parameters
    ----------
    folder : str
        Path of the sample.
    name : str
        Name of the sample.
    settings : dict
        What it is made with.

    Raises
    ------
    SettingsError
        When it holds something else, or another sample.
    """
    check_folder(folder, name, settings)
    store.delete_unfinished(folder)
    made_by = {"Name": MAKER, "Description": name, "Settings": settings}
    description = {"Name": f"{MAKER} {name}", "BIDSVersion": "1.10.0", "DatasetType": "raw", "GeneratedBy": [made_by]}
    if not store.exists(store.join(folder, DESCRIPTION)):
        write_json(store.join(folder, DESCRIPTION), description)


def write_json(path, content):
    """Write a JSON file.

    Parameters
    ----------
    path : str
        Path.
    content : dict
        What it shall hold.
    """
    store.write_bytes(path, (json.dumps(content, indent=2) + "\n").encode())


def write_synthetic(folder, n_subjects=5, n_scans=284, noise=0.9, seed=0):
    """Write the synthetic data set: per subject a motor-task run, its events and mask, and what it would be without noise.

    Parameters
    ----------
    folder : str
        Where.
    n_subjects : int
        Subjects.
    n_scans : int
        Scans of each run, 0.72 s apart.
    noise : float
        Standard deviation of the noise, in percent of the baseline.
    seed : int
        The same seed gives the same bytes.

    Returns
    -------
    n_written : int
        Subjects that were missing.

    Raises
    ------
    SettingsError
        When the folder holds something else.
    """
    claim_folder(folder, "synthetic", {"subjects": n_subjects, "scans": n_scans, "noise": noise, "seed": seed})
    rng = np.random.default_rng(seed)
    mask, _ = synthetic.make_brain()
    maps = synthetic.make_networks(rng, mask)
    events = synthetic.make_events(rng, n_scans)
    series = synthetic.make_time_courses(events, n_scans)
    _write_common(folder, mask, maps)
    subjects = [f"{number:02d}" for number in range(1, n_subjects + 1)]
    missing = [subject for subject in subjects if not _is_complete(folder, subject)]
    for subject in missing:
        run = synthetic.make_run(np.random.default_rng([seed, int(subject)]), maps, series, noise)
        _write_subject(folder, subject, mask, events, series, run)
    return len(missing)


def _check_description(folder, path, name, settings):
    try:
        found = json.loads(store.read_bytes(path))["GeneratedBy"][0]
        ours = found["Name"] == MAKER
    except (ValueError, KeyError, IndexError, TypeError):
        ours = False
    if not ours:
        raise SettingsError(f"{folder}: this holds another data set; choose an empty or new folder.")
    if found["Description"] != name or found["Settings"] != settings:
        described = " ".join([found["Description"], *(f"--{key} {value}" for key, value in found["Settings"].items())])
        raise SettingsError(f"{folder}: this holds the sample {described}; choose another folder.")


def _names(subject):
    """Files of a subject, by what they are; the BOLD is written last."""
    func, stem = f"sub-{subject}/func/sub-{subject}_task-motor_run-1", f"{TRUTH}/sub-{subject}_task-motor_run-1"
    return {
        "events": f"{func}_events.tsv", "sidecar": f"{func}_bold.json", "mask": f"{func}_desc-brain_mask.nii.gz",
        "truth": f"{stem}_desc-truth_bold.nii.gz", "series": f"{stem}_desc-truth_timeseries.tsv", "bold": f"{func}_bold.nii.gz",
    }


def _is_complete(folder, subject):
    return all(store.exists(store.join(folder, name)) for name in _names(subject).values())


def _write_common(folder, mask, maps):
    if store.exists(store.join(folder, "README")):
        return
    name = f"Truth of {MAKER} synthetic"
    description = {"Name": name, "BIDSVersion": "1.10.0", "DatasetType": "derivative", "GeneratedBy": [{"Name": MAKER}]}
    write_json(store.join(folder, TRUTH, DESCRIPTION), description)
    write_volume(store.join(folder, TRUTH, "networks.nii.gz"), np.moveaxis(maps, 0, -1), synthetic.AFFINE)
    write_volume(store.join(folder, TRUTH, "brain_mask.nii.gz"), mask.astype(np.uint8), synthetic.AFFINE)
    store.write_bytes(store.join(folder, "README"), (
        "Synthetic task fMRI made by sparkneuro: one motor-task run a subject. derivatives/truth holds each run without noise,\n"
        f"the networks (one volume each: {', '.join(synthetic.CONDITIONS)}) and their time courses in percent of the baseline.\n"
    ).encode())


def _write_subject(folder, subject, mask, events, series, run):
    bold, truth, amplitudes = run
    path = {key: store.join(folder, name) for key, name in _names(subject).items()}
    lines = ["onset\tduration\ttrial_type", *(f"{onset:.3f}\t{duration:.3f}\t{name}" for onset, duration, name in events)]
    store.write_bytes(path["events"], ("\n".join(lines) + "\n").encode())
    write_json(path["sidecar"], {"RepetitionTime": synthetic.T_R, "TaskName": "motor"})
    write_volume(path["mask"], mask.astype(np.uint8), synthetic.AFFINE)
    write_volume(path["truth"], truth, synthetic.AFFINE, t_r=synthetic.T_R)
    rows = ["\t".join(synthetic.CONDITIONS), *("\t".join(f"{value:.6f}" for value in row) for row in series * amplitudes)]
    store.write_bytes(path["series"], ("\n".join(rows) + "\n").encode())
    stored = np.clip(np.rint(bold / SLOPE), 0, np.iinfo(np.int16).max).astype(np.int16)
    write_volume(path["bold"], stored, synthetic.AFFINE, t_r=synthetic.T_R, slope=SLOPE)
