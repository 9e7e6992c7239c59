"""Small BIDS folders: a raw data set with sidecars at every level, and what fMRIPrep makes of it."""

import json

DESCRIPTION = {"Name": "a study", "BIDSVersion": "1.9.0"}


def write_tree(root, files):
    """Write files by name below a folder: JSON of a dict, else text; None makes a link that leads nowhere."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.symlink_to(root / ".git" / "annex" / name.replace("/", "-"))
        else:
            path.write_text(json.dumps(content) if isinstance(content, dict) else content)
    return root


def write_raw(root):
    """Two subjects, one of two sessions: 7 images, with sidecars at the top, of the subject, of the session and of the file."""
    return write_tree(root, {
        "dataset_description.json": DESCRIPTION,
        "participants.tsv": "participant_id\nsub-01\n",
        "task-rest_bold.json": {"RepetitionTime": 2, "TaskName": "rest", "Manufacturer": "S"},
        "task-motor_bold.json": {"RepetitionTime": 0.8, "TaskName": "motor"},
        "T1w.json": {"EchoTime": 0.003},
        "sub-01/ses-a/anat/sub-01_ses-a_T1w.nii.gz": "t1",
        "sub-01/ses-a/func/sub-01_ses-a_task-rest_run-01_bold.nii.gz": "one",
        "sub-01/ses-a/func/sub-01_ses-a_task-rest_run-01_bold.json": {"SliceTiming": [0, 0.5, 1, 1.5]},
        "sub-01/ses-a/func/sub-01_ses-a_task-rest_run-01_events.tsv": "onset\n",
        "sub-01/ses-a/func/sub-01_ses-a_task-rest_run-02_bold.nii.gz": "three",
        "sub-01/ses-a/sub-01_ses-a_task-rest_bold.json": {"Manufacturer": "T"},
        "sub-01/sub-01_task-rest_bold.json": {"RepetitionTime": 3, "Note": "of the subject"},
        "sub-01/ses-b/func/sub-01_ses-b_task-motor_bold.nii.gz": "four",
        "sub-02/func/sub-02_task-rest_bold.nii.gz": "fiver",
        "sub-02/func/sub-02_task-rest_acq-hi_bold.nii.gz": "sixsix",
        "sub-02/func/sub-02_task-rest_bold.json": {"RepetitionTime": 1},
        "sub-02/func/sub-02_task-rest_acq-hi_bold.json": {"FlipAngle": 7},
        "sub-02/anat/sub-02_T1w.nii.gz": "t1 of the second",
    })


def write_fmriprep(root):
    """What fMRIPrep makes of one run: in its own and in standard space, with a transform and a confounds table."""
    func = "sub-01/ses-a/func/sub-01_ses-a_task-rest_run-01"
    return write_tree(root, {
        "dataset_description.json": {**DESCRIPTION, "DatasetType": "derivative"},
        f"{func}_desc-preproc_bold.nii.gz": "native",
        f"{func}_desc-preproc_bold.json": {"RepetitionTime": 2.5, "SkullStripped": False},
        f"{func}_space-MNI152NLin2009cAsym_res-2_desc-preproc_bold.nii.gz": "standard",
        f"{func}_space-MNI152NLin2009cAsym_res-2_desc-preproc_bold.json": {"SkullStripped": True},
        f"{func}_desc-confounds_timeseries.tsv": "csf\n",
        f"{func}_desc-confounds_timeseries.json": {"csf": {}},
        "sub-01/ses-a/anat/sub-01_ses-a_from-T1w_to-MNI_mode-image_xfm.h5": "transform",
        "sub-01/figures/sub-01_task-rest_desc-carpet_bold.svg": "<svg/>",
    })
