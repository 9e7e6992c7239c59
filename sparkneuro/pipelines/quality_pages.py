"""One subject's page on quality: a card for each of its runs. A Spark task, or called in turn where runs are few."""

import numpy as np

from sparkneuro.data import store
from sparkneuro.data.quality_file import read_quality
from sparkneuro.data.row_space import locate_rows
from sparkneuro.data.voxel_table import VoxelTable
from sparkneuro.preprocess.carpet import unpack_carpet
from sparkneuro.preprocess.run_quality import DVARS_SPIKE, FD_SPIKE


def page_name(subject):
    """Tell the file of a subject's page.

    Parameters
    ----------
    subject : str
        Label.

    Returns
    -------
    name : str
        In the folder of the pages.
    """
    return f"sub-{subject}.html"


def write_subject_page(job):
    """Draw the runs of a subject and write its page.

    Parameters
    ----------
    job : dict
        `table` (path), `output` (folder), `subject`, `rows` (of its runs, by their keys) and `outliers` (by the keys).

    Returns
    -------
    result : dict
        `subject`, and `n_bytes` of the page.

    Raises
    ------
    FormatError
        When a file of the table is damaged.
    StorageError
        When a file cannot be read, or the page not written.
    """
    from sparkneuro.report.html import build_page, link
    from sparkneuro.report.quality_run import describe_run

    table = VoxelTable.open(job["table"])
    mask, affine, heights = None, np.array(table.affine), np.arange(table.n_voxels)
    if table.has_grid:
        numbers = table.row_numbers()
        mask, heights = numbers > 0, locate_rows(numbers, affine)[:, 2]
    sections = []
    for run in table.runs:
        if run.key in job["rows"]:
            drawn = _draw_scans(read_quality(table.path, run.key), run, heights, job["rows"][run.key])
            found = job["outliers"].get(run.key, [])
            sections.append(describe_run(run.key, job["rows"][run.key], found, drawn, table.tsnr_map(run), mask, affine))
    sections[0][1].insert(0, f"<p>{link('All runs', 'index.html')}</p>")
    numbers = {"format": 1, "table": table.path, "runs": job["rows"], "outliers": job["outliers"]}
    page = build_page(f"Quality of subject {job['subject']}", f"Voxel table {table.path}", sections, numbers).encode()
    store.write_bytes(store.join(job["output"], page_name(job["subject"])), page)
    return {"subject": job["subject"], "n_bytes": len(page)}


def _draw_scans(arrays, run, heights, row):
    from sparkneuro.report.quality_figures import draw_run

    if arrays is None:
        return None
    displacement, dvars = "FD (mm)", "std. DVARS"
    traces, limits = {}, {dvars: DVARS_SPIKE}
    if "fd" in arrays:
        traces[displacement], limits[displacement] = {"framewise displacement": arrays["fd"]}, FD_SPIKE
    traces[dvars] = {stage: arrays[f"dvars_std_{stage}"] for stage in ("before", "after")}
    if row.get("global_sd") is not None:
        traces["global signal\n(% of mean)"] = {"before": arrays["global"]}
    order = np.argsort(heights[arrays["voxel"]], kind="stable")
    carpets = {f"{stage.capitalize()} cleaning": unpack_carpet(arrays[f"carpet_{stage}"])[order] for stage in ("before", "after")}
    return draw_run(carpets, traces, run.n_scans, run.t_r, limits)
