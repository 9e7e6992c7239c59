"""The gate behind which one worker trains alone before the others join (the warm-up of Dean et al. 2012)."""

import threading
import time

# A worker that warms up and is silent for this long (s) is taken for dead, and one of the waiting takes its place. The
# first step of a large model, traced and run on one core, takes tens of seconds.
SILENCE_S = 120.0


class WarmUpGate:
    """Lets one partition through until it has trained `n_steps`, then all.

    The waiting hold slots that the one who warms up may need: should it die, the place passes to one of those who wait,
    so that training never hangs on a retry that finds no free slot.

    Parameters
    ----------
    n_steps : int
        Batches of the first partition before the others join; 0 opens the gate at once.
    silence_s : float
        Seconds without a sign of life after which the warming partition is replaced.
    clock : callable
        Seconds now; replaced in tests.
    """

    def __init__(self, n_steps, silence_s=SILENCE_S, clock=time.monotonic):
        self.n_steps = n_steps
        self.silence_s = silence_s
        self.steps = 0
        self.partition = None
        self._heard = None
        self._clock = clock
        self._changed = threading.Condition()

    @property
    def is_open(self):
        """Whether everybody may train."""
        return self.steps >= self.n_steps

    def report(self, partition, n_steps=0):
        """Note a sign of life and `n_steps` more batches applied.

        Parameters
        ----------
        partition : int
            Who trained.
        n_steps : int
            Batches just applied.
        """
        with self._changed:
            if partition == self.partition:
                self._heard = self._clock()
            was_open = self.is_open
            self.steps += n_steps
            if self.is_open and not was_open:
                self._changed.notify_all()

    def leave(self, partition):
        """Note that a worker has stopped: the place is free, or the gate is open for want of more to do.

        Parameters
        ----------
        partition : int
            Who stopped.
        """
        with self._changed:
            if partition == self.partition:
                self.partition = None
                self._changed.notify_all()

    def enter(self, partition, wait_s=0.0):
        """Ask to train; wait a while for it.

        Parameters
        ----------
        partition : int
            Who asks.
        wait_s : float
            Seconds to wait at most.

        Returns
        -------
        admitted : bool
            Whether `partition` may train now. Ask again when not.
        """
        deadline = self._clock() + wait_s
        with self._changed:
            while not self._admits(partition):
                left = deadline - self._clock()
                if left <= 0:
                    return False
                self._changed.wait(left)
            return True

    def _admits(self, partition):
        if self.is_open or partition == self.partition:
            return True
        if self.partition is None or self._clock() - self._heard > self.silence_s:
            self.partition, self._heard = partition, self._clock()
            return True
        return False
