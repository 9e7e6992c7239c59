"""What an index of BIDS files holds, as a table: files, subjects and bytes of each data set, datatype, suffix and task."""

import pyarrow as pa
import pyarrow.compute as pc

N_ROWS = 60
"""Rows that are shown; the rest is counted."""

_BY = ["dataset", "datatype", "suffix", "task"]
_HEADS = ("data set", "datatype", "suffix", "task", "files", "subjects", "absent", "size")


def summarise_index(index):
    """Count the files of an index.

    Parameters
    ----------
    index : pyarrow.Table
        From `bids_index_file.read_index`.

    Returns
    -------
    text : str
        A table with a line for each data set, datatype, suffix and task; sidecars (JSON) are not counted.
    """
    files = index.filter(pc.fill_null(pc.not_equal(index["extension"], ".json"), True)).select([*_BY, "sub", "size"])
    # The names of files that lie outside of a datatype are endless (README, figures), so they are one line a data set.
    loose = pc.is_null(files["datatype"])
    for name in ("suffix", "task"):
        kept = pc.if_else(loose, pa.scalar(None, pa.string()), files[name])
        files = files.set_column(files.schema.get_field_index(name), name, kept)
    counts = files.group_by(_BY).aggregate([
        ([], "count_all"), ("sub", "count_distinct", pc.CountOptions(mode="only_valid")), ("size", "sum"),
        ("size", "count", pc.CountOptions(mode="only_null")),
    ])
    order = [(name, "ascending") for name in _BY]
    lines = [_format_row(row) for row in counts.sort_by(order).to_pylist()]
    rest = [] if len(lines) <= N_ROWS else [f"... and {len(lines) - N_ROWS} more lines"]
    return "\n".join([*_align([_HEADS, *lines[:N_ROWS]]), *rest])


def _format_row(row):
    words = [row["dataset"], row["datatype"] or "(other)", row["suffix"] or "", row["task"] or ""]
    absent = row["size_count"]
    numbers = [row["count_all"], row["sub_count_distinct"], absent]
    return [*words, *(f"{number:,}" if number else "" for number in numbers), _format_size(row["size_sum"] or 0)]


def _format_size(size):
    """Bytes with a unit, e.g. ``1.3 GB``."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            return f"{size:.3g} {unit}" if unit != "B" else f"{size} B"
        size /= 1000


def _align(rows):
    empty = [all(not row[column] for row in rows[1:]) for column in range(len(rows[0]))]
    kept = [[word for word, drop in zip(row, empty, strict=True) if not drop] for row in rows]
    widths = [max(map(len, column)) for column in zip(*kept, strict=True)]
    n_words = sum(not drop for drop in empty[:4])
    return [
        "  ".join(word.ljust(width) if place < n_words else word.rjust(width)
                  for place, (word, width) in enumerate(zip(row, widths, strict=True))).rstrip()
        for row in kept
    ]
