"""Calls that wait for a network, several at a time in one process."""

import threading
import time
from contextlib import closing, contextmanager
from queue import SimpleQueue

_PATIENCE = 1.0  # s that threads get to notice that they shall stop


@contextmanager
def run_in_threads(function, items, n_threads, stop=None):
    """Call a function for each item, several at a time.

    The threads end with the body, however it ends; they are daemons, and do not keep the process from ending.

    Parameters
    ----------
    function : callable
        Called with one item, in a thread.
    items : sequence
        The items.
    n_threads : int
        How many at a time.
    stop : threading.Event or None
        When it is set no further item is begun; it is set at the end of the body.

    Yields
    ------
    outcomes : iterator of (object, object)
        Each item, as they are done, with what the function returned or the exception that it raised.
    """
    with closing(_outcomes(function, items, n_threads, stop or threading.Event())) as outcomes:
        yield outcomes


def _outcomes(function, items, n_threads, stop):
    waiting, lock, done = iter(items), threading.Lock(), SimpleQueue()
    threads = [
        threading.Thread(target=_work, args=(function, waiting, lock, done, stop), daemon=True)
        for _ in range(max(1, min(n_threads, len(items))))
    ]
    for thread in threads:
        thread.start()
    try:
        n_running = len(threads)
        while n_running:
            result = done.get()
            if result is None:
                n_running -= 1
            else:
                yield result
    finally:
        stop.set()
        deadline = time.monotonic() + _PATIENCE
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))


def _work(function, waiting, lock, done, stop):
    try:
        while not stop.is_set():
            with lock:
                item = next(waiting, waiting)
            if item is waiting:
                return
            try:
                outcome = function(item)
            except Exception as error:  # the outermost frame of a worker: who takes the outcomes raises it
                outcome = error
            done.put((item, outcome))
    finally:
        done.put(None)
