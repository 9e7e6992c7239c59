"""The shards of a volume store: ``.npy`` files of equally large volumes, of which any stretch is read without the rest.

All volumes of a store are numbered through; shard k holds volumes ``k * per_shard`` and on. Since all are equally large, where
one lies is known without an index: a read is one request for just its bytes, in a bucket as on a disk. Each volume has a CRC-32.
"""

import io
import zlib
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pyarrow import fs

from sparkneuro.data import store
from sparkneuro.errors import FormatError, StorageError

_MOST_OPEN = 8


def shard_name(number):
    """Name a shard.

    Parameters
    ----------
    number : int
        Its number.

    Returns
    -------
    name : str
        Relative to the store.

    Examples
    --------
    >>> shard_name(3)
    'shard-00003.npy'
    """
    return f"shard-{number:05d}.npy"


def make_header(n_volumes, shape, dtype):
    """Make the first bytes of a shard, by which `numpy.load` knows it.

    Parameters
    ----------
    n_volumes : int
        Volumes in the shard.
    shape : tuple of int
        (x, y, z) of each.
    dtype : str
        Of their numbers.

    Returns
    -------
    header : bytes
        Up to the first volume.
    """
    header = io.BytesIO()
    description = np.dtype(dtype).newbyteorder("<").str
    np.lib.format.write_array_header_1_0(
        header, {"descr": description, "fortran_order": False, "shape": (int(n_volumes), *map(int, shape))}
    )
    return header.getvalue()


@dataclass(eq=False)
class ShardReader:
    """Read volumes of a store by their numbers.

    Parameters
    ----------
    path : str
        Path or URI of the store.
    shape : tuple of int
        (x, y, z) of a volume.
    dtype : str
        Of the stored numbers.
    per_shard, n_volumes : int
        Volumes of a shard, the last of which may have fewer, and of the store.
    crc32 : ndarray of shape (n_volumes,), uint32
        Checksums.
    """

    path: str
    shape: tuple
    dtype: str
    per_shard: int
    n_volumes: int
    crc32: np.ndarray

    def __post_init__(self):
        self._open = {}

    def __getstate__(self):
        return {**self.__dict__, "_open": {}}  # open files stay in their process

    @property
    def volume_bytes(self):
        """Bytes of a volume."""
        return int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize

    def read(self, start, stop):
        """Read volumes that follow each other; of each shard they lie in, in one request.

        Parameters
        ----------
        start, stop : int
            First volume, and the one after the last.

        Returns
        -------
        stored : ndarray of shape (stop - start, x, y, z), dtype `dtype`
            Stored numbers; read-only.

        Raises
        ------
        FormatError
            When a shard is missing, cut off or damaged.
        """
        pieces = [self._read_within(first, min(stop, self._end_of_shard(first))) for first in self._starts(start, stop)]
        if not pieces:
            return np.empty((0, *self.shape), self.dtype)
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def close(self):
        """Close the files that are open."""
        for file in self._open.values():
            file.close()
        self._open = {}

    def _starts(self, start, stop):
        while start < stop:
            yield start
            start = self._end_of_shard(start)

    def _end_of_shard(self, volume):
        return (volume // self.per_shard + 1) * self.per_shard

    def _read_within(self, start, stop):
        number, place = divmod(start, self.per_shard)
        path = store.join(self.path, shard_name(number))
        header = self._header(number)
        n_bytes = (stop - start) * self.volume_bytes
        content = self._read_at(path, number, len(header) + place * self.volume_bytes, n_bytes)
        for volume in range(start, stop):
            first = (volume - start) * self.volume_bytes
            if zlib.crc32(content[first : first + self.volume_bytes]) != self.crc32[volume]:
                raise FormatError(f"{path}: volume {volume - start + place} of this shard is damaged; copy or make it again.")
        return np.frombuffer(content, np.dtype(self.dtype).newbyteorder("<")).reshape(-1, *self.shape)

    def _n_volumes(self, number):
        return min(self.per_shard, self.n_volumes - number * self.per_shard)

    def _header(self, number):
        return make_header(self._n_volumes(number), self.shape, self.dtype)

    def _read_at(self, path, number, offset, n_bytes):
        try:
            if number not in self._open:
                self._open[number] = self._open_shard(path, number)
                while len(self._open) > _MOST_OPEN:
                    self._open.pop(next(iter(self._open))).close()
            return memoryview(self._open[number].read_at(n_bytes, offset))
        except (OSError, pa.ArrowException) as error:
            if isinstance(error, StorageError):
                raise
            raise StorageError(f"{path}: could not be read: {str(error).splitlines()[0]}.") from error

    def _open_shard(self, path, number):
        if not store.exists(path):
            raise FormatError(f"{path}: this shard of the volume store is missing; copy it again, or make the store again.")
        filesystem, inner = store.locate(path)
        file = (fs.LocalFileSystem(use_mmap=True) if filesystem.type_name == "local" else filesystem).open_input_file(inner)
        header = self._header(number)
        expected = len(header) + self._n_volumes(number) * self.volume_bytes
        size, start = file.size(), file.read_at(len(header), 0)
        if size != expected or start != header:
            file.close()
            found = "it begins otherwise" if size == expected else f"it has {size} of {expected} bytes"
            raise FormatError(f"{path}: this is not the whole shard of this volume store, {found}; copy it again.")
        return file
