"""Many small data sets with one signal in common: different grids, repetition times and resolutions, as archives hold them.

In a voxel at (x, y, z) mm and at time t every subject measures ``1000 * (1 + 0.03 * field(x, y, z) * wave(t) + noise)``, so that
whatever a cohort holds can be compared with the truth.
"""

import json

import numpy as np

from sparkneuro.data import store
from sparkneuro.data.nifti import write_volume

SPACE = "MNI152NLin2009cAsym"
RADII = np.array([42.0, 50.0, 38.0])
"""Half axes of the brain (mm)."""

RATES = (2.0, 1.35, 0.8, 2.5, 1.0, 3.0, 1.5, 0.72, 2.2, 1.75)
EDGES = (
    (6, 6, 6), (5.5, 5.5, 7), (7, 6, 6), (6.5, 6.5, 6.5), (6, 7, 5.5),
    (5.5, 6, 6), (7, 7, 7), (6, 6, 7), (6.5, 6, 6), (5.8, 5.8, 6),
)  # fmt: skip


def field(places):
    """The signal's strength at places (n, 3) in mm, from -1 to 1."""
    x, y, z = places.T
    return np.sin(x / 25) * np.cos(y / 30) + 0.3 * np.sin(z / 20)


def wave(times):
    """The signal at times (s): slow against any repetition time."""
    return np.sin(2 * np.pi * 0.04 * times + 0.5)


def make_affine(number):
    """A grid of its own for each data set: voxel sizes, a small rotation, and left and right swapped in every other one."""
    edges = np.array(EDGES[number % len(EDGES)], float)
    angle = 0.04 * number
    rotation = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    if number % 2:
        rotation[:, 0] *= -1
    shape = tuple(np.ceil(2 * (RADII + 14) / edges).astype(int).tolist())
    affine = np.eye(4)
    affine[:3, :3] = rotation * edges
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2) + 0.7 * number
    return shape, affine


def places_of(shape, affine):
    """Places (n, 3) in mm of all voxels of a grid."""
    return np.indices(shape).reshape(3, -1).T @ np.asarray(affine)[:3, :3].T + np.asarray(affine)[:3, 3]


def write_dataset(folder, number, n_subjects, seconds=60, noise=0.004, factor=1.0, ageing=0.0, space=SPACE, baseline=1000):
    """Write a BIDS data set; what a subject deviates from its baseline is multiplied by the scanner's factor and by age."""
    shape, affine = make_affine(number)
    places, t_r = places_of(shape, affine), RATES[number % len(RATES)]
    inside = ((places / RADII) ** 2).sum(axis=1) <= 1
    times = np.arange(int(seconds / t_r)) * t_r
    signal = 0.03 * field(places)[:, None] * wave(times)
    description = {"Name": f"Scattered {number + 1}", "BIDSVersion": "1.10.0"}
    store.write_bytes(store.join(folder, "dataset_description.json"), json.dumps(description).encode())
    rows = ["participant_id\tage\tsex"]
    entity = f"_space-{space}" if space else ""
    for subject in range(1, n_subjects + 1):
        rng = np.random.default_rng([number, subject])
        age = 20 + 3 * subject + number
        deviation = (signal + noise * rng.standard_normal(signal.shape)) * factor * np.exp(ageing * age)
        bold = np.where(inside[:, None], baseline * (1 + deviation), 20 + rng.standard_normal(signal.shape))
        stem = store.join(folder, f"sub-{subject:02d}", "func", f"sub-{subject:02d}_task-rest{entity}_bold")
        stored = np.rint(bold * 10).astype(np.int16).reshape(*shape, len(times))
        write_volume(f"{stem}.nii.gz", stored, affine, t_r=t_r, slope=0.1)
        store.write_bytes(f"{stem}.json", json.dumps({"RepetitionTime": t_r}).encode())
        rows.append(f"sub-{subject:02d}\t{age}\t{'FM'[subject % 2]}")
    store.write_bytes(store.join(folder, "participants.tsv"), ("\n".join(rows) + "\n").encode())
    return folder
