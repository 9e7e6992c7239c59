"""What a worker says with a gradient, and what a server is told before its first call."""

import sys
from dataclasses import dataclass

from sparkneuro.train.parameter_server.checkpoint import CheckpointSettings
from sparkneuro.validation import check_number

# Whole numbers up to here are exact as float too, so that sums and means of them go well.
LARGEST = 2**53


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
    computing : int or None
        Version that the worker is computing its next gradient from already; None when it waits for this push's answer.
    """

    partition: int
    attempt: int
    clock: int
    n_batches: int
    rows: int
    loss: float
    version: int
    computing: int | None = None

    def __post_init__(self):
        for name, least in {"partition": 0, "attempt": 0, "clock": 1, "n_batches": 1, "rows": 1, "version": 0}.items():
            check_number(name, getattr(self, name), least, LARGEST, integer=True)
        check_number("loss", self.loss, -sys.float_info.max, sys.float_info.max)
        if self.computing is not None:
            check_number("computing", self.computing, 0, LARGEST, integer=True)


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
    shard, n_servers : int
        Which shard this is, of how many.
    mode : str
        ``"asynchronous"``, or ``"synchronous"``: an update is everybody's mean gradient.
    max_staleness : int or None
        Bound of staleness.
    staleness_scaling : bool
        Whether an update is divided by 1 + its staleness (Zhang et al. 2016, "Staleness-aware async-SGD").
    checkpoints : CheckpointSettings or None
        Where the shard is written down.
    """

    rule: dict
    n_trainable: int
    n_state: int
    warmup_steps: int
    n_partitions: int
    rows_per_epoch: int
    shard: int = 0
    n_servers: int = 1
    mode: str = "asynchronous"
    max_staleness: int | None = None
    staleness_scaling: bool = False
    checkpoints: CheckpointSettings | None = None
