"""A stream whose failures, when a mount or a server goes away while it is read, are one sentence that names the file."""

from sparkneuro.data.storage.filesystems import storage_error


class ReportedStream:
    """Read a file forward.

    Parameters
    ----------
    stream : pyarrow.NativeFile
        Readable binary stream.
    path : str
        Path or URI of it, for messages.
    """

    def __init__(self, stream, path):
        self._stream, self._path = stream, path

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def read(self, n_bytes=None):
        """Read so many bytes, or fewer where the file ends.

        Parameters
        ----------
        n_bytes : int or None
            How many; all that follow when absent or negative.

        Returns
        -------
        content : bytes
            As many as there were.

        Raises
        ------
        StorageError
            When the storage fails.
        """
        try:
            return self._stream.read(None if n_bytes is None or n_bytes < 0 else n_bytes)
        except OSError as error:
            raise storage_error(self._path, "read", error) from error

    def readinto(self, buffer):
        """Fill a buffer, or as much of it as the file still holds.

        Parameters
        ----------
        buffer : writable bytes-like
            Where the bytes go.

        Returns
        -------
        n_bytes : int
            How many were read; 0 at the end.

        Raises
        ------
        StorageError
            When the storage fails.
        """
        try:
            return self._stream.readinto(buffer)
        except OSError as error:
            raise storage_error(self._path, "read", error) from error

    def close(self):
        """Close the file."""
        self._stream.close()
