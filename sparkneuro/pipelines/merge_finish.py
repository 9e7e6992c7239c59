"""The end of a merge: what the cohort says of itself, and what was needed on the way removed."""

import logging

from sparkneuro.data import store
from sparkneuro.data.block import block_path
from sparkneuro.data.cohort import (
    PARTICIPANTS,
    Dataset,
    find_participants,
    join_participants,
    read_participants,
    write_participants,
)
from sparkneuro.data.nifti import read_volume
from sparkneuro.data.receipts import list_receipts
from sparkneuro.data.row_space import MASK
from sparkneuro.data.voxel_table import Run, VoxelTable
from sparkneuro.pipelines.merge_grid import SCRATCH
from sparkneuro.pipelines.merge_plan import read_receipts
from sparkneuro.pipelines.merge_sources import DATASETS

LOG = logging.getLogger(__name__)


def finish(plan, keep_datasets):
    """Write participants and metadata of all runs that have a receipt, which makes the folder a table: the last thing to do.

    Parameters
    ----------
    plan : Plan
        What was to be done, and is done now.
    keep_datasets : bool
        Whether the voxel tables of BIDS folders stay.

    Returns
    -------
    table : VoxelTable
        The cohort.
    """
    receipts = read_receipts(plan.table, list_receipts(plan.table))
    recipe, datasets = plan.recipe, [Dataset(**entry) for entry in plan.recipe["datasets"]]
    _write_participants(plan, datasets, receipts)
    record = [_describe(dataset, receipts) for dataset in datasets]
    n_voxels = int((read_volume(store.join(plan.table, MASK))[0] != 0).sum())
    table = VoxelTable(
        plan.table, recipe["space"], recipe["grid"]["affine"], tuple(recipe["grid"]["shape"]),
        tuple(Run(**receipt["run"]) for receipt in receipts.values()), recipe["merge"]["block_size"], n_voxels,
        _name_steps(plan, record, receipts), recipe["units"], {"datasets": record, "merge": recipe["merge"]},
    )
    _delete_strays(table)
    _clear(plan.table, keep_datasets)
    table.save()
    return table


def _write_participants(plan, datasets, receipts):
    known = {source.dataset.label: find_participants(source.dataset.source, source.first_run) for source in plan.sources}
    path, own = store.join(plan.table, PARTICIPANTS), ("dataset", "dataset_name", "source_participant_id")
    if len(known) < len(datasets) and store.exists(path):  # data sets that joined before, and may not be there any more
        for row in read_participants(path).values():
            columns = {name: value for name, value in row.items() if name not in own}
            known.setdefault(row["dataset"], {}).setdefault(row["source_participant_id"].removeprefix("sub-"), columns)
    by_label = {dataset.label: dataset for dataset in datasets}
    members = {(by_label[receipt["dataset"]], receipt["participant"]) for receipt in receipts.values()}
    write_participants(path, join_participants(members, known))


def _describe(dataset, receipts):
    """What a cohort records of a data set: names, and what its runs were before they joined."""
    ours = [receipt for receipt in receipts.values() if receipt["dataset"] == dataset.label]
    origins = [receipt["origin"] for receipt in ours]
    return {
        "label": dataset.label, "name": dataset.name, "source": dataset.source, "kind": dataset.kind,
        "n_subjects": len({receipt["participant"] for receipt in ours}), "n_runs": len(ours),
        "t_r": sorted({origin["t_r"] for origin in origins}),
        **{name: origins[0][name] if origins else None for name in ("shape", "affine", "steps")},
    }


def _name_steps(plan, record, receipts):
    """Steps that all data sets share, then those of the merge."""
    each = [tuple(entry["steps"]) for entry in record if entry["n_runs"]]
    common = tuple(step for step in each[0] if all(step in steps for steps in each))
    if any(steps != common for steps in each):
        LOG.warning("the data sets were cleaned differently; what was done to each is in the cohort's metadata, under datasets")
    done = {step for receipt in receipts.values() for step in receipt["done"]}
    merge, again = plan.recipe["merge"], {"resampled", "regridded"} & done and plan.recipe["units"] == "z-score"
    ours = {
        f"merge of {len(each)} data set{'s' * (len(each) != 1)}": True, f"resampled to {merge['t_r']} s": "resampled" in done,
        f"regridded ({merge['interpolation']})": "regridded" in done, "z-score again": again, "combat": "harmonised" in done,
    }
    return (*common, *(name for name, wanted in ours.items() if wanted))


def _delete_strays(table):
    """Delete block files of runs that are not in the table, left by a merge that was killed or of runs that are gone."""
    ours = {block_path("", run, block).lstrip("/") for run in table.runs for block in range(table.n_blocks)}
    for name in store.list_files(table.path, recursive=True):
        if name.startswith("subject=") and name not in ours:
            store.delete(store.join(table.path, name))


def _clear(path, keep_datasets):
    for folder in (SCRATCH, *(() if keep_datasets else (DATASETS,))):
        if store.list_files(store.join(path, folder), recursive=True):
            store.delete(store.join(path, folder))
