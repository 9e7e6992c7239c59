"""Scalars of a training as a TensorBoard event file, written without TensorBoard: TensorFlow's own records hold its events."""

import logging
import os
import socket
import time
from contextlib import contextmanager
from itertools import count

import tensorflow as tf

from sparkneuro.errors import StorageError

# TensorBoard refuses a file that does not begin with this.
VERSION = "brain.Event:2"
# Two files that one process begins within a second must not have the same name.
NUMBERS = count()
log = logging.getLogger(__name__)


class EventFile:
    """One event file, as a context manager; `tf.summary.scalar` would need TensorBoard to write the same.

    Parameters
    ----------
    folder : str or os.PathLike
        Folder that TensorBoard is shown; made when needed. Files of earlier trainings stay.

    Attributes
    ----------
    path : str
        The file, ``events.out.tfevents.TIME.HOST.PID.NUMBER``.

    Raises
    ------
    StorageError
        When it cannot be written.
    """

    def __init__(self, folder):
        self._folder = os.path.expanduser(os.fspath(folder))
        began = time.time()
        name = f"events.out.tfevents.{int(began)}.{socket.gethostname()}.{os.getpid()}.{next(NUMBERS)}"
        self.path = os.path.join(self._folder, name)
        with self._told_in_one_sentence():
            tf.io.gfile.makedirs(self._folder)
            self._writer = tf.io.TFRecordWriter(self.path)
            self._write(tf.compat.v1.Event(wall_time=began, file_version=VERSION))

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def add_scalars(self, step, values, wall_time=None):
        """Write values of one step; a running TensorBoard sees them at once.

        Parameters
        ----------
        step : int
            Where on the horizontal axis, e.g. the epoch.
        values : dict of str to float
            Values by tag; one that is None is left out.
        wall_time : float or None
            Seconds since 1970; now when absent.

        Raises
        ------
        StorageError
            When they cannot be written, e.g. because the disk is full.
        """
        summary = tf.compat.v1.Summary()
        for tag, value in values.items():
            if value is not None:
                summary.value.add(tag=tag, simple_value=float(value))
        if summary.value:
            now = time.time() if wall_time is None else wall_time
            with self._told_in_one_sentence():
                self._write(tf.compat.v1.Event(wall_time=now, step=step, summary=summary))

    def add_epoch(self, epoch):
        """Write the values of one epoch; what cannot be written is told, and lost.

        Parameters
        ----------
        epoch : dict
            An entry of a training's history, with ``epoch`` itself as the step.
        """
        try:
            self.add_scalars(epoch["epoch"], {tag: value for tag, value in epoch.items() if tag != "epoch"})
        except StorageError as error:  # costs what TensorBoard would show, not the training
            log.warning("%s", error)

    def close(self):
        """Close the file; again is fine. Every value has been written before; what else fails is told."""
        try:
            with self._told_in_one_sentence():
                self._writer.close()
        except StorageError as error:
            log.warning("%s", error)

    def _write(self, event):
        self._writer.write(event.SerializeToString())
        self._writer.flush()

    @contextmanager
    def _told_in_one_sentence(self):
        try:
            yield
        except tf.errors.OpError as error:
            reason = (error.message or type(error).__name__).splitlines()[0]
            raise StorageError(
                f"{self._folder}: no TensorBoard events can be written: {reason}; choose another folder."
            ) from error
