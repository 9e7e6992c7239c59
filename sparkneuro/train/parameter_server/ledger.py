"""What a server has applied: every batch of every partition once, whatever is retried, repeated or late.

A partition's batches are numbered 1, 2, ... over all its epochs: this number is its clock. A push covers the batches
``clock - n_batches + 1`` to ``clock``. Since pushes are cut at the same clocks whoever sends them, the ledger needs to
keep one number a partition: the clock up to which it has come.
"""

from dataclasses import asdict, dataclass

from sparkneuro.errors import TrainingError

APPLY, DUPLICATE, OUTDATED = "apply", "duplicate", "outdated"
# What else a server may answer: the push waits for others; the training is to end early.
HELD, STOP = "held", "stop"


class OutOfStep(TrainingError):
    """A caller and the server disagree about how far a partition has come; registering again settles it."""


@dataclass
class Entry:
    """How far one partition has come.

    Parameters
    ----------
    attempt : int
        Newest attempt at the partition; pushes of older ones are not applied.
    last_clock : int
        Clock of the partition's last batch of its last epoch.
    fingerprint : int
        Hash of the partition's rows.
    clock : int
        Batches 1 to `clock` have been applied, each once.
    rows : int
        Training rows that were in them.
    pushes : int
        Pushes that brought them.
    """

    attempt: int
    last_clock: int
    fingerprint: int = 0
    clock: int = 0
    rows: int = 0
    pushes: int = 0


class Ledger:
    """The book that admits a push, or says why not."""

    def __init__(self):
        self.entries = {}

    def restore(self, entries):
        """Go on from what `to_dict` returned.

        Parameters
        ----------
        entries : dict of str to dict
            What was written down.
        """
        # Attempts are counted anew: an application that resumes begins at 0, and clocks alone keep a batch from counting twice.
        self.entries = {int(partition): Entry(**{**entry, "attempt": 0}) for partition, entry in entries.items()}

    def to_dict(self):
        """Return the book as plain values.

        Returns
        -------
        entries : dict of str to dict
            Fit for JSON.
        """
        return {str(partition): asdict(entry) for partition, entry in self.entries.items()}

    def register(self, partition, attempt, last_clock, fingerprint=0):
        """Note that a worker begins, or begins again, with a partition.

        Parameters
        ----------
        partition : int
            Number of the partition.
        attempt : int
            Number of the attempt, higher for a later one.
        last_clock : int
            Clock of the last batch.
        fingerprint : int
            Hash of the partition's rows, whatever their order.

        Returns
        -------
        clock : int
            The batches up to this one are applied already; the worker goes on behind it.

        Raises
        ------
        TrainingError
            When a newer attempt has registered, or the partition has other rows than at first.
        """
        entry = self.entries.setdefault(partition, Entry(attempt, last_clock, fingerprint))
        if attempt < entry.attempt:
            raise TrainingError(
                f"partition {partition} is being trained by attempt {entry.attempt}; attempt {attempt} must stop."
            )
        if last_clock != entry.last_clock:
            raise TrainingError(
                f"partition {partition} must have {entry.last_clock} batches, as at its first attempt; got {last_clock}:"
                " the data changed while training."
            )
        if fingerprint != entry.fingerprint:
            raise TrainingError(
                f"partition {partition} must hold the rows of its first attempt; it holds others: resume with the same table, and"
                " let no step before the training deal rows out at random."
            )
        entry.attempt = attempt
        return entry.clock

    def admit(self, partition, attempt, clock, n_batches):
        """Say whether a push is to be applied; changes nothing.

        Parameters
        ----------
        partition, attempt, clock : int
            Who pushes, and the last batch covered.
        n_batches : int
            Number of batches covered.

        Returns
        -------
        verdict : str
            "apply", "duplicate" (applied before) or "outdated" (a newer attempt has taken over).

        Raises
        ------
        OutOfStep
            When the partition never registered, or batches in between are missing.
        """
        entry = self.entries.get(partition)
        if entry is None:
            raise OutOfStep(f"partition {partition} must register before it pushes.")
        if attempt < entry.attempt:
            return OUTDATED
        if clock <= entry.clock:
            return DUPLICATE
        if clock - n_batches != entry.clock or clock > entry.last_clock:
            raise OutOfStep(
                f"partition {partition} must push batch {entry.clock + 1} next, of {entry.last_clock};"
                f" got batches {clock - n_batches + 1} to {clock}."
            )
        return APPLY

    def record(self, partition, clock, rows):
        """Note that an admitted push has been applied.

        Parameters
        ----------
        partition, clock : int
            Who pushed, and the last batch covered.
        rows : int
            Training rows covered.
        """
        entry = self.entries[partition]
        entry.clock = clock
        entry.rows += rows
        entry.pushes += 1

    def unfinished(self):
        """List the registered partitions that have batches left.

        Returns
        -------
        partitions : list of int
            In ascending order.
        """
        return sorted(partition for partition, entry in self.entries.items() if entry.clock < entry.last_clock)
