"""The same model on the same rows by plain Keras `fit`, in this process: what Downpour SGD is held against."""

import time

import keras
from tqdm import tqdm

from sparkneuro.train.event_file import EventFile


class _Batches(keras.utils.PyDataset):
    def __init__(self, sequence):
        super().__init__()
        self._sequence = sequence
        self._epoch = 0

    def __len__(self):
        return self._sequence.n_batches

    def __getitem__(self, index):
        x = self._sequence.batch(self._epoch * self._sequence.n_batches + index + 1)
        return x, x

    def on_epoch_end(self):
        self._epoch += 1


class _Record(keras.callbacks.Callback):
    def __init__(self, sequence, epochs, show, events):
        super().__init__()
        self._events = events
        self.history, self.first_s, self._rows = [], None, 0
        self._n_series, self._batch_size = len(sequence.series), sequence.batch_size
        self._bar = tqdm(total=self._n_series * epochs, unit="series", unit_scale=True, desc="train", disable=not show)
        self._start = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        if self.first_s is None:
            # The first batch is traced and compiled: the steady state begins behind it.
            self.first_s, self.first_rows = time.monotonic(), min(self._batch_size, self._n_series)
        rows = min(self._batch_size, self._n_series - batch * self._batch_size)
        self._rows += rows
        self._bar.update(rows)
        self._bar.set_postfix_str(f"loss {logs['loss']:.4g}", refresh=False)

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch_start = time.monotonic()

    def on_test_begin(self, logs=None):
        self._trained_s = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        now = time.monotonic()
        trained_s = getattr(self, "_trained_s", now) - self._epoch_start
        self.history.append(
            {
                "epoch": epoch + 1, "loss": float(logs["loss"]), "validation_loss": _number(logs.get("val_loss")),
                "series_per_s": self._n_series / trained_s, "staleness_mean": None, "staleness_max": None,
                "seconds": now - self._start,
            }
        )  # fmt: skip
        if self._events is not None:
            self._events.add_epoch(self.history[-1])

    def on_train_end(self, logs=None):
        self._bar.close()
        if self._events is not None:
            self._events.close()

    @property
    def startup_s(self):
        return self.first_s - self._start

    def rate(self):
        """Rows a second behind the first batch, validation left out."""
        seconds = [self._n_series / epoch["series_per_s"] for epoch in self.history]
        rows = self._n_series * len(seconds) - self.first_rows
        return rows / (sum(seconds) - self.startup_s) if rows else None


def fit_standalone(
    model, sequence, epochs, held_out=None, show=True, patience=None, best_weights=False, event_folder=None
):  # fmt: skip
    """Train a model by Keras `fit`.

    Parameters
    ----------
    model : keras.Model
        Built and compiled; changed in place.
    sequence : BatchSequence
        All training batches, over all epochs.
    epochs : int
        Passes over the rows.
    held_out : ndarray of shape (n_held_out, series_length), float32, or None
        Rows whose loss is measured each epoch.
    show : bool
        Whether a progress bar is drawn.
    patience : int or None
        Epochs without a better validation loss after which training ends; None for never.
    best_weights : bool
        Whether the model ends with the weights of its best validation loss, where one is measured.
    event_folder : str or None
        Folder of TensorBoard event files.

    Returns
    -------
    training : dict
        Record of the training: history, start-up time (s) and rate (series/s).
    """
    record = _Record(sequence, epochs, show, None if event_folder is None else EventFile(event_folder))
    callbacks = [record]
    validation = None if held_out is None or len(held_out) == 0 else (held_out, held_out)
    if validation is not None and (best_weights or patience is not None):
        patience = patience or epochs
        callbacks.append(keras.callbacks.EarlyStopping("val_loss", patience=patience, restore_best_weights=best_weights))
    model.fit(
        _Batches(sequence), epochs=epochs, shuffle=False, verbose=0, callbacks=callbacks, validation_data=validation,
        validation_batch_size=1024,
    )  # fmt: skip
    measured = [epoch for epoch in record.history if epoch["validation_loss"] is not None]
    best = min(measured, key=lambda epoch: epoch["validation_loss"]) if best_weights and measured else None
    return {
        "mode": "standalone", "stopped_early": len(record.history) < epochs,
        "best": best and {"epoch": best["epoch"], "validation_loss": best["validation_loss"]},
        "series_length": int(sequence.series.shape[1]), "n_parameters": model.count_params(),
        "n_training_series": len(sequence.series), "history": record.history, "startup_s": record.startup_s,
        "series_per_s": record.rate(),
    }  # fmt: skip


def _number(value):
    return None if value is None else float(value)
