"""The end of an ingest: the metadata that make its folder a table, and what a person is told."""

import re

from sparkneuro.data import row_space, store
from sparkneuro.data.bids_dataset import write_description
from sparkneuro.data.block import block_path
from sparkneuro.data.nifti import read_volume
from sparkneuro.data.receipts import list_receipts, read_receipt
from sparkneuro.data.voxel_table import Run, VoxelTable
from sparkneuro.pipelines.ingest_stream import RAW

COVERAGE = "coverage.tsv"
_BLOCK = re.compile(r"subject=[^/]+/block=\d+/[^/]+\.parquet")


def finish(plan):
    """Write the metadata of all runs that have a receipt, which makes the folder a table.

    Parameters
    ----------
    plan : Plan
        What was to be done, and is done now.

    Returns
    -------
    table : VoxelTable
        The finished table.
    """
    receipts = [read_receipt(plan.table, key) for key in list_receipts(plan.table)]
    runs = tuple(Run(**receipt["run"]) for receipt in receipts)
    recipe, settings = plan.recipe, plan.recipe["settings"]
    table = VoxelTable(
        plan.table, recipe["space"], recipe["affine"], tuple(recipe["shape"]), runs, recipe["block_size"],
        _count_rows(plan), _name_steps(recipe), "z-score" if settings["standardize"] else "source unit", settings, recipe["rows"],
    )
    _delete_strays(table)
    if recipe["rows"] == row_space.PARCELS:
        _write_coverage(plan.table, runs, [receipt["coverage"] for receipt in receipts])
    write_description(plan.table, "sparkneuro voxel table", sorted({run.source for run in runs}), settings)
    if plan.remote:
        store.delete(store.join(plan.table, RAW))
    table.save()
    return table


def _count_rows(plan):
    rows, shape = plan.recipe["rows"], plan.recipe["shape"]
    if rows == row_space.PARCELS:
        return int(read_volume(store.join(plan.table, row_space.LABELS))[0].max())
    if rows == row_space.VOXELS:
        return int((read_volume(store.join(plan.table, row_space.MASK))[0] != 0).sum())
    return int(shape[0])


def _name_steps(recipe):
    settings = recipe["settings"]
    steps = {
        f"smoothing {settings.get('smoothing_fwhm')} mm": settings.get("smoothing_fwhm"),
        "mean of parcels": recipe["rows"] == row_space.PARCELS,
        "detrend": settings["detrend"], f"high-pass {settings['high_pass']} Hz": settings["high_pass"],
        f"confounds {', '.join(settings['confounds'])}": settings["confounds"],
        f"confounds by {settings.get('denoise')}": settings.get("denoise"), "z-score": settings["standardize"],
    }  # fmt: skip
    return tuple(name for name, done in steps.items() if done)


def _write_coverage(table, runs, coverages):
    """A row a parcel, a column a run: which share of the parcel's voxels its mean is made of."""
    names = store.read_bytes(store.join(table, row_space.NAMES)).decode().rstrip("\n").split("\n")
    lines = ["\t".join([names[0], *(run.key for run in runs)])]
    lines += ["\t".join([name, *map(str, shares)]) for name, shares in zip(names[1:], zip(*coverages, strict=True), strict=True)]
    store.write_bytes(store.join(table, COVERAGE), ("\n".join(lines) + "\n").encode())


def _delete_strays(table):
    """Delete block files of runs that are not in the table, left by an ingest that was killed."""
    ours = {block_path("", run, block).lstrip("/") for run in table.runs for block in range(table.n_blocks)}
    for name in store.list_files(table.path, recursive=True):
        if _BLOCK.fullmatch(name) and name not in ours:
            store.delete(store.join(table.path, name))


def describe(plan, table, made, seconds):
    """Say what was done, and what the sources lack.

    Parameters
    ----------
    plan : Plan
        What was to be done.
    table : VoxelTable
        The finished table.
    made : set of str
        Keys of the runs whose rows were made.
    seconds : float
        How long it took (s).

    Returns
    -------
    sentence : str
        For a person.
    """
    megabytes = sum(source.size for source in plan.missing if source.key in made) / 1e6
    pace = f"{_count(len(made))} ingested in {seconds:.1f} s ({megabytes:.1f} MB, {megabytes / seconds:.1f} MB/s)"
    parts = [pace if made else "every run was there already"]
    if same := plan.doubtful - made:
        parts.append(f"{_count(len(same))} left alone, with new times or places but the same content")
    blocks = f"{table.n_blocks} block{'' if table.n_blocks == 1 else 's'}"
    parts.append(f"the table has {_count(len(table.runs))} on {table.n_voxels} {table.rows} in {blocks}")
    return ". ".join([f"{plan.table}: {'; '.join(parts)}", *_notices(plan, table)]) + "."


def _notices(plan, table):
    raw = [source for source in plan.sources if not source.preprocessed and source.rows == row_space.VOXELS]
    notices = []
    if raw:
        undone = "not corrected for motion, slice timing or distortion, nor brought into a common space"
        notices.append(f"Notice: {_count(len(raw))} of raw BOLD ({undone}; 'sparkneuro preprocess' does that)")
    scrubbed = [run for run in table.runs if run.sample_mask is not None]
    if scrubbed:
        lost = sum(run.n_source_scans - run.n_scans for run in scrubbed)
        why = "with motion, or before the signal is steady"
        notices.append(f"{lost} scans of {_count(len(scrubbed))} were left out ({why}), which their sample masks record")
    if table.rows == row_space.PARCELS:
        notices.append(_describe_coverage(table))
    return notices


def _describe_coverage(table):
    coverages = {run.key: read_receipt(table.path, run.key)["coverage"] for run in table.runs}
    names = list(row_space.read_names(store.join(table.path, row_space.NAMES)).values())
    least, row, key = min((share, row, key) for key, shares in coverages.items() for row, share in enumerate(shares))
    if least == 1:
        return "Every parcel is covered whole"
    return f"The least covered parcel is {names[row]}, {least:.0%} of it in {key} (all in {COVERAGE})"


def _count(n_runs):
    return f"{n_runs} run{'' if n_runs == 1 else 's'}"


