"""A parameter server's whole state on its way to a checkpoint and back."""

import logging

from sparkneuro.errors import FormatError, SparkneuroError
from sparkneuro.train.parameter_server.checkpoint import ShardCheckpoints

log = logging.getLogger(__name__)


class ServerCheckpoints:
    """Saves and restores one shard; a checkpoint that cannot be written is complained of, and training goes on.

    Parameters
    ----------
    settings : ServerSettings
        Of the shard.

    Attributes
    ----------
    version : int or None
        Version of the newest checkpoint.
    complaint : str or None
        Why the last one could not be written.
    """

    def __init__(self, settings):
        self.version = self.complaint = None
        self._model = {"rule": settings.rule, "n_trainable": settings.n_trainable, "n_state": settings.n_state}
        self._shard = settings.shard
        self._folder = settings.checkpoints.folder
        self._files = ShardCheckpoints(settings.checkpoints, settings.shard, settings.n_servers)

    def save(self, version, values, slots, ledger, gate, training_log):
        """Write a checkpoint.

        Parameters
        ----------
        version : int
            Updates so far.
        values : ndarray of shape (n_values,), float32
            Weights and averaged state.
        slots : dict of str to ndarray
            What the update rule remembers.
        ledger : Ledger
            What has been applied.
        gate : WarmUpGate
            How far the warm-up has come.
        training_log : TrainingLog
            Losses and rates.
        """
        arrays = {"values": values, **{f"slot_{name}": array for name, array in slots.items()}}
        record = {**self._model, "ledger": ledger.to_dict(), "warmup_done": gate.steps, "log": training_log.to_dict()}
        try:
            self._files.save(version, arrays, record)
            self.version, self.complaint = version, None
        except SparkneuroError as error:  # a full disk costs safety, not the run
            log.warning("no checkpoint at update %d: %s", version, error)
            self.complaint = f"{error}"

    def load(self, ledger, gate, training_log):
        """Read the newest checkpoint, if there is one, into a server's books.

        Parameters
        ----------
        ledger : Ledger
            Filled.
        gate : WarmUpGate
            Set to where the warm-up stood.
        training_log : TrainingLog
            Filled.

        Returns
        -------
        version : int
            Updates so far; with the next two, or None where there is no checkpoint.
        values : ndarray of shape (n_values,), float32
            Weights and averaged state.
        slots : dict of str to ndarray
            What the update rule remembered.

        Raises
        ------
        FormatError
            When it is of another model.
        """
        arrays, record = self._files.load()
        if record is None:
            return None
        for name, expected in self._model.items():
            if record[name] != expected:
                raise FormatError(
                    f"the checkpoint in {self._folder} must have {name} {expected}; got {record[name]}: it is of another model."
                )
        ledger.restore(record["ledger"])
        training_log.restore(record["log"])
        gate.steps = record["warmup_done"]
        self.version = record["version"]
        log.info("shard %d goes on from its checkpoint at update %d", self._shard, self.version)
        slots = {name.removeprefix("slot_"): array for name, array in arrays.items() if name.startswith("slot_")}
        return self.version, arrays["values"], slots
