"""A model's folder while it is made: one fit at a time, and always the same one."""

import hashlib
import json
from contextlib import contextmanager
from dataclasses import asdict

from sparkneuro.data import store
from sparkneuro.data.storage.folder_lock import lock_folder
from sparkneuro.data.voxel_table import METADATA
from sparkneuro.encoding.encoder_record import WORK
from sparkneuro.errors import FormatError, SettingsError

RECIPE, LOCK = f"{WORK}/recipe.json", f"{WORK}/lock"


def check_folder(settings, table, blocks, cohort):
    """Work out what a folder will hold, and refuse one that holds something else.

    Parameters
    ----------
    settings : EncoderSettings
        The settings; their ``output`` is the folder.
    table : VoxelTable
        The targets.
    blocks : dict of str to list of int
        Blocks of each subject.
    cohort : list of SubjectRuns
        Who is fitted on which runs.

    Returns
    -------
    recipe : dict
        What the fit follows from; fit for JSON.

    Raises
    ------
    SettingsError
        When the folder holds another fit, or something else.
    FormatError
        When its recipe is damaged.
    """
    path = store.join(settings.output, RECIPE)
    content = hashlib.sha256(store.read_bytes(store.join(table.path, METADATA))).hexdigest()[:16]
    stimuli = {member.subject: member.stimulus for member in cohort}
    changed = store.stat(store.join(table.path, METADATA))[1]
    rows = [content, changed]  # a table of predictions or hidden features that is made again may have equal metadata
    recipe = {**asdict(settings), "table": table.path, "rows of the table": rows, "values of the features": stimuli}
    recipe = json.loads(json.dumps({**recipe, "blocks": blocks}))
    if store.exists(path):
        before = read_recipe(path)
        differences = ", ".join(name for name, value in recipe.items() if before.get(name) != value)
        made = set(store.list_files(settings.output, recursive=True)) - {LOCK, RECIPE}
        # A fit that was refused at its first step has made nothing, and what was wrong may be mended now.
        if differences and made:
            raise SettingsError(f"{settings.output} holds a fit with other {differences}; delete it or choose another folder.")
    elif set(store.list_files(settings.output, recursive=True)) - {LOCK}:
        raise SettingsError(f"{settings.output}: this folder holds something else than an encoding model; choose another.")
    return recipe


@contextmanager
def claim_folder(output, recipe):
    """Keep every other fit out of a folder, and write down what it will hold.

    Two fits would delete each other's half-written files. The lock ends with the process, however that ends; there is none on
    filesystems that are not local.

    Parameters
    ----------
    output : str
        Path or URI of the folder.
    recipe : dict
        Of `check_folder`.

    Yields
    ------
    nothing : None
        While the folder is this fit's.

    Raises
    ------
    SettingsError
        When another fit is at work there.
    StorageError
        When the folder cannot be written.
    """
    with lock_folder(output, LOCK, "fit"):
        _write_recipe(output, recipe)
        yield


def _write_recipe(output, recipe):
    store.delete_unfinished(output)
    store.write_bytes(store.join(output, RECIPE), json.dumps(recipe, indent=1).encode())


def read_recipe(path):
    """Read what a folder's results follow from.

    Parameters
    ----------
    path : str
        Path or URI of the file.

    Returns
    -------
    recipe : dict
        What was written.

    Raises
    ------
    FormatError
        When it is damaged.
    """
    try:
        recipe = json.loads(store.read_bytes(path))
        recipe.get("table")
        return recipe
    except (ValueError, AttributeError) as error:
        raise FormatError(f"{path}: this file is damaged ({error}); delete its folder and give the command again.") from error
