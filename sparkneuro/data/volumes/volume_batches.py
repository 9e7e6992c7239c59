"""Batches of a volume store: single volumes, or windows of runs, in an order that seed, epoch and worker alone decide."""

from dataclasses import dataclass

import numpy as np

from sparkneuro.errors import SettingsError
from sparkneuro.validation import check_number


@dataclass(frozen=True, eq=False)
class VolumeBatch:
    """Some samples of a volume store.

    Parameters
    ----------
    values : ndarray of shape (n, x, y, z) or (n, window, x, y, z), float32
        Standardised values.
    image : ndarray of shape (n,), int64
        Of which image of the store each sample is.
    start : ndarray of shape (n,), int64
        Its first scan.
    """

    values: np.ndarray
    image: np.ndarray
    start: np.ndarray


def list_samples(records, window=None):
    """List the samples that a store holds.

    Parameters
    ----------
    records : sequence of VolumeRecord
        Its images.
    window : int or None
        Scans of a sample. Windows of a run follow each other without overlap; scans at its end that fill none are left out,
        as are 3-D images and shorter runs. None makes every single volume a sample.

    Returns
    -------
    samples : ndarray of shape (n_samples, 2), int64
        Image and first scan of each, in the order of the store.
    """
    length = 1 if window is None else window
    # A 3-D image is a sample of single volumes only, even for windows of one scan.
    counts = [record.n_volumes // length if window is None or record.n_scans is not None else 0 for record in records]
    image = np.repeat(np.arange(len(counts)), counts)
    start = np.concatenate([np.arange(count) for count in counts] or [np.empty(0, np.int64)]) * length
    return np.stack([image, start], axis=1).astype(np.int64)


def iterate_batches(volumes, batch_size, seed=0, epoch=0, window=None, worker=0, n_workers=1):
    """Go through a store once.

    All workers shuffle all samples alike and each takes every n-th, so that together they see each sample once, whatever reads
    them. For TensorFlow: ``tf.data.Dataset.from_generator(lambda: (b.values[..., None] for b in volumes.batches(8)),
    output_signature=tf.TensorSpec((None, *volumes.shape, 1), tf.float32)).prefetch(2)``.

    Parameters
    ----------
    volumes : VolumeStore
        The store.
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

    Raises
    ------
    SettingsError
        When a number makes no sense, or no run is as long as the window.
    FormatError
        When a shard is missing or damaged.
    """
    check_number("batch_size", batch_size, minimum=1, integer=True)
    check_number("n_workers", n_workers, minimum=1, integer=True)
    check_number("worker", worker, minimum=0, maximum=n_workers - 1, integer=True)
    if window is not None:
        check_number("window", window, minimum=1, integer=True)
    samples = list_samples(volumes.records, window)
    if not len(samples):
        raise SettingsError(f"{volumes.path}: no run here has {window} scans; give a smaller window.")
    order = np.random.default_rng([seed, epoch]).permutation(len(samples))[worker::n_workers]
    for first in range(0, len(order), batch_size):
        chosen = samples[order[first : first + batch_size]]
        length = 1 if window is None else window
        values = np.empty((len(chosen), length, *volumes.shape), np.float32)
        for place, (image, start) in enumerate(chosen.tolist()):
            values[place] = volumes.read_window(image, start, start + length)
        yield VolumeBatch(values if window is not None else values[:, 0], chosen[:, 0], chosen[:, 1])
