"""A small folder as fMRIPrep leaves it, for the tests of what reads it."""

import json

import nibabel
import numpy as np

SHAPE, N_SCANS, T_R = (10, 12, 8), 80, 2.0
AFFINE = np.array([[-4.0, 0, 0, 20], [0, 4.0, 0, -24], [0, 0, 4.0, -12], [0, 0, 0, 1.0]])
SPACE = "MNI152NLin2009cAsym"


def write_derivatives(folder, subjects=("01", "02"), n_scans=N_SCANS, seed=0):
    """Write preprocessed runs, their masks and confounds; return the runs' paths by subject."""
    paths = {}
    folder.mkdir(parents=True, exist_ok=True)
    description = {"Name": "d", "BIDSVersion": "1.9.0", "DatasetType": "derivative"}
    (folder / "dataset_description.json").write_text(json.dumps(description))
    for number, subject in enumerate(subjects):
        rng = np.random.default_rng([seed, number])
        func = folder / f"sub-{subject}" / "func"
        func.mkdir(parents=True)
        stem = f"sub-{subject}_task-rest"
        bold, mask = make_bold(rng, n_scans)
        paths[subject] = func / f"{stem}_space-{SPACE}_desc-preproc_bold.nii.gz"
        image = nibabel.Nifti1Image(bold, AFFINE)
        image.header.set_xyzt_units("mm", "sec")
        image.header.set_zooms((4, 4, 4, T_R))
        nibabel.save(image, paths[subject])
        nibabel.save(nibabel.Nifti1Image(mask, AFFINE), func / f"{stem}_space-{SPACE}_desc-brain_mask.nii.gz")
        table, sidecar = make_confounds(rng, n_scans)
        (func / f"{stem}_desc-confounds_timeseries.tsv").write_text(table)
        (func / f"{stem}_desc-confounds_timeseries.json").write_text(json.dumps(sidecar))
    return paths


def make_bold(rng, n_scans):
    """BOLD (x, y, z, n_scans) as float32, and the mask of its brain."""
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij"))
    mask = (grid**2).sum(axis=0) < 1.1
    drift = np.linspace(0, 30, n_scans)
    bold = 900 + 100 * rng.random(SHAPE)[..., None] + drift + rng.normal(0, 12, size=(*SHAPE, n_scans))
    return np.where(mask[..., None], bold, 20 * rng.random((*SHAPE, n_scans))).astype(np.float32), mask.astype(np.uint8)


def make_confounds(rng, n_scans):
    """fMRIPrep's confounds: the table as text, and its sidecar. Scans 20 and 21 have moved by more than 0.5 mm."""
    columns, empty = {}, [np.nan]
    for name in (*(f"{kind}_{axis}" for kind in ("trans", "rot") for axis in "xyz"), "csf", "white_matter", "global_signal"):
        values = rng.normal(0, 0.02, n_scans).cumsum()
        change = np.r_[empty, np.diff(values)]
        columns |= {name: values, f"{name}_derivative1": change}
        columns |= {f"{name}_power2": values**2, f"{name}_derivative1_power2": change**2}
    columns |= {f"cosine{k:02d}": np.cos(np.pi * (k + 1) * (np.arange(n_scans) + 0.5) / n_scans) for k in range(3)}
    displacement = rng.uniform(0.02, 0.2, n_scans)
    displacement[20:22] = 1.3
    columns["framewise_displacement"] = np.r_[empty, displacement[1:]]
    columns["std_dvars"] = np.r_[empty, rng.uniform(0.8, 1.2, n_scans - 1)]
    sidecar = {}
    for k in range(4):
        columns[f"a_comp_cor_{k:02d}"] = rng.normal(size=n_scans)
        facts = {"Mask": "combined", "Method": "aCompCor", "Retained": True, "CumulativeVarianceExplained": 0.1}
        sidecar[f"a_comp_cor_{k:02d}"] = facts
    rows = [["n/a" if np.isnan(value) else repr(float(value)) for value in row] for row in zip(*columns.values(), strict=True)]
    return "\n".join("\t".join(row) for row in [list(columns), *rows]) + "\n", sidecar
