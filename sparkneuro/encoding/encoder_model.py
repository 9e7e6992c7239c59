"""A fitted encoding model as a `pyspark.ml` transformer: a folder, and what it predicts."""

from pyspark.ml import Model
from pyspark.ml.util import MLReadable, MLReader, MLWritable, MLWriter

from sparkneuro.data import store
from sparkneuro.encoding.encoder_record import RECORD, WORK, read_record
from sparkneuro.encoding.params import EncoderParams, camel
from sparkneuro.encoding.predict import plan_prediction
from sparkneuro.encoding.spark import PREDICTED, bind_prediction
from sparkneuro.errors import SettingsError


class RidgeEncoderModel(Model, EncoderParams, MLWritable, MLReadable):
    """Coefficients, penalties and scores of every voxel, in a folder.

    Parameters
    ----------
    path : str
        Path or URI of the folder.
    """

    def __init__(self, path=None):
        super().__init__()
        self.path = path

    @property
    def record(self):
        """What was fitted, with which penalties, and how well it predicts: a dict."""
        return read_record(self.path)

    def write(self):
        """Return a writer: ``model.write().overwrite().save(path)``.

        Returns
        -------
        writer : pyspark.ml.util.MLWriter
            Copies the folder.
        """
        return EncoderWriter(self)

    @classmethod
    def read(cls):
        """Return a reader: ``RidgeEncoderModel.load(path)``.

        Returns
        -------
        reader : pyspark.ml.util.MLReader
            Reads the folder's record.
        """
        return EncoderReader()

    def _transform(self, dataset):
        members = plan_prediction(self.path, self.getOrDefault("features") if self.isDefined("features") else ())
        if not {"subject", "block"} <= set(dataset.columns):
            raise SettingsError(f"the rows must be blocks of targets, see read_target_blocks; got {', '.join(dataset.columns)}.")
        return dataset.select("subject", "block").mapInArrow(bind_prediction(self.path, members), PREDICTED)


class EncoderWriter(MLWriter):
    """Copies a model's folder.

    Parameters
    ----------
    model : RidgeEncoderModel
        The model.
    """

    def __init__(self, model):
        super().__init__()
        self._model = model

    def save(self, path):
        """Copy the folder.

        Parameters
        ----------
        path : str
            Where, on any filesystem.
        """
        if store.exists(path) and store.list_files(path, recursive=True):
            if not self.shouldOverwrite:
                raise SettingsError(f"{path} holds something already; write().overwrite().save(path) replaces it.")
            store.delete(path)
        # The record last: a copy that was interrupted is no model.
        names = [name for name in store.list_files(self._model.path, recursive=True) if name != RECORD]
        for name in [*names, RECORD]:
            if not name.startswith(WORK):
                with store.open_stream(store.join(self._model.path, name)) as source:
                    with store.open_replacement(store.join(path, name)) as sink:
                        while piece := source.read(1 << 24):
                            sink.write(piece)


class EncoderReader(MLReader):
    """Reads a model's record."""

    def load(self, path):
        """Read a model.

        Parameters
        ----------
        path : str
            Where it is.

        Returns
        -------
        model : RidgeEncoderModel
            The model; its arrays are read when they are needed.
        """
        settings = read_record(path)["settings"]
        model = RidgeEncoderModel(path=str(path))
        return model._set(**{camel(name): value for name, value in settings.items() if value is not None and name != "output"})
