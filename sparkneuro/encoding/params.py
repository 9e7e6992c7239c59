"""The settings of an encoding model as Spark ML params."""

from dataclasses import fields

from pyspark.ml.param import Param, Params, TypeConverters

from sparkneuro.encoding.encoder_settings import EncoderSettings


class EncoderParams(Params):
    """The fields of `EncoderSettings`, for an estimator and the model that it makes."""

    features = Param(Params._dummy(), "features", "feature tables, one a feature space", TypeConverters.toListString)
    output = Param(Params._dummy(), "output", "folder of the model, on a filesystem all machines share", TypeConverters.toString)
    delays = Param(Params._dummy(), "delays", "scans; each feature enters once a delay", TypeConverters.toListInt)
    alphas = Param(Params._dummy(), "alphas", "penalties to choose from, ascending", TypeConverters.toListFloat)
    criterion = Param(Params._dummy(), "criterion", "loo, gcv, leave_one_run_out or kfold", TypeConverters.toString)
    alphaPerTarget = Param(Params._dummy(), "alphaPerTarget", "whether each target has its own", TypeConverters.toBoolean)
    search = Param(Params._dummy(), "search", "climb or exhaustive", TypeConverters.toString)
    nFolds = Param(Params._dummy(), "nFolds", "folds of kfold", TypeConverters.toInt)
    scoring = Param(Params._dummy(), "scoring", "l2 or correlation, for kfold", TypeConverters.toString)
    standardize = Param(Params._dummy(), "standardize", "whether features are z-scored", TypeConverters.toBoolean)
    nGammas = Param(Params._dummy(), "nGammas", "weightings of feature spaces that are tried", TypeConverters.toInt)
    split = Param(Params._dummy(), "split", "what is held out: runs, random or none", TypeConverters.toString)
    testRuns = Param(Params._dummy(), "testRuns", "names of held-out runs", TypeConverters.toListString)
    testFraction = Param(Params._dummy(), "testFraction", "share that is held out", TypeConverters.toFloat)
    coefficients = Param(Params._dummy(), "coefficients", "whether coefficients are kept", TypeConverters.toBoolean)
    predictions = Param(Params._dummy(), "predictions", "whether predictions are kept", TypeConverters.toBoolean)
    seed = Param(Params._dummy(), "seed", "seed of what is drawn", TypeConverters.toInt)
    progress = Param(Params._dummy(), "progress", "whether bars are shown", TypeConverters.toBoolean)

    def settings(self):
        """Gather the params as settings.

        Returns
        -------
        settings : EncoderSettings
            Defaults where a param is not set.
        """
        values = {}
        for field in fields(EncoderSettings):
            name = camel(field.name)
            if self.isDefined(name):
                value = self.getOrDefault(name)
                values[field.name] = tuple(value) if isinstance(value, list) else value
        return EncoderSettings(**{"features": (), "output": "", **values})


def camel(name):
    """Write a name as Spark does.

    Parameters
    ----------
    name : str
        With underscores; ``n_gammas``.

    Returns
    -------
    name : str
        ``nGammas``.

    Examples
    --------
    >>> camel("n_gammas")
    'nGammas'
    """
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
