"""A volume store: images of any grid as volumes of one shape, standardised, for 3-D and 4-D models.

    NAME.volumes/
      volumes.json          what it holds: shape, dtype, and for each image its labels, source, affines, TR and coding; written
                            last, so a folder without it is no store (yet)
      shard-00000.npy ...   the volumes (n, x, y, z), numbered through; the scans of a run follow each other
      crc32.npy             a checksum of each volume
      checksums.sha256      of all files

`numpy.load` opens a shard; `VolumeStore` reads single volumes and windows of runs by their places, from any filesystem.
"""

import io
import json
from dataclasses import asdict, dataclass, fields

import numpy as np

from sparkneuro.data import store
from sparkneuro.data.volumes.volume_coding import Coding
from sparkneuro.data.volumes.volume_shards import ShardReader
from sparkneuro.errors import FormatError

FORMAT = 1
METADATA = "volumes.json"
CRC32 = "crc32.npy"
PARTS = ".parts"


@dataclass(frozen=True)
class VolumeRecord:
    """One image of a volume store.

    Parameters
    ----------
    source : str
        Path or URI of the file it came from.
    sha256 : str
        Of that file.
    entities : dict
        BIDS entities of its name.
    suffix : str
        The last word of its name, e.g. ``T1w``.
    n_scans : int or None
        Scans of a run; None for a 3-D image.
    t_r : float or None
        Repetition time of a run (s), where it is known.
    affine : list of list of float
        From voxel indices of the stored volume to mm, (4, 4).
    source_shape : list of int
        Shape of the file.
    source_affine : list of list of float
        From voxel indices of the file to mm, (4, 4).
    source_dtype : str
        Of the numbers in the file.
    coding : Coding
        What the stored numbers stand for.
    n_non_finite : int
        Values of the file that were NaN or infinite and are background here.
    kept : float
        Share of the non-zero volume (mm3) of the source that lies within the shape.
    first : int
        Number of its first volume in the store.
    """

    source: str
    sha256: str
    entities: dict
    suffix: str
    n_scans: int | None
    t_r: float | None
    affine: list
    source_shape: list
    source_affine: list
    source_dtype: str
    coding: Coding
    n_non_finite: int
    kept: float
    first: int = 0

    @property
    def n_volumes(self):
        """Volumes that it takes in the store: its scans, or one."""
        return 1 if self.n_scans is None else self.n_scans

    @classmethod
    def from_dict(cls, content):
        """Make a record of what `dataclasses.asdict` gives.

        Parameters
        ----------
        content : dict
            Fields by name; unknown ones are left out.

        Returns
        -------
        record : VolumeRecord
            The record.
        """
        values = {name.name: content[name.name] for name in fields(cls)}
        return cls(**{**values, "coding": Coding(**values["coding"])})


class VolumeStore:
    """Read a volume store: whole images, windows of runs, and batches.

    A store may go to a Spark task or a data loader's process as it is; each opens the shards for itself.

    Parameters
    ----------
    path : str
        Path or URI of the folder.
    records : list of VolumeRecord
        The images.
    reader : ShardReader
        Of their volumes.
    settings : dict
        Of the job that made it.
    """

    def __init__(self, path, records, reader, settings):
        self.path, self.records, self.settings = path, records, settings
        self._reader = reader

    @classmethod
    def open(cls, path):
        """Open a volume store; its shards are opened when they are read.

        Parameters
        ----------
        path : str
            Path or URI of the folder.

        Returns
        -------
        volumes : VolumeStore
            The store.

        Raises
        ------
        FormatError
            When it is missing, no volume store, unfinished, damaged, or of a newer format.
        """
        path = str(path).rstrip("/")
        _refuse_other_folders(path)
        try:
            content = json.loads(store.read_bytes(store.join(path, METADATA)))
            if content["format"] > FORMAT:
                newer = f"this volume store has format {content['format']}, and this sparkneuro reads up to {FORMAT}"
                raise FormatError(f"{path}: {newer}; update sparkneuro.")
            records = [VolumeRecord.from_dict(record) for record in content["images"]]
            crc32 = np.load(io.BytesIO(store.read_bytes(store.join(path, CRC32))), allow_pickle=False)
            shape, per_shard, n_volumes = tuple(content["shape"]), content["volumes_per_shard"], content["n_volumes"]
            reader = ShardReader(path, shape, content["dtype"], per_shard, n_volumes, crc32)
        except (ValueError, KeyError, TypeError, EOFError) as error:
            if isinstance(error, FormatError):
                raise
            raise FormatError(f"{path}: {METADATA} or {CRC32} is damaged ({error!r}); copy or make the store again.") from error
        if len(crc32) != n_volumes or sum(record.n_volumes for record in records) != n_volumes:
            raise FormatError(f"{path}: {METADATA} and {CRC32} do not name {n_volumes} volumes; copy or make the store again.")
        return cls(path, records, reader, content["settings"])

    def __len__(self):
        return len(self.records)

    @property
    def shape(self):
        """(x, y, z) of every volume."""
        return self._reader.shape

    @property
    def dtype(self):
        """Type of the stored numbers."""
        return np.dtype(self._reader.dtype)

    def read_volume(self, i, original=False):
        """Read an image whole.

        Parameters
        ----------
        i : int
            Its place in `records`.
        original : bool
            Whether values in the source's unit are wanted, instead of standardised ones.

        Returns
        -------
        volume : ndarray of shape (x, y, z) or, of a run, (n_scans, x, y, z), float32
            Its values; 0 is background.

        Raises
        ------
        FormatError
            When a shard is missing or damaged.
        """
        record = self.records[i]
        values = self.read_window(i, 0, record.n_volumes, original)
        return values if record.n_scans is not None else values[0]

    def read_window(self, i, start, stop, original=False):
        """Read a window of a run's scans; nothing else of its shard is read.

        Parameters
        ----------
        i : int
            Place of the run in `records`.
        start, stop : int
            First scan, and the one after the last.
        original : bool
            Whether values in the source's unit are wanted, instead of standardised ones.

        Returns
        -------
        window : ndarray of shape (stop - start, x, y, z), float32
            Its values; 0 is background.

        Raises
        ------
        IndexError
            When the run has no such scans.
        FormatError
            When a shard is missing or damaged.
        """
        record = self.records[i]
        if not 0 <= start <= stop <= record.n_volumes:
            raise IndexError(f"image {i} has {record.n_volumes} scans; got a window from {start} to {stop}.")
        return record.coding.decode(self._reader.read(record.first + start, record.first + stop), original)

    def batches(self, batch_size, seed=0, epoch=0, window=None, worker=0, n_workers=1):
        """Go through the store once in a shuffled order; see `volume_batches.iterate_batches`.

        Parameters
        ----------
        batch_size : int
            Samples of a batch; the last one holds what is left.
        seed, epoch : int
            What the order depends on.
        window : int or None
            Scans of a sample; None makes every single volume one.
        worker, n_workers : int
            Which part of the samples, of how many.

        Yields
        ------
        batch : VolumeBatch
            Values, and which images and scans they are.
        """
        from sparkneuro.data.volumes.volume_batches import iterate_batches

        yield from iterate_batches(self, batch_size, seed, epoch, window, worker, n_workers)

    def close(self):
        """Close the shards that are open."""
        self._reader.close()


def write_metadata(path, settings, records, crc32, per_shard):
    """Write what makes a folder of shards a volume store.

    Parameters
    ----------
    path : str
        Path or URI of the folder.
    settings : dict
        Of the job; holds `shape` and `dtype`.
    records : list of VolumeRecord
        The images, in the order of their volumes.
    crc32 : ndarray of shape (n_volumes,), uint32
        Checksums of the volumes.
    per_shard : int
        Volumes of a shard.
    """
    content = io.BytesIO()
    np.save(content, crc32.astype("<u4"), allow_pickle=False)
    store.write_bytes(store.join(path, CRC32), content.getvalue())
    images = [asdict(record) for record in records]
    about = {
        "format": FORMAT, "shape": list(settings["shape"]), "dtype": settings["dtype"], "n_volumes": len(crc32),
        "volumes_per_shard": per_shard, "settings": settings, "images": images,
    }
    store.write_bytes(store.join(path, METADATA), json.dumps(about, indent=1).encode())


def _refuse_other_folders(path):
    if store.exists(store.join(path, METADATA)):
        return
    if store.exists(store.join(path, PARTS)):
        raise FormatError(f"{path}: the job that makes this volume store has not finished; run it again.")
    if not store.exists(path):
        raise FormatError(f"{path}: there is no such volume store.")
    raise FormatError(f"{path}: this is not a volume store: it has no {METADATA}; make one with 'sparkneuro volumes'.")
