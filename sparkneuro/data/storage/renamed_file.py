"""Files that are written under a hidden temporary name and renamed when they are whole."""

import posixpath
import uuid
from contextlib import contextmanager, suppress

from pyarrow import fs

TEMPORARY = ".unfinished-"


@contextmanager
def write_and_rename(filesystem, inner):
    """Write a file in parts, atomically; its folder is made when needed.

    Parameters
    ----------
    filesystem : pyarrow.fs.FileSystem
        Where; one that can rename.
    inner : str
        The path within it.

    Yields
    ------
    stream : pyarrow.NativeFile
        Writable binary stream.

    Raises
    ------
    OSError
        As the filesystem raises it; nothing is left behind then.
    """
    folder, name = posixpath.split(inner)
    target = posixpath.join(folder, f"{TEMPORARY}{name}.{uuid.uuid4().hex[:8]}")
    stream = None
    try:
        filesystem.create_dir(folder, recursive=True)
        stream = filesystem.open_output_stream(target, compression=None)
        yield stream
        stream.close()
        if filesystem.type_name == "hdfs" and filesystem.get_file_info(inner).type == fs.FileType.File:
            filesystem.delete_file(inner)  # Hadoop's own libhdfs renames over nothing
        filesystem.move(target, inner)
    except BaseException:
        with suppress(OSError):  # the filesystem may be gone: the first error is the one to tell
            if stream is not None:
                stream.close()
        with suppress(OSError):
            filesystem.delete_file(target)
        raise
