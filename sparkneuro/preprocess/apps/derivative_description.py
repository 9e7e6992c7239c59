"""The `dataset_description.json` of a folder of derivatives, for apps that write none."""

import json
import os
import re
from pathlib import Path

from sparkneuro.data import store

NAME = "dataset_description.json"
BIDS_VERSION = "1.10.0"
_VERSION = re.compile(r"\d+\.\d+[\w.+-]*")


def write_description(output, bids_dir, app_name, version, runtime="", image=""):
    """Describe the derivatives, unless the app has done so.

    Parameters
    ----------
    output : str
        Plain path of the derivatives.
    bids_dir : str
        Plain path of the BIDS folder.
    app_name, version : str
        Of the app; the version may be "".
    runtime, image : str
        Of its container; "" where there is none.

    Returns
    -------
    written : bool
        False when there was a description.
    """
    if any(os.path.exists(os.path.join(output, folder, NAME)) for folder in ("", "fmriprep")):
        return False
    source = _read(os.path.join(bids_dir, NAME))
    maker = {"Name": app_name, **({"Version": version} if version else {})}
    if runtime:
        maker["Container"] = {"Type": runtime, **({"Tag": image} if runtime == "docker" else {"URI": Path(image).as_uri()})}
    origin = {"URL": Path(bids_dir).as_uri(), **({"DOI": source["DatasetDOI"]} if source.get("DatasetDOI") else {})}
    description = {
        "Name": f"{app_name} on {source.get('Name') or os.path.basename(bids_dir)}",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [maker],
        "SourceDatasets": [origin],
    }
    store.write_bytes(os.path.join(output, NAME), json.dumps(description, indent=2).encode() + b"\n")
    return True


def find_version(said):
    """Find the number in what an app says of its version.

    Parameters
    ----------
    said : str
        E.g. ``fMRIPrep v24.1.1``.

    Returns
    -------
    version : str
        "" when there is none.

    Examples
    --------
    >>> find_version("fMRIPrep v24.1.1")
    '24.1.1'
    """
    found = _VERSION.search(said)
    return found[0] if found else ""


def _read(path):
    try:
        content = json.loads(store.read_bytes(path)) if os.path.exists(path) else {}
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
