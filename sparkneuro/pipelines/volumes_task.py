"""What one Spark task of a volume store does: the volumes of one image, or a shard of the volumes of several."""

import errno
import hashlib
import json
import os
import tempfile
import zlib
from contextlib import contextmanager
from dataclasses import asdict, replace

import numpy as np

from sparkneuro.data import store
from sparkneuro.data.bids import parse_name
from sparkneuro.data.byte_stream import ByteStream
from sparkneuro.data.nifti import parse_header
from sparkneuro.data.recordings.scans import read_blocks
from sparkneuro.data.storage.local_replacement import check_room
from sparkneuro.data.volumes.volume_coding import choose_coding
from sparkneuro.data.volumes.volume_shards import make_header
from sparkneuro.data.volumes.volume_store import VolumeRecord
from sparkneuro.errors import FormatError, StorageError
from sparkneuro.pipelines.volumes_parts import part_path
from sparkneuro.preprocess.volume_grid import plan_grid
from sparkneuro.preprocess.volume_statistics import VolumeStatistics


def store_image(job):
    """Bring one image to the store's shape and standardise it, a block of scans at a time.

    The placed volumes are kept as float32 in a local temporary file until their statistics are known; what is in memory is a
    block of scans and a few volumes.

    Parameters
    ----------
    job : dict
        `output` (path of the store), `settings` (of the store), and the fields of a `SourceImage`.

    Returns
    -------
    result : dict
        `key` of the image, and its `record`.

    Raises
    ------
    FormatError
        When the file is damaged or empty, or its values do not fit.
    StorageError
        When something cannot be read or written.
    """
    settings, shape = job["settings"], tuple(job["settings"]["shape"])
    with _spool(job, shape) as spool:
        header, grid, counts, statistics, sha256 = _place_volumes(job, spool)
        try:
            coding = choose_coding(settings["dtype"], settings["standardize"], statistics)
        except FormatError as error:
            raise FormatError(f"{job['path']}: {error}") from error
        spool.seek(0)
        with store.open_replacement(part_path(job["output"], job["key"], ".raw")) as part:
            for _ in range(job["n_scans"] or 1):
                volume = np.fromfile(spool, np.float32, int(np.prod(shape))).reshape(shape)
                part.write(coding.encode(volume).astype(np.dtype(coding.dtype).newbyteorder("<"), copy=False).tobytes())
    entities, suffix = parse_name(job["path"])
    record = VolumeRecord(
        job["path"], sha256, entities, suffix, job["n_scans"], job["t_r"], grid.affine.tolist(), list(header.shape),
        header.affine.tolist(), header.dtype.name, coding, counts["non_finite"], _share(counts, header.affine, grid.affine),
    )
    receipt = {"state": [job["size"], job["modified"], job["t_r"]], "record": asdict(record)}
    store.write_bytes(part_path(job["output"], job["key"], ".json"), json.dumps(receipt).encode())
    return {"key": job["key"], "record": receipt["record"]}


def pack_shard(job):
    """Write one shard of volumes that lie in the parts of several images, a volume at a time.

    Parameters
    ----------
    job : dict
        As `volumes_parts.plan_shards` makes it.

    Returns
    -------
    result : dict
        `name` of the shard.

    Raises
    ------
    StorageError
        When something cannot be read or written.
    """
    header = make_header(job["n_volumes"], job["shape"], job["dtype"])
    n_bytes = int(np.prod(job["shape"])) * np.dtype(job["dtype"]).itemsize
    sha256, crc32 = hashlib.sha256(header), []
    with store.open_replacement(job["path"]) as shard:
        shard.write(header)
        for path, start, stop in job["pieces"]:
            filesystem, inner = store.locate(path)
            with filesystem.open_input_file(inner) as part:
                part.seek(start * n_bytes)
                for _ in range(stop - start):
                    volume = part.read(n_bytes)
                    if len(volume) < n_bytes:
                        raise StorageError(f"{path}: this part of a volume store is cut off; run the command again.")
                    shard.write(volume)
                    sha256.update(volume)
                    crc32.append(zlib.crc32(volume))
    receipt = {"sha256": sha256.hexdigest(), "bytes": len(header) + len(crc32) * n_bytes, "crc32": crc32}
    store.write_bytes(job["receipt"], json.dumps({**receipt, "fingerprint": job["fingerprint"]}).encode())
    return {"name": job["name"]}


@contextmanager
def _spool(job, shape):
    folder = tempfile.gettempdir()
    check_room(folder, (job["n_scans"] or 1) * int(np.prod(shape)) * 4, f" while {job['path']} is standardised")
    try:
        with tempfile.TemporaryFile(dir=folder, prefix="sparkneuro-") as file:
            yield file
    except OSError as error:
        if isinstance(error, StorageError) or error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        reason = f"{folder}: could not be written: {os.strerror(error.errno)}"
        raise StorageError(f"{reason}; make room, or set TMPDIR to a larger disk.") from error


def _place_volumes(job, spool):
    """Read the image forward and write each volume, placed, to the spool."""
    settings, order = job["settings"], {"linear": 1, "nearest": 0}[job["settings"]["interpolation"]]
    counts, statistics = {"non_finite": 0, "source": 0, "placed": 0}, VolumeStatistics()
    with ByteStream(job["path"]) as stream:
        header = parse_header(stream)
        as_run = header if len(header.shape) == 4 else replace(header, shape=(*header.shape, 1))
        if (as_run.shape[3] if job["n_scans"] is not None else 1) != (job["n_scans"] or 1):
            raise FormatError(f"{job['path']}: the file has changed since the job began; run the command again.")
        grid = plan_grid(header.shape[:3], header.affine, settings["shape"], settings["voxel_size"])
        for _, block in read_blocks(as_run, stream):
            for stored in block:
                volume = _clean(header.scale(stored), counts)
                placed = grid.place(volume.reshape(header.shape[:3], order="F"), order)
                counts["source"] += int(np.count_nonzero(volume))
                counts["placed"] += int(np.count_nonzero(placed))
                statistics.add(placed)
                placed.tofile(spool)
        return header, grid, counts, statistics, stream.finish()


def _clean(values, counts):
    with np.errstate(over="ignore", invalid="ignore"):
        volume = values.astype(np.float32)
    finite = np.isfinite(volume)
    if not finite.all():
        counts["non_finite"] += int((~finite).sum())
        volume[~finite] = 0
    return volume


def _share(counts, source_affine, affine):
    """Share of the source's non-zero volume in mm3 that is within the shape; edges make resampled images a little larger."""
    sizes = [abs(np.linalg.det(np.asarray(matrix)[:3, :3])) for matrix in (source_affine, affine)]
    return round(min(1.0, counts["placed"] * sizes[1] / (counts["source"] * sizes[0])), 4) if counts["source"] else 0.0
