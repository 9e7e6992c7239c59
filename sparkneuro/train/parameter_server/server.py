"""One shard of a parameter server: weights, an update rule, a ledger, a pace. No network, no cluster.

A shard owns a contiguous piece of the model's vector (`weights.exchanged_variables`): first weights that the rule
updates, then, in the last shards, state that is averaged (BatchNormalization statistics).
"""

import threading
import time

import numpy as np

from sparkneuro.errors import TrainingError
from sparkneuro.train.parameter_server.ledger import APPLY, DUPLICATE, HELD, OUTDATED, STOP, Ledger, OutOfStep
from sparkneuro.train.parameter_server.pace import Held, make_pace, mean_by_rows
from sparkneuro.train.parameter_server.server_checkpoints import ServerCheckpoints
from sparkneuro.train.parameter_server.training_log import TrainingLog
from sparkneuro.train.parameter_server.update_rules import apply_update, make_rule
from sparkneuro.train.parameter_server.warm_up import WarmUpGate

# A push that must wait is held by the server; its worker asks again after this long (s), so that no call outlasts its time-out.
WAIT_S = 5.0


class ParameterServer:
    """Weights that many workers read and change, one push at a time.

    Where its settings name a folder with checkpoints of this shard, it goes on from the newest.

    Parameters
    ----------
    settings : ServerSettings
        Sizes, rule, pace and checkpoints.

    Raises
    ------
    FormatError
        When the checkpoint is of another model.
    """

    def __init__(self, settings):
        self.settings = settings
        self.version = 0
        self.ledger = Ledger()
        self.gate = WarmUpGate(settings.warmup_steps)
        self.log = TrainingLog(settings.n_partitions, settings.rows_per_epoch)
        self.stopping = False
        self._rule = make_rule(settings.rule)
        self._slots = None
        self._values = None
        self._pace = make_pace(settings.mode, settings.n_partitions, settings.max_staleness)
        self._held = {}
        self._changed = threading.Condition()
        self._checkpoints = None
        if settings.checkpoints is not None:
            self._checkpoints = ServerCheckpoints(settings)
            self._restore()

    @property
    def n_values(self):
        """Length of the shard: weights and averaged state."""
        return self.settings.n_trainable + self.settings.n_state

    @property
    def is_ready(self):
        """Whether the shard has weights."""
        return self._values is not None

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
        with self._changed:
            if self._values is not None:
                raise TrainingError("the parameter server has its weights already.")
            self._slots = self._rule.make_slots(self.settings.n_trainable)
            self._values = np.array(values, np.float32)
            # Without this, a death within the first interval would leave nothing to go on from.
            self._save()

    def register(self, partition, attempt, last_clock, fingerprint=0):
        """Note that a worker begins with a partition; see `Ledger.register`.

        Parameters
        ----------
        partition, attempt, last_clock, fingerprint : int
            Who begins, the clock of its last batch, and the hash of its rows.

        Returns
        -------
        clock : int
            Batches up to this one are applied already.
        """
        with self._changed:
            clock = self.ledger.register(partition, attempt, last_clock, fingerprint)
            # What an attempt before this one has pushed and was not applied comes again.
            self._held.pop(partition, None)
            self.log.note_worker(partition, finished=clock == last_clock)
            self._pace.note_worker(partition)
            self._settle()
            self._changed.notify_all()
            return clock

    def note_life(self, partition):
        """Note that a worker lives, though it has nothing to push yet.

        Parameters
        ----------
        partition : int
            Who lives.
        """
        with self._changed:
            self.log.note_life()
            self._pace.note_life(partition)
        self.gate.report(partition)

    def leave(self, partition, attempt):
        """Note that a worker has ended, done or not.

        Parameters
        ----------
        partition, attempt : int
            Who has ended; it counts for nothing when a newer attempt trains the partition.
        """
        with self._changed:
            entry = self.ledger.entries.get(partition)
            if entry is not None and entry.attempt > attempt:
                return
            self._held.pop(partition, None)
            self._pace.forget(partition)
            self._settle()
            self._changed.notify_all()
        self.gate.leave(partition)

    def pull(self, partition=None):
        """Return the newest weights.

        Parameters
        ----------
        partition : int or None
            Who computes its next gradient from them; None for who only looks.

        Returns
        -------
        values : ndarray of shape (n_values,), float32
            A vector that no later push changes.
        version : int
            Number of updates that made it.

        Raises
        ------
        OutOfStep
            When there are none yet.
        """
        with self._changed:
            if self._values is None:
                raise OutOfStep("the parameter server has no weights yet.")
            if partition in self.ledger.entries:
                self._pace.note_pull(partition, self.version)
                self._settle()  # others may have waited for who had older weights
            return self._values, self.version

    def push(self, push, gradient, fetch=False, wait_s=WAIT_S):
        """Apply a gradient when the pace allows it, unless it was applied before.

        State is averaged by adding a worker's change divided by 1 + staleness, which for one worker is its own statistics, and
        for many stays a convex mean of the old state and the batches' however many push at once.

        Parameters
        ----------
        push : Push
            Who pushes what.
        gradient : ndarray of shape (n_values,), float32
            Sum of the batches' gradients, then the change of the averaged state.
        fetch : bool
            Whether the worker goes on from the weights that this push makes.
        wait_s : float
            Seconds to wait for others at most.

        Returns
        -------
        verdict : str
            "apply", "duplicate", "outdated", "stop", or "held": then ask with `settle`.

        Raises
        ------
        TrainingError
            When the message does not fit; nothing is changed then.
        OutOfStep
            When the ledger does not stand where the push begins.
        """
        self._check_length(gradient)
        with self._changed:
            if self._values is None:
                raise OutOfStep("the parameter server has no weights yet.")
            verdict = self.ledger.admit(push.partition, push.attempt, push.clock, push.n_batches)
            if verdict == DUPLICATE:
                self._pace.note_push(push, fetch, self.version)
                self._settle()
            if verdict != APPLY or self.stopping:
                return STOP if verdict == APPLY else verdict
            self._pace.note_life(push.partition)
            self._held[push.partition] = Held(push, gradient, fetch)
            self._settle()
            return self._wait(push.partition, push.attempt, push.clock, wait_s)

    def settle(self, partition, attempt, clock, wait_s=WAIT_S):
        """Ask what has become of a push that was held; wait a while for it.

        Parameters
        ----------
        partition, attempt, clock : int
            Whose push, and its last batch.
        wait_s : float
            Seconds to wait at most.

        Returns
        -------
        verdict : str
            As of `push`.
        missing : list of int
            Partitions with batches left that have not pushed: those that are waited for.
        """
        with self._changed:
            self.log.note_life()
            self._pace.note_life(partition)
            verdict = self._wait(partition, attempt, clock, wait_s)
            return verdict, [other for other in self.ledger.unfinished() if other not in self._held]

    def finish(self):
        """End the training early: pushes are refused from now on, and workers told to stop."""
        with self._changed:
            self.stopping = True
            self._held.clear()
            self._changed.notify_all()

    def status(self):
        """Return what a watcher may want to know.

        Returns
        -------
        status : dict
            Fit for JSON: version, partitions registered and unfinished, rows applied, epochs, rate, warm-up, checkpoints.
        """
        with self._changed:
            return {
                "ready": self.is_ready,
                "version": self.version,
                "registered": sorted(self.ledger.entries),
                "unfinished": self.ledger.unfinished(),
                "warming_up": not self.gate.is_open,
                "stopping": self.stopping,
                "checkpoint_version": self._checkpoints and self._checkpoints.version,
                "checkpoint_error": self._checkpoints and self._checkpoints.complaint,
                **self.log.summarise(),
            }

    def read_ledger(self):
        """Return what has been applied.

        Returns
        -------
        entries : dict of str to dict
            See `Ledger.to_dict`.
        """
        with self._changed:
            return self.ledger.to_dict()

    def _wait(self, partition, attempt, clock, wait_s):
        deadline = time.monotonic() + wait_s
        while True:
            entry = self.ledger.entries.get(partition)
            if entry is None:
                raise OutOfStep(f"partition {partition} must register before it pushes.")
            if entry.attempt > attempt:
                return OUTDATED
            if entry.clock >= clock:
                return APPLY
            if self.stopping:
                return STOP
            if partition not in self._held:
                raise OutOfStep(f"the push of partition {partition} up to batch {clock} is not here.")
            left = deadline - time.monotonic()
            if left <= 0:
                return HELD
            self._changed.wait(left)
            self._settle()  # time alone may have changed whom the pace waits for

    def _settle(self):
        while chosen := self._pace.choose(self._held, self.version, self.ledger.unfinished()):
            self._apply([self._held.pop(partition) for partition in chosen])
            self._changed.notify_all()

    def _apply(self, group):
        pushes = [held.push for held in group]
        staleness = [max(self.version - push.version, 0) for push in pushes]
        self._update(mean_by_rows(group), 0 if self.settings.mode == "synchronous" else staleness[0])
        ended = False
        for held, push, late in zip(group, pushes, staleness, strict=True):
            self.ledger.record(push.partition, push.clock, push.rows)
            finished = push.clock == self.ledger.entries[push.partition].last_clock
            ended = ended or finished
            self.log.note_push(push.partition, push.rows, push.loss, late, finished)
            self._pace.note_push(push, held.fetch, self.version)
            self.gate.report(push.partition, push.n_batches)
        # A worker that has ended cannot train again what a shard has lost: its last push is written down before it is told.
        if self._checkpoints is not None and (ended or self.version % self.settings.checkpoints.every == 0):
            self._save()

    def _update(self, gradient, staleness):
        n, old = self.settings.n_trainable, self._values
        values = np.empty_like(old)
        apply_update(self._rule, old[:n], gradient[:n], self._slots, values[:n])
        late = np.float32(1 + staleness)
        if self.settings.staleness_scaling and staleness:
            values[:n] -= old[:n]
            values[:n] /= late
            values[:n] += old[:n]
        np.add(old[n:], gradient[n:] / late, out=values[n:])
        self._values = values
        self.version += 1

    def _save(self):
        if self._checkpoints is not None:
            slots = self._rule.read_slots(self._slots)
            self._checkpoints.save(self.version, self._values, slots, self.ledger, self.gate, self.log)

    def _restore(self):
        found = self._checkpoints.load(self.ledger, self.gate, self.log)
        if found is not None:
            self.version, self._values, slots = found
            self._slots = self._rule.make_slots(self.settings.n_trainable, slots)
            self._check_length(self._values)
            # Who has ended does not come again: in rounds, the others must not wait for it.
            for partition in self.ledger.entries:
                self._pace.note_worker(partition)

    def _check_length(self, values):
        if values.shape != (self.n_values,):
            raise TrainingError(f"the parameter server must get {self.n_values} values; got {values.size}.")
