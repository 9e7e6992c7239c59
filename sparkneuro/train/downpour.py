"""Downpour SGD, one worker's part (Dean et al. 2012, algorithm 7.1).

For each batch: pull the weights when it is time; compute the gradient; follow it locally; accumulate it; push the sum
when it is time. What is pushed twice, because an answer or a server was lost, is applied once: the servers' ledgers see to it.
"""

import logging
import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from sparkneuro.errors import TrainingError
from sparkneuro.train.gradients import is_finite
from sparkneuro.train.parameter_server.client import EndedEarly
from sparkneuro.train.parameter_server.push import Push
from sparkneuro.train.parameter_server.secure_flight import ServerLost
from sparkneuro.train.parameter_server.update_rules import apply_update, make_rule

log = logging.getLogger(__name__)
# So many losses of a server in a row, with not one batch applied between them, end a worker.
MOST_LOSSES = 20


@dataclass(frozen=True)
class DownpourSettings:
    """How a worker trains.

    Parameters
    ----------
    n_fetch : int
        Batches between two pulls.
    n_push : int
        Batches between two pushes; a push also ends every epoch.
    rule : dict
        Update rule that the worker follows between two pulls, the servers' own.
    n_trainable : int
        Number of weights at the head of the vector.
    timeout_s : float
        Seconds to wait for other workers: for one that warms up, or whose push is needed first.
    reconnect_s : float
        Seconds to wait for a server that was lost.
    pipeline : bool
        Whether an exchange runs while the next gradient is computed, which makes gradients one push staler.
    """

    n_fetch: int
    n_push: int
    rule: dict
    n_trainable: int
    timeout_s: float
    reconnect_s: float = 120.0
    pipeline: bool = False


class LocalReplica:
    """A worker's own copy of the weights, which it moves along its gradients until the next pull.

    Parameters
    ----------
    rule : dict
        Update rule.
    n_trainable : int
        Number of weights at the head of the vector; behind them stands averaged state.
    """

    def __init__(self, rule, n_trainable):
        self._rule = make_rule(rule)
        self._n = n_trainable
        self._slots = self._rule.make_slots(n_trainable)

    def follow(self, values, change):
        """Return the vector after one local step.

        Parameters
        ----------
        values, change : ndarray of shape (n_values,), float32
            Vector, and what `TensorFlowGradients.compute` returned; not modified.

        Returns
        -------
        moved : ndarray of shape (n_values,), float32
            A new vector.
        """
        moved = np.empty_like(values)
        apply_update(self._rule, values[: self._n], change[: self._n], self._slots, moved[: self._n])
        np.add(values[self._n :], change[self._n :], out=moved[self._n :])
        return moved


def train_partition(client, gradients, batches, partition, attempt, settings):
    """Train on one partition, from where it stands to its last batch.

    A server that is lost is looked for; when it has come back from its checkpoint, the batches that it lacks are trained again,
    and the other servers answer that they have them.

    Parameters
    ----------
    client : ParameterClient
        Connection to the servers.
    gradients : TensorFlowGradients or JaxGradients
        Anything whose ``compute(vector, x)`` returns the loss and the change.
    batches : BatchSequence
        The partition's batches, by clock.
    partition, attempt : int
        Who this is; a higher attempt replaces a lower one.
    settings : DownpourSettings
        How to train.

    Returns
    -------
    retrained : int
        Batches that were trained again because a server had lost them.

    Raises
    ------
    TrainingError
        When a server is gone for good, a newer attempt has taken over, or the loss is not finite.
    """
    worker = _Worker(client, gradients, batches, partition, attempt, settings)
    retrained, losses, furthest = 0, 0, -1
    while True:
        done = _register(client, batches, partition, attempt, settings)
        retrained += max(worker.clock - done, 0)
        losses, furthest = (losses + 1, furthest) if done <= furthest else (0, done)
        if done == batches.last_clock:
            return retrained
        try:
            client.wait_for_turn(partition, settings.timeout_s)
            worker.train(done)
            return retrained
        except EndedEarly:
            return retrained
        except ServerLost as lost:
            if losses >= MOST_LOSSES:
                raise
            log.warning("partition %d lost a parameter server and looks for it: %s", partition, lost)


def _register(client, batches, partition, attempt, settings):
    deadline = time.monotonic() + settings.reconnect_s
    while True:
        try:
            client.reconnect(max(deadline - time.monotonic(), 0.0))
            return client.register(partition, attempt, batches.last_clock, batches.fingerprint)
        except ServerLost:
            if time.monotonic() > deadline:
                raise


class _Worker:
    """The loop over batches, and how far it has come."""

    def __init__(self, client, gradients, batches, partition, attempt, settings):
        self.clock = 0
        self._client, self._gradients, self._batches = client, gradients, batches
        self._partition, self._attempt, self._settings = partition, attempt, settings
        follows = settings.n_fetch > 1 or settings.n_push > 1
        self._replica = LocalReplica(settings.rule, settings.n_trainable) if follows else None

    def train(self, done):
        """Train the batches behind `done`, and push all of them."""
        exchange = _Overlapped if self._settings.pipeline else _InTurn
        window = _Window(self._partition, self._attempt, self._settings.n_trainable)
        with exchange(self._client, self._settings.timeout_s) as exchange:
            values, versions = self._client.pull(self._partition)
            since_fetch = 0
            for clock in range(done + 1, self._batches.last_clock + 1):
                loss, change, n_rows = self._compute(values, clock)
                window.add(clock, loss * n_rows, n_rows, change)
                since_fetch += 1
                last = clock == self._batches.last_clock
                fetch = since_fetch >= self._settings.n_fetch and not last
                push = self._batches.ends_window(clock, self._settings.n_push)
                if push and fetch:
                    values, versions = exchange.push_pull(*window.close(), values, versions)
                elif push:
                    versions = exchange.push(*window.close(), versions)
                elif fetch:
                    values, versions = exchange.pull(self._partition)
                if fetch:
                    since_fetch = 0
                    window.note_pull()
                elif not last:
                    values = self._replica.follow(values, change)

    def _compute(self, values, clock):
        x = self._batches.batch(clock)
        loss, change = self._gradients.compute(values, x)
        self.clock = max(self.clock, clock)
        self._client.live(self._partition)
        if not math.isfinite(loss):
            if not np.isfinite(x).all():
                raise TrainingError(
                    f"the series of partition {self._partition} must be finite; batch {clock} holds NaN or infinity."
                )
            raise TrainingError(
                f"the loss of partition {self._partition} became {loss} at batch {clock}; try a lower learning rate."
            )
        if not is_finite(change):
            raise TrainingError(
                f"the gradient of partition {self._partition} is not finite at batch {clock}, though the loss is {loss:.4g};"
                " try a lower learning rate."
            )
        return loss, change, len(x)


class _InTurn:
    """Compute, exchange, compute, exchange."""

    def __init__(self, client, patience_s):
        self._client = client
        self._patience_s = patience_s

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    def push_pull(self, push, change, values, versions):
        return self._client.push_pull(push, change, versions, self._patience_s)

    def push(self, push, change, versions):
        return self._client.push(push, change, versions, self._patience_s)

    def pull(self, partition):
        return self._client.pull(partition)


class _Overlapped(_InTurn):
    """An exchange runs while the next gradient is computed: each is computed from weights that are one push older."""

    def __enter__(self):
        self._pool = ThreadPoolExecutor(1)
        self._running = self._fetched = None
        return self

    def __exit__(self, kind, error, traceback):
        try:
            if self._running is not None and kind is None:
                self._running.result()
        finally:
            self._pool.shutdown()

    def push_pull(self, push, change, values, versions):
        newest, now = self._finish() or self._fetched or (values, versions)
        self._fetched = None
        send = self._client.push_pull
        self._running = self._pool.submit(send, push, change, versions, self._patience_s, computing=now)
        return newest, now

    def push(self, push, change, versions):
        # What comes back with an exchange is gone on from at the next fetch.
        self._fetched = self._finish() or self._fetched
        return super().push(push, change, versions)

    def pull(self, partition):
        self._finish()
        self._fetched = None
        return super().pull(partition)

    def _finish(self):
        if self._running is None:
            return None
        running, self._running = self._running, None
        return running.result()


class _Window:
    """What has been computed since the last push."""

    def __init__(self, partition, attempt, n_trainable):
        self._who = {"partition": partition, "attempt": attempt}
        self._n_trainable = n_trainable
        self._reset()

    def add(self, clock, loss, rows, change):
        self._clock = clock
        self._n_batches += 1
        self._loss += loss
        self._rows += rows
        self._change = change if self._change is None else self._change + change

    def note_pull(self):
        # Between two pulls the changes of averaged state follow each other; behind a pull they begin anew from the servers'.
        if self._n_batches:
            self._stretches += 1

    def close(self):
        push = Push(**self._who, clock=self._clock, n_batches=self._n_batches, rows=self._rows, loss=self._loss, version=0)
        change = self._change
        if self._stretches > 1:  # of several such stretches the mean change is pushed: their sum would overshoot
            state = change[self._n_trainable :] / np.float32(self._stretches)
            change = np.concatenate([change[: self._n_trainable], state])
        self._reset()
        return push, change

    def _reset(self):
        self._stretches = 1
        self._clock, self._n_batches, self._loss, self._rows, self._change = 0, 0, 0.0, 0, None
