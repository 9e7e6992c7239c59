"""When a push may be applied: at once, within a bound of staleness, or together with everybody's (synchronous mode).

A pace is asked, whenever something has changed, which of the pushes that are held make up the next update.
"""

from dataclasses import dataclass

import numpy as np

from sparkneuro.errors import SettingsError
from sparkneuro.train.parameter_server.push import Push
from sparkneuro.train.parameter_server.staleness_bound import StalenessBound


@dataclass(frozen=True)
class Held:
    """A push that waits to be applied.

    Parameters
    ----------
    push : Push
        Who pushes what.
    gradient : ndarray of shape (n_values,), float32
        Gradient, then the change of averaged state.
    fetch : bool
        Whether the worker goes on from the weights that the push makes.
    """

    push: Push
    gradient: np.ndarray
    fetch: bool


class AtOnce:
    """Asynchronous: every push is an update of its own, in the order in which they come."""

    def choose(self, held, version, unfinished):
        """Choose the pushes of the next update.

        Parameters
        ----------
        held : dict of int to Held
            Partitions whose push waits, in the order in which they came.
        version : int
            Updates so far.
        unfinished : sequence of int
            Registered partitions that have batches left.

        Returns
        -------
        partitions : list of int
            Whose pushes are applied together now; empty when all must wait.
        """
        return list(held)[:1]

    def note_worker(self, partition):
        """Note that a worker has registered; what it had pulled before counts no more.

        Parameters
        ----------
        partition : int
            Who.
        """

    def note_pull(self, partition, version):
        """Note that a worker goes on from the newest weights.

        Parameters
        ----------
        partition, version : int
            Who, and from what.
        """

    def note_push(self, push, fetch, version):
        """Note that a push has been dealt with: applied, or found to be applied already.

        Parameters
        ----------
        push : Push
            Who, and from what it computes already, if from anything.
        fetch : bool
            Whether it goes on from the newest weights.
        version : int
            Version of these.
        """

    def note_life(self, partition):
        """Note that a worker lives.

        Parameters
        ----------
        partition : int
            Who.
        """

    def forget(self, partition):
        """Note that a worker has gone.

        Parameters
        ----------
        partition : int
            Who.
        """


class Rounds(AtOnce):
    """Synchronous: one update from everybody's push, averaged by rows.

    Parameters
    ----------
    n_partitions : int
        Workers of the run; all train at the same time.
    """

    def __init__(self, n_partitions):
        self._n_partitions = n_partitions
        self._known = set()

    def choose(self, held, version, unfinished):
        """Choose all pushes when all that have batches left have pushed; see `AtOnce.choose`.

        Parameters
        ----------
        held : dict of int to Held
            Partitions whose push waits.
        version : int
            Updates so far.
        unfinished : sequence of int
            Registered partitions that have batches left.

        Returns
        -------
        partitions : list of int
            All that are held, in ascending order, so that the sum is the same however they came; or none.
        """
        if len(self._known) < self._n_partitions or not set(unfinished) <= set(held):
            return []
        return sorted(held)

    def note_worker(self, partition):
        """Note that a worker takes part.

        Parameters
        ----------
        partition : int
            Who.
        """
        self._known.add(partition)


def make_pace(mode, n_partitions, max_staleness=None):
    """Make the pace of a training.

    Parameters
    ----------
    mode : str
        ``"asynchronous"`` or ``"synchronous"``.
    n_partitions : int
        Workers of the run.
    max_staleness : int or None
        Bound of an asynchronous training; None for no bound.

    Returns
    -------
    pace : AtOnce, StalenessBound or Rounds
        The pace.
    """
    if mode == "synchronous":
        return Rounds(n_partitions)
    return AtOnce() if max_staleness is None else StalenessBound(max_staleness)


def check_pace(mode, n_workers, max_staleness, pipeline, n_fetch=1):
    """Make sure that a bound of staleness can be kept.

    Parameters
    ----------
    mode : str
        ``"asynchronous"`` or ``"synchronous"``.
    n_workers : int
        Workers that train at the same time.
    max_staleness : int or None
        Wanted bound.
    pipeline : bool
        Whether workers compute while their last push is under way.
    n_fetch : int
        Batches between two fetches.

    Raises
    ------
    SettingsError
        When so many workers must be staler than that, or the mode has no staleness.
    """
    if max_staleness is None:
        return
    if mode == "synchronous":
        raise SettingsError("a synchronous training has no staleness; leave max_staleness out.")
    if n_fetch != 1:
        raise SettingsError(
            f"max_staleness needs a fetch behind every batch, since of several pushes from the same weights the last is staler;"
            f" got a fetch every {n_fetch} batches."
        )
    least = 2 * n_workers - 1 if pipeline else n_workers - 1
    if max_staleness < least:
        how = " that overlap communication with computing" if pipeline else ""
        raise SettingsError(
            f"max_staleness must be at least {least} with {n_workers} workers{how}, since all of them compute at the same time;"
            f" got {max_staleness}."
        )


def mean_by_rows(group):
    """Make one gradient of everybody's: that of all their rows as one batch.

    Parameters
    ----------
    group : list of Held
        Pushes of one update.

    Returns
    -------
    gradient : ndarray of shape (n_values,), float32
        Mean, weighted by rows.
    """
    if len(group) == 1:
        return group[0].gradient
    n_rows = sum(held.push.rows for held in group)
    total = np.zeros_like(group[0].gradient)
    for held in group:
        total += held.gradient * np.float32(held.push.rows / n_rows)
    return total
