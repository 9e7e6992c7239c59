"""Progress of Spark tasks that each leave a file: a bar with how many are done, MB/s, and the time left."""

import threading
from contextlib import contextmanager

from tqdm import tqdm

from sparkneuro.errors import StorageError

PERIOD = 0.5
"""Seconds between two looks at what is done."""


@contextmanager
def show_progress(name, sizes, list_done, noun="runs", enabled=None):
    """Show a progress bar on a terminal's standard error while the body runs.

    Parameters
    ----------
    name : str
        Shown before the bar.
    sizes : dict of str to int
        Bytes that each task works on, by key.
    list_done : callable
        Returns the keys of the tasks that are done; called from a thread, twice a second.
    noun : str
        What a task works on, in the plural.
    enabled : bool or None
        Whether the bar is shown; on a terminal only when absent.

    Yields
    ------
    bar : tqdm.tqdm
        The bar.
    """
    stop = threading.Event()
    hidden = None if enabled is None else not enabled
    with tqdm(total=sum(sizes.values()), desc=name, unit="B", unit_scale=True, disable=hidden) as bar:
        watcher = threading.Thread(target=_watch, args=(bar, sizes, list_done, noun, stop), daemon=True)
        watcher.start()
        try:
            yield bar
        finally:
            stop.set()
            watcher.join()


def _watch(bar, sizes, list_done, noun, stop):
    last = False
    while not last:
        last = stop.wait(PERIOD)
        try:
            done = sizes.keys() & set(list_done())
        except StorageError:
            continue  # the folder is being removed, or a bucket did not answer this once
        bar.set_postfix_str(f"{len(done)}/{len(sizes)} {noun}", refresh=False)
        bar.n = sum(sizes[key] for key in done)
        bar.refresh()
