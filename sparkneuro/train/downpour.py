"""Downpour SGD, one worker's part (Dean et al. 2012, algorithm 7.1).

For each batch: pull the weights when it is time; compute the gradient; follow it locally; accumulate it; push the sum
when it is time.
"""

import math
from dataclasses import dataclass

import numpy as np

from sparkneuro.errors import TrainingError
from sparkneuro.train.parameter_server import Push
from sparkneuro.train.update_rules import apply_update, make_rule


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
        Seconds to wait for another worker's warm-up.
    """

    n_fetch: int
    n_push: int
    rule: dict
    n_trainable: int
    timeout_s: float


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

    Parameters
    ----------
    client : ParameterClient
        Connection to the servers.
    gradients : TensorFlowGradients
        Anything whose ``compute(vector, x)`` returns the loss and the change.
    batches : BatchSequence
        The partition's batches, by clock.
    partition, attempt : int
        Who this is; a higher attempt replaces a lower one.
    settings : DownpourSettings
        How to train.

    Returns
    -------
    clock : int
        The last batch's clock.

    Raises
    ------
    TrainingError
        When the servers are gone, a newer attempt has taken over, or the loss is not finite.
    """
    done = client.register(partition, attempt, batches.last_clock)
    if done == batches.last_clock:
        return done
    client.wait_for_turn(partition, settings.timeout_s)
    replica = LocalReplica(settings.rule, settings.n_trainable) if settings.n_fetch > 1 or settings.n_push > 1 else None
    window = _Window(partition, attempt, settings.n_trainable)
    values, since_fetch = client.pull(), 0
    for clock in range(done + 1, batches.last_clock + 1):
        x = batches.batch(clock)
        loss, change = gradients.compute(values, x)
        client.live(partition)
        if not math.isfinite(loss):
            if not np.isfinite(x).all():
                raise TrainingError(f"the series of partition {partition} must be finite; batch {clock} holds NaN or infinity.")
            raise TrainingError(f"the loss of partition {partition} became {loss} at batch {clock}; try a lower learning rate.")
        window.add(clock, loss * len(x), len(x), change)
        since_fetch += 1
        fetch = since_fetch >= settings.n_fetch and clock < batches.last_clock
        push = batches.ends_window(clock, settings.n_push)
        if push and fetch:
            values = client.push_pull(*window.close())
        elif push:
            client.push(*window.close())
        elif fetch:
            values = client.pull()
        if fetch:
            since_fetch = 0
            window.note_pull()
        elif clock < batches.last_clock:
            values = replica.follow(values, change)
    return batches.last_clock


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
