"""The pace of an asynchronous training whose gradients must not be older than so many updates."""

import time

from sparkneuro.train.parameter_server.warm_up import SILENCE_S


class StalenessBound:
    """Asynchronous, but no push is applied more than `max_staleness` updates after its weights were fetched.

    A worker owes the push of the gradient that it computes, and one that computes while its last push is under way owes the
    next one too. With the bases of all that is owed in ascending order b_0 <= b_1 <= ..., the i-th can come i updates later
    at the earliest: a push waits unless, behind it, ``version + 1 + i - b_i <= max_staleness`` holds for each of the others.
    The worker with the oldest base never waits, so there is no deadlock, and the oldest going first keeps all others within
    the bound when it is at least what `check_pace` asks for. Who is silent for `silence_s` is taken for dead and not waited
    for.

    Parameters
    ----------
    max_staleness : int
        Updates between the fetch and the push of a gradient, at most.
    silence_s : float
        Seconds without a sign of life.
    clock : callable
        Seconds now; replaced in tests.
    """

    def __init__(self, max_staleness, silence_s=SILENCE_S, clock=time.monotonic):
        self.max_staleness = max_staleness
        self._silence_s = silence_s
        self._clock = clock
        self._owed = {}
        self._in_turn = set()
        self._heard = {}

    def choose(self, held, version, unfinished):
        """Choose the first push that lets all others keep the bound; see `pace.AtOnce.choose`.

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
            One, or none.
        """
        now = self._clock()
        for partition in list(self._owed):
            if now - self._heard[partition] > self._silence_s or partition not in unfinished:
                self.forget(partition)
        return next(([partition] for partition in held if self._may_push(partition, version)), [])

    def note_worker(self, partition):
        """Note that a worker has registered; what it had pulled before counts no more.

        It holds nobody up before it has pulled: it may have to wait itself, for one that warms the model up.

        Parameters
        ----------
        partition : int
            Who.
        """
        self.forget(partition)

    def note_pull(self, partition, version):
        """Note that a worker goes on from the newest weights.

        Parameters
        ----------
        partition, version : int
            Who, and from what.
        """
        # Before its first push nobody knows whether it will compute two gradients from them, or one.
        self._owed[partition] = [version] if partition in self._in_turn else [version, version]
        self.note_life(partition)

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
        self.note_life(push.partition)
        if push.version < self._owed.get(push.partition, [0])[0]:
            return  # it was under way when its worker began anew, and is not what the worker owes
        if push.computing is None:
            self._in_turn.add(push.partition)
            self._owed[push.partition] = [version if fetch else push.version + 1]
        else:
            self._in_turn.discard(push.partition)
            self._owed[push.partition] = [push.computing, version]

    def note_life(self, partition):
        """Note that a worker lives.

        Parameters
        ----------
        partition : int
            Who.
        """
        self._heard[partition] = self._clock()

    def forget(self, partition):
        """Note that a worker has gone.

        Parameters
        ----------
        partition : int
            Who.
        """
        self._owed.pop(partition, None)

    def _may_push(self, partition, version):
        own = self._owed.get(partition, [version])
        others = [bases for other, bases in self._owed.items() if other != partition]
        if all(own[0] <= bases[0] for bases in others):
            return True
        left = sorted([*own[1:], *(base for bases in others for base in bases)])
        return all(version + 1 + i - base <= self.max_staleness for i, base in enumerate(left))
