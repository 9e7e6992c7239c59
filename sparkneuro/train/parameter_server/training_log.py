"""What a server notes of a training: loss and staleness an epoch, and how fast rows come in."""

import time
from dataclasses import asdict, dataclass, field


@dataclass
class _EpochSums:
    rows: int = 0
    loss: float = 0.0
    pushes: int = 0
    staleness_sum: int = 0
    staleness_max: int = 0


@dataclass
class TrainingLog:
    """Sums over pushes, cut into epochs of `rows_per_epoch` applied rows.

    An asynchronous training has no common epoch: the n-th ends when n times the number of training rows have been
    applied. The steady state lies between the second push of the slowest starter and the end of the first worker: what
    comes before is start-up, what comes after is a machine not fully used.

    Parameters
    ----------
    n_partitions : int
        Workers that will come.
    rows_per_epoch : int
        Training rows of all of them.
    now : callable
        Seconds; replaced in tests.
    """

    n_partitions: int
    rows_per_epoch: int
    now: callable = time.monotonic
    rows: int = 0
    epochs: list = field(default_factory=list)

    def __post_init__(self):
        self._start = self.now()
        self._epoch = _EpochSums()
        self._epoch_start = None
        self._pushes = {}
        self._steady_from = None
        self._steady_to = None
        self._last_push = None
        self._last_sign = self._start

    def note_worker(self, partition, finished):
        """Note that a worker has registered.

        Parameters
        ----------
        partition : int
            Its partition.
        finished : bool
            Whether it has nothing left to do.
        """
        self._pushes.setdefault(partition, 2 if finished else 0)

    def note_life(self):
        """Note that a worker lives: it reads its rows, or computes."""
        self._last_sign = self.now()

    def note_push(self, partition, rows, loss, staleness, finished):
        """Note an applied push.

        Parameters
        ----------
        partition : int
            Who pushed.
        rows : int
            Rows covered.
        loss : float
            Sum of their losses.
        staleness : int
            Pushes applied since the weights were pulled.
        finished : bool
            Whether it was the partition's last.
        """
        time_s = self._last_push = self._last_sign = self.now()
        self.rows += rows
        self._pushes[partition] = self._pushes.get(partition, 0) + 1
        self._watch_steady_state(time_s, finished)
        epoch = self._epoch
        epoch.rows += rows
        epoch.loss += loss
        epoch.pushes += 1
        epoch.staleness_sum += staleness
        epoch.staleness_max = max(epoch.staleness_max, staleness)
        if self.rows >= (len(self.epochs) + 1) * self.rows_per_epoch:
            self._close_epoch(time_s)

    def to_dict(self):
        """Return the sums so far as plain values, to go on from after a restart.

        Returns
        -------
        state : dict
            Fit for JSON.
        """
        now = self.now()
        return {
            "rows": self.rows, "epochs": self.epochs, "epoch": asdict(self._epoch), "elapsed_s": now - self._start,
            "epoch_elapsed_s": None if self._epoch_start is None else now - self._epoch_start,
        }  # fmt: skip

    def restore(self, state):
        """Go on from what `to_dict` returned; the steady state is measured anew.

        Parameters
        ----------
        state : dict
            What was written down.
        """
        now = self.now()
        self.rows, self.epochs = state["rows"], list(state["epochs"])
        self._epoch = _EpochSums(**state["epoch"])
        self._start = now - state["elapsed_s"]
        self._epoch_start = None if state["epoch_elapsed_s"] is None else now - state["epoch_elapsed_s"]

    def summarise(self):
        """Return the sums so far.

        Returns
        -------
        summary : dict
            ``rows``, ``loss`` (mean of the running epoch, or None), ``staleness_max``, ``epochs`` (a dict each),
            ``series_per_s`` (steady state, or None), ``startup_s`` (until the steady state), ``idle_s`` (since the last
            push).
        """
        now = self.now()
        current = self._epoch if self._epoch.rows else None
        rate, startup_s = self._steady_rate()
        return {
            "rows": self.rows,
            "loss": current.loss / current.rows if current else (self.epochs[-1]["loss"] if self.epochs else None),
            "staleness_max": self._epoch.staleness_max,
            "epochs": list(self.epochs),
            "series_per_s": rate,
            "startup_s": startup_s,
            "idle_s": now - self._last_sign,
        }

    def _watch_steady_state(self, time_s, finished):
        if self._steady_from is None:
            if len(self._pushes) == self.n_partitions and min(self._pushes.values()) >= 2:
                self._steady_from = (time_s, self.rows)
        elif self._steady_to is None and finished:
            self._steady_to = (time_s, self.rows)

    def _steady_rate(self):
        if self._steady_from is None or self._last_push is None:
            return None, None
        start_s, start_rows = self._steady_from
        end_s, end_rows = self._steady_to or (self._last_push, self.rows)
        rate = (end_rows - start_rows) / (end_s - start_s) if end_s > start_s else None
        return rate, start_s - self._start

    def _close_epoch(self, time_s):
        epoch = self._epoch
        began = self._start if self._epoch_start is None else self._epoch_start
        self.epochs.append(
            {
                "epoch": len(self.epochs) + 1,
                "loss": epoch.loss / epoch.rows,
                "staleness_mean": epoch.staleness_sum / epoch.pushes,
                "staleness_max": epoch.staleness_max,
                "series_per_s": epoch.rows / max(time_s - began, 1e-9),
                "seconds": time_s - self._start,
            }
        )
        self._epoch, self._epoch_start = _EpochSums(), time_s
