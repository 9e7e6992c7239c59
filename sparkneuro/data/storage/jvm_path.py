"""By which URI, and with which properties of Hadoop, Spark's JVM reads what we read."""

import logging

from sparkneuro.data import store
from sparkneuro.data.storage.filesystems import scheme_of
from sparkneuro.data.storage.s3_settings import hadoop_options, is_anonymous
from sparkneuro.errors import require

LOG = logging.getLogger(__name__)
_PATTERN_LETTERS = set("*?[]{}\\")


def find_jvm_path(spark, path):
    """Find the URI of a folder for Spark's own readers.

    Parameters
    ----------
    spark : pyspark.sql.SparkSession
        The session.
    path : str
        Plain path or URI.

    Returns
    -------
    uri : str or None
        A plain path becomes ``file://``, whatever the cluster's default filesystem is; ``s3://`` stays where the cluster knows
        it, as EMR does, and else becomes ``s3a://``. None where Spark cannot read it.
    options : dict of str to str
        Properties of Hadoop that the reader needs.
    """
    if _PATTERN_LETTERS & set(path):
        return None, {}  # Spark would take the name for a pattern
    if scheme_of(path) in ("s3", "s3a"):
        return _find_bucket(spark, path.partition("://")[2].rstrip("/"))
    return (path.rstrip("/") if scheme_of(path) == "hdfs" else f"file://{store.locate(path)[1].rstrip('/')}"), {}


def _find_bucket(spark, inner):
    if is_anonymous():
        return None, {}  # Hadoop says this by the name of a class, which changes with its version
    options = hadoop_options()
    for scheme in ("s3", "s3a"):
        if _opens(spark, f"{scheme}://{inner}", options):
            return f"{scheme}://{inner}", options
    return None, {}


def _opens(spark, uri, options):
    """Whether Hadoop has a filesystem for a bucket, and can start it: versions of jars that do not go together show here."""
    java_errors = (require("py4j.protocol", "spark").Py4JJavaError, require("pyspark.errors", "spark").PySparkException)
    hadoop = spark.sparkContext._jvm.org.apache.hadoop
    settings = hadoop.conf.Configuration(spark.sparkContext._jsc.hadoopConfiguration())
    for name, value in options.items():
        settings.set(name, value)
    try:
        hadoop.fs.Path(uri).getFileSystem(settings)
        return True
    except java_errors as error:
        LOG.info("Spark's own readers do not open %s: %s", uri, str(getattr(error, "java_exception", error)).partition("\n")[0])
        return False
