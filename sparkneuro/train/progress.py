"""What a person sees of a running training, and what is kept of it: loss and staleness an epoch, the best weights so far."""

import io
import json
import logging

import numpy as np
from tqdm import tqdm

from sparkneuro.data import store
from sparkneuro.errors import SparkneuroError

HISTORY, BEST = "history.json", "best.npy"
log = logging.getLogger(__name__)


class TrainingWatch:
    """Follows the servers' status: draws a bar, measures the validation loss when an epoch ends, keeps the best weights.

    Parameters
    ----------
    n_rows : int
        Training rows times epochs.
    validate : callable or None
        Returns the validation loss at the servers' weights of now, and these weights.
    show : bool
        Whether a progress bar is drawn on standard error.
    patience : int or None
        Epochs without a better validation loss after which `stop` is called; None for never.
    stop : callable or None
        Ends the training early.
    folder : str or None
        Folder on any filesystem where history and best weights are kept, so that a training that is resumed knows them.
    resume : bool
        Whether to go on from what is there.
    events : EventFile or None
        Where TensorBoard looks.

    Attributes
    ----------
    history : list of dict
        One an epoch: epoch, loss, validation_loss, series_per_s, staleness_mean, staleness_max, seconds.
    best : dict
        ``epoch`` and ``validation_loss`` of the best one; empty before the first.
    best_vector : ndarray of shape (n_values,) or None
        The weights then.
    stopped : bool
        Whether the training was ended early.
    """

    def __init__(self, n_rows, validate=None, show=True, patience=None, stop=None, folder=None, resume=False, events=None):
        self.history, self.best, self.best_vector, self.stopped = [], {}, None, False
        self._validate, self._patience, self._stop = validate, patience, stop
        self._folder, self._events = folder, events
        if resume and folder is not None:
            self._restore()
        self._bar = tqdm(total=n_rows, unit="series", unit_scale=True, desc="workers start", disable=not show, smoothing=0.1)

    def __call__(self, status):
        """Take in a status.

        Parameters
        ----------
        status : dict
            Of `ParameterServer.status`.

        Returns
        -------
        facts : dict
            ``n_rows_total`` and ``history``, for who asks how the training stands.
        """
        # The first rows come late (Spark and Keras start), and would spoil the estimate of the time left.
        if self._bar.n == 0 and status["rows"]:
            self._bar.unpause()
            self._bar.set_description_str("train", refresh=False)
        self._bar.update(status["rows"] - self._bar.n)
        if status["loss"] is not None:
            self._bar.set_postfix_str(f"loss {status['loss']:.4g}, staleness <= {status['staleness_max']}", refresh=False)
        for epoch in status["epochs"][len(self.history) :]:
            # Epochs that ended together are measured together, by the last of them.
            newest = epoch["epoch"] == len(status["epochs"])
            loss, vector = self._validate() if self._validate is not None and newest else (None, None)
            self._note({**epoch, "validation_loss": loss}, vector)
        return {"n_rows_total": self._bar.total, "history": self.history}

    def close(self):
        """Take the bar away, and close the event file."""
        self._bar.close()
        if self._events is not None:
            self._events.close()

    def _note(self, epoch, vector):
        self.history.append(epoch)
        loss = epoch["validation_loss"]
        log.info("epoch %d: loss %.4g, validation loss %s", epoch["epoch"], epoch["loss"], loss)
        better = loss is not None and (not self.best or loss < self.best["validation_loss"])
        if better:
            self.best = {"epoch": epoch["epoch"], "validation_loss": loss}
            self.best_vector = vector
        self._save(better)
        if self._patience is not None and self.best and not self.stopped:
            if epoch["epoch"] - self.best["epoch"] >= self._patience:
                self.stopped = True
                log.info("no better validation loss since epoch %d: the training ends", self.best["epoch"])
                self._stop()

    def _save(self, better):
        if self._events is not None:
            self._events.add_epoch(self.history[-1])
        if self._folder is None:
            return
        try:
            if better:
                stream = io.BytesIO()
                np.save(stream, self.best_vector)
                store.write_bytes(store.join(self._folder, BEST), stream.getvalue())
            record = {"history": self.history, "best": self.best}
            store.write_bytes(store.join(self._folder, HISTORY), json.dumps(record).encode())
        except SparkneuroError as error:  # costs what a resumed training would know, not this one
            log.warning("the history of epoch %d was not written down: %s", self.history[-1]["epoch"], error)

    def _restore(self):
        path = store.join(self._folder, HISTORY)
        if not store.exists(path):
            return
        record = json.loads(store.read_bytes(path))
        self.history, self.best = record["history"], record["best"]
        if self.best:
            self.best_vector = np.load(io.BytesIO(store.read_bytes(store.join(self._folder, BEST))), allow_pickle=False)
