"""The processes that descend from this one: who they are, what memory they hold, and how they are brought to an end.

Linux tells all of it in ``/proc``, and gives orphaned descendants back to a process that asks for them, so that none escapes by
a session of its own. Elsewhere `ps` is asked, and a descendant that has cut itself loose is not found.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_ON_LINUX = sys.platform.startswith("linux")
_PERIOD = 0.05


def adopt_orphans():
    """Become the parent of every descendant whose own parent ends."""
    if _ON_LINUX:
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with_parent():
    """Have this process killed when its parent ends; to be called in the child before it becomes another program."""
    if _ON_LINUX:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def list_descendants(root):
    """List the living processes below a process.

    Parameters
    ----------
    root : int
        Process id.

    Returns
    -------
    resident : dict of int to int
        Resident memory (bytes) by process id, without `root` and without those that have ended.
    """
    table = _read_proc() if _ON_LINUX else _ask_ps()
    children = {}
    for pid, (parent, _) in table.items():
        children.setdefault(parent, []).append(pid)
    found, waiting = {}, [root]
    while waiting:
        for pid in children.get(waiting.pop(), ()):
            if pid not in found:
                found[pid] = table[pid][1]
                waiting.append(pid)
    return found


def measure_memory(resident, limit):
    """Add up the memory of processes, counting what they share once.

    Parameters
    ----------
    resident : dict of int to int
        Of `list_descendants`.
    limit : int
        Bytes above which it matters to be exact: shared pages are looked up only then, which takes longer.

    Returns
    -------
    n_bytes : int
        At most the sum of `resident`.
    """
    total = sum(resident.values())
    if total <= limit:
        return total
    return sum(min(own, _proportional(pid, own)) for pid, own in resident.items())


def terminate_descendants(grace):
    """End every descendant of this process: SIGTERM, and SIGKILL for what is left after a while.

    Parameters
    ----------
    grace : float
        Seconds between the two.
    """
    me, deadline, told = os.getpid(), time.monotonic() + grace, set()
    while living := set(list_descendants(me)):
        late = time.monotonic() >= deadline
        for pid in living if late else living - told:
            try:
                os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
            except OSError:
                pass  # it has ended meanwhile
        told |= living
        reap()
        time.sleep(_PERIOD)
    reap()


def reap():
    """Take leave of children that have ended.

    Returns
    -------
    ended : dict of int to int
        Exit codes by process id; negative for the number of a signal.
    """
    ended = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended[pid] = os.waitstatus_to_exitcode(status)


def _read_proc():
    table, page = {}, os.sysconf("SC_PAGE_SIZE")
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue  # it has ended meanwhile
        if fields[0] not in (b"Z", b"X"):
            table[int(name)] = int(fields[1]), int(fields[21]) * page
    return table


def _ask_ps():
    said = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,rss=,stat="], capture_output=True, text=True, check=False).stdout
    rows = [line.split() for line in said.splitlines()]
    return {int(row[0]): (int(row[1]), int(row[2]) * 1024) for row in rows if len(row) > 3 and not row[3].startswith("Z")}


def _proportional(pid, own):
    """Memory of a process with each shared page divided by the number of those who share it."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            lines = dict(line.split(b":", 1) for line in file.read().splitlines()[1:] if b":" in line)
        return int(lines[b"Pss"].split()[0]) * 1024
    except (OSError, KeyError):
        return own
