"""One shard of a parameter server: weights, an update rule, a ledger. No network, no cluster.

A shard owns a contiguous piece of the model's vector (`weights.exchanged_variables`): first weights that the rule
updates, then, in the last shards, state that is averaged (BatchNormalization statistics).
"""

import threading
from dataclasses import dataclass

import numpy as np

from sparkneuro.errors import TrainingError
from sparkneuro.train.ledger import APPLY, Ledger
from sparkneuro.train.training_log import TrainingLog
from sparkneuro.train.update_rules import apply_update, make_rule
from sparkneuro.train.warm_up import WarmUpGate
from sparkneuro.validation import check_number


@dataclass(frozen=True)
class Push:
    """What a worker says beside its gradient.

    Parameters
    ----------
    partition, attempt : int
        Who pushes.
    clock : int
        Last batch covered, counted over all epochs of the partition from 1.
    n_batches : int
        Number of batches covered.
    rows : int
        Number of training rows covered.
    loss : float
        Sum of the rows' losses.
    version : int
        Version of the shard's weights that the gradient was computed from.
    """

    partition: int
    attempt: int
    clock: int
    n_batches: int
    rows: int
    loss: float
    version: int

    def __post_init__(self):
        for name in ("partition", "attempt", "clock", "n_batches", "rows", "version"):
            check_number(name, getattr(self, name), 0, integer=True)
        check_number("loss", self.loss)


@dataclass(frozen=True)
class ServerSettings:
    """What a shard needs to know before the first call.

    Parameters
    ----------
    rule : dict
        Update rule, as `update_rules.describe_rule` gives it.
    n_trainable : int
        Number of elements, at the head of the shard, that the rule updates; the rest is averaged.
    n_state : int
        Number of elements that are averaged.
    warmup_steps : int
        Batches that the first worker trains alone.
    n_partitions : int
        Partitions that will register.
    rows_per_epoch : int
        Training rows of all partitions together.
    """

    rule: dict
    n_trainable: int
    n_state: int
    warmup_steps: int
    n_partitions: int
    rows_per_epoch: int


class ParameterServer:
    """Weights that many workers read and change, one push at a time.

    Parameters
    ----------
    settings : ServerSettings
        Sizes, rule and warm-up.
    """

    def __init__(self, settings):
        self.settings = settings
        self.version = 0
        self.ledger = Ledger()
        self.gate = WarmUpGate(settings.warmup_steps)
        self.log = TrainingLog(settings.n_partitions, settings.rows_per_epoch)
        self._rule = make_rule(settings.rule)
        self._slots = self._rule.make_slots(settings.n_trainable)
        self._values = None
        self._lock = threading.Lock()

    @property
    def n_values(self):
        """Length of the shard: weights and averaged state."""
        return self.settings.n_trainable + self.settings.n_state

    def initialise(self, values):
        """Take over the first weights.

        Parameters
        ----------
        values : ndarray of shape (n_values,), float32
            Copied.

        Raises
        ------
        TrainingError
            When they came before.
        """
        self._check_length(values)
        with self._lock:
            if self._values is not None:
                raise TrainingError("the parameter server has its weights already.")
            self._values = np.array(values, np.float32)

    def register(self, partition, attempt, last_clock):
        """Note that a worker begins with a partition; see `Ledger.register`.

        Parameters
        ----------
        partition, attempt, last_clock : int
            Who begins, and the clock of its last batch.

        Returns
        -------
        clock : int
            Batches up to this one are applied already.
        """
        with self._lock:
            clock = self.ledger.register(partition, attempt, last_clock)
            self.log.note_worker(partition, finished=clock == last_clock)
            return clock

    def note_life(self, partition):
        """Note that a worker lives, though it has nothing to push yet.

        Parameters
        ----------
        partition : int
            Who lives.
        """
        with self._lock:
            self.log.note_life()
        self.gate.report(partition)

    def pull(self):
        """Return the newest weights.

        Returns
        -------
        values : ndarray of shape (n_values,), float32
            A vector that no later push changes.
        version : int
            Number of pushes that made it.

        Raises
        ------
        TrainingError
            When there are none yet.
        """
        with self._lock:
            if self._values is None:
                raise TrainingError("the parameter server has no weights yet.")
            return self._values, self.version

    def push(self, push, gradient):
        """Apply a gradient, unless it was applied before.

        State is averaged by adding a worker's change divided by 1 + staleness, which for one worker is its own statistics, and
        for many stays a convex mean of the old state and the batches' however many push at once.

        Parameters
        ----------
        push : Push
            Who pushes what.
        gradient : ndarray of shape (n_values,), float32
            Sum of the batches' gradients, then the change of the averaged state.

        Returns
        -------
        verdict : str
            "apply", "duplicate" or "outdated".

        Raises
        ------
        TrainingError
            When the message does not fit; nothing is changed then.
        """
        self._check_length(gradient)
        with self._lock:
            if self._values is None:
                raise TrainingError("the parameter server has no weights yet.")
            verdict = self.ledger.admit(push.partition, push.attempt, push.clock, push.n_batches)
            if verdict != APPLY:
                return verdict
            staleness = max(self.version - push.version, 0)
            self._apply(gradient, staleness)
            self.ledger.record(push.partition, push.clock, push.rows)
            finished = push.clock == self.ledger.entries[push.partition].last_clock
            self.log.note_push(push.partition, push.rows, push.loss, staleness, finished)
        self.gate.report(push.partition, push.n_batches)
        return APPLY

    def status(self):
        """Return what a watcher may want to know.

        Returns
        -------
        status : dict
            Fit for JSON: version, partitions registered and unfinished, rows applied, epochs, rate, warm-up.
        """
        with self._lock:
            return {
                "version": self.version,
                "registered": sorted(self.ledger.entries),
                "unfinished": self.ledger.unfinished(),
                "warming_up": not self.gate.is_open,
                **self.log.summarise(),
            }

    def _apply(self, gradient, staleness):
        n = self.settings.n_trainable
        values = np.empty_like(self._values)
        apply_update(self._rule, self._values[:n], gradient[:n], self._slots, values[:n])
        np.add(self._values[n:], gradient[n:] / np.float32(1 + staleness), out=values[n:])
        self._values = values
        self.version += 1

    def _check_length(self, values):
        if values.shape != (self.n_values,):
            raise TrainingError(f"the parameter server must get {self.n_values} values; got {values.size}.")
