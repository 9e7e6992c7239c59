"""How long a transfer is tried again: exponential backoff with jitter, and waiting where a server asks for it."""

import random
import threading
import time
from dataclasses import dataclass

from sparkneuro.errors import StorageError

_LONGEST_HOLD = 900.0  # a server that asks for more is asked again after this


class Faltered(Exception):
    """A transfer went wrong in a way that may go better the next time.

    Parameters
    ----------
    reason : str
        What happened, without the file's name.
    throttled : bool
        Whether the server asked for a slower pace.
    hold : float or None
        Seconds that it asked for.
    """

    def __init__(self, reason, throttled=False, hold=None):
        super().__init__(reason)
        self.throttled = throttled
        self.hold = hold


class Exhausted(StorageError):
    """Patience with a server is at its end."""


class Stopped(Exception):
    """The caller wants no more."""


class Throttle:
    """The pace that a server asks for, shared by all threads that ask it."""

    def __init__(self):
        self._until = 0.0
        self._lock = threading.Lock()

    def hold(self, seconds):
        """Let nobody ask before so many seconds are over.

        Parameters
        ----------
        seconds : float
            From now on; a longer hold that stands already is kept.
        """
        with self._lock:
            self._until = max(self._until, time.monotonic() + min(seconds, _LONGEST_HOLD))

    def wait(self, stop):
        """Wait until one may ask.

        Parameters
        ----------
        stop : threading.Event
            Ends the waiting.

        Raises
        ------
        Stopped
            When it was set.
        """
        while (left := self._until - time.monotonic()) > 0:
            # The threads do not all come back in the same moment.
            sleep(left * random.uniform(1.0, 1.1) + random.uniform(0, 0.05), stop)


@dataclass(frozen=True)
class Patience:
    """How long a transfer is tried again.

    Parameters
    ----------
    retries : int
        Tries after the first one without a byte of progress between them; what a throttling server refuses does not count.
    first_wait, longest_wait : float
        Seconds before the first and before any further try; doubled from one to the next, half of it at random.
    timeout : float
        Seconds without a byte after which a connection has stalled.
    throttled_for : float
        Seconds in a row that a server may go on asking for a slower pace.
    """

    retries: int = 8
    first_wait: float = 1.0
    longest_wait: float = 60.0
    timeout: float = 60.0
    throttled_for: float = 7200.0


class Tries:
    """The tries of one transfer.

    Parameters
    ----------
    patience : Patience
        How many, how long.
    throttle : Throttle
        Of the server.
    stop : threading.Event
        Ends all waiting.
    """

    def __init__(self, patience, throttle, stop):
        self._patience, self._throttle, self._stop = patience, throttle, stop
        self._n_failed, self._n_throttled, self._throttled_since = 0, 0, None

    def wait(self):
        """Wait as long as the server has asked for.

        Raises
        ------
        Stopped
            When the stop was set.
        """
        self._throttle.wait(self._stop)

    def pause(self, fault, progressed):
        """Wait after a try that went wrong, or give up.

        Parameters
        ----------
        fault : Faltered
            What went wrong.
        progressed : bool
            Whether more of the file is there than ever before.

        Raises
        ------
        Exhausted
            When patience is at its end.
        Stopped
            When the stop was set.
        """
        if progressed:
            self._n_failed, self._n_throttled, self._throttled_since = 0, 0, None
        n_before = self._n_throttled if fault.throttled else self._n_failed
        wait = min(self._patience.first_wait * 2 ** min(n_before, 30), self._patience.longest_wait)
        if fault.throttled:
            self._be_held(fault, wait)
            return
        self._n_failed += 1
        if n_before >= self._patience.retries:
            raise Exhausted(f"{fault}; tried {self._n_failed} times") from fault
        sleep(wait * random.uniform(0.5, 1.0), self._stop)

    def _be_held(self, fault, wait):
        now = time.monotonic()
        self._n_throttled += 1
        self._throttled_since = self._throttled_since or now
        if now - self._throttled_since > self._patience.throttled_for:
            raise Exhausted(f"{fault}; it has asked for a slower pace {self._n_throttled} times in a row") from fault
        self._throttle.hold(fault.hold or wait)


def sleep(seconds, stop):
    """Sleep unless stopped.

    Parameters
    ----------
    seconds : float
        How long.
    stop : threading.Event
        Ends the sleep.

    Raises
    ------
    Stopped
        When it was or is set.
    """
    if stop.wait(seconds):
        raise Stopped
