"""What a person sees of a running training, and what is kept of it: rows, loss, staleness, validation loss an epoch."""

import logging

from tqdm import tqdm

log = logging.getLogger(__name__)


class TrainingWatch:
    """Follows the servers' status: draws a bar, and measures the validation loss when an epoch ends.

    Parameters
    ----------
    n_rows : int
        Training rows times epochs.
    validate : callable or None
        Returns the validation loss at the servers' weights of now.
    show : bool
        Whether a progress bar is drawn on standard error.

    Attributes
    ----------
    history : list of dict
        One an epoch: epoch, loss, validation_loss, series_per_s, staleness_mean, staleness_max, seconds.
    """

    def __init__(self, n_rows, validate=None, show=True):
        self.history = []
        self._validate = validate
        self._bar = tqdm(total=n_rows, unit="series", unit_scale=True, desc="workers start", disable=not show, smoothing=0.1)

    def __call__(self, status):
        """Take in a status.

        Parameters
        ----------
        status : dict
            Of `ParameterServer.status`.
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
            loss = self._validate() if self._validate is not None and newest else None
            self.history.append({**epoch, "validation_loss": loss})
            log.info("epoch %d: loss %.4g, validation loss %s", epoch["epoch"], epoch["loss"], loss)

    def close(self):
        """Take the bar away."""
        self._bar.close()
