"""The ``dataset_description.json`` of a folder of derivatives, as BIDS asks for it: what made it, and from what."""

import json
import posixpath

from sparkneuro import __version__
from sparkneuro.data import store

DESCRIPTION = "dataset_description.json"
BIDS_VERSION = "1.10.0"


def write_description(folder, name, sources, settings):
    """Write the description of a folder that sparkneuro has made; equal arguments give equal bytes.

    Parameters
    ----------
    folder : str
        Path or URI of the folder.
    name : str
        What the data set is.
    sources : sequence of str
        Paths or URIs of the files or folders that it was made from; of files, their data sets are named.
    settings : dict
        Of the job that made it; what JSON can hold.
    """
    datasets = sorted({find_dataset(source) for source in sources})
    content = {
        "Name": name,
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "sparkneuro", "Version": __version__, "Parameters": settings}],
        "SourceDatasets": [{"URL": source if "://" in source else f"file://{source}"} for source in datasets],
    }
    store.write_bytes(store.join(folder, DESCRIPTION), (json.dumps(content, indent=1) + "\n").encode())


def find_dataset(path):
    """Tell which data set a file belongs to.

    Parameters
    ----------
    path : str
        Path or URI of a file.

    Returns
    -------
    dataset : str
        The folder above its subject's; the file's own folder where there is none.

    Examples
    --------
    >>> find_dataset("s3://bucket/ds1/sub-01/func/sub-01_task-rest_bold.nii.gz")
    's3://bucket/ds1'
    """
    folder = posixpath.dirname(store.make_absolute(path))
    parts = folder.split("/")
    first = next((place for place, part in enumerate(parts) if part.startswith("sub-") or part == "MNINonLinear"), len(parts))
    return "/".join(parts[: first - 1] if parts[first:first + 1] == ["MNINonLinear"] else parts[:first]) or "/"
