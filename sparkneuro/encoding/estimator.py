"""Ridge encoding models as a `pyspark.ml` estimator."""

from functools import partial

from pyspark import keyword_only
from pyspark.ml import Estimator
from pyspark.ml.util import DefaultParamsReadable, DefaultParamsWritable

from sparkneuro.data.spark import count_slots
from sparkneuro.encoding.encoder_model import RidgeEncoderModel
from sparkneuro.encoding.fit_encoder import fit_encoder
from sparkneuro.encoding.params import EncoderParams
from sparkneuro.encoding.spark import collect_blocks, run_or_raise
from sparkneuro.errors import SettingsError


class RidgeEncoder(Estimator, EncoderParams, DefaultParamsReadable, DefaultParamsWritable):
    """Ridge regressions of every voxel on features of the stimulus.

    The features are decomposed once, on the driver; their singular vectors are files that every task maps into memory. Tasks
    read their blocks of targets as they lie on disk and write coefficients, scores and predictions themselves. Over the cluster
    move, for one penalty for all targets, ``n_scans^2`` or ``n_scans n_alphas + rank^2`` numbers a task slot; nothing else.
    The result depends on neither the number of workers nor of blocks.

    Parameters
    ----------
    features : list of str
        Feature tables, one a feature space.
    output : str
        Folder of the model, on a filesystem that all machines share.
    delays, alphas, criterion, alphaPerTarget, search, nFolds, scoring, standardize : object
        See `EncoderSettings`.
    nGammas : int
        Weightings of the feature spaces that are tried (banded ridge).
    split, testRuns, testFraction, coefficients, predictions, seed : object
        See `EncoderSettings`.
    progress : bool
        Whether bars are shown; on a terminal only when absent.
    """

    @keyword_only
    def __init__(
        self, *, features=None, output=None, delays=None, alphas=None, criterion=None, alphaPerTarget=None, search=None,
        nFolds=None, scoring=None, standardize=None, nGammas=None, split=None, testRuns=None, testFraction=None,
        coefficients=None, predictions=None, seed=None, progress=None,
    ):  # fmt: skip
        super().__init__()
        self._set(**{name: value for name, value in self._input_kwargs.items() if value is not None})

    def _fit(self, dataset):
        settings = self.settings()
        if not settings.output:
            raise SettingsError("output must name the folder of the model; got none.")
        settings.check()
        table, blocks = collect_blocks(dataset)
        spark = dataset.sparkSession
        progress = self.getOrDefault("progress") if self.isDefined("progress") else None
        record = fit_encoder(table, blocks, settings, partial(run_or_raise, spark), count_slots(spark), progress)
        return self._copyValues(RidgeEncoderModel(path=record["settings"]["output"]))
