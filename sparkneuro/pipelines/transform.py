"""Write the hidden features of every row of a voxel table as a voxel table of the same form.

The model is loaded once a Python worker; rows are not moved between machines. Every later stage reads features and raw
series alike.
"""

from dataclasses import dataclass

from sparkneuro.data.voxel_table import VoxelTable
from sparkneuro.pipelines.settings import argument, option
from sparkneuro.train.model_folder import read_record


@dataclass(frozen=True)
class Settings:
    """Settings of ``sparkneuro transform``; see each field's help."""

    table: str = argument("voxel table to transform")
    model: str = option("dca.model", "folder of a trained model")
    output: str = option("features.voxels", "folder of the new voxel table")


def needs_spark(settings):
    """Say whether a Spark session is needed: always, once table and model are known to be ones.

    Parameters
    ----------
    settings : Settings
        The job's settings.

    Returns
    -------
    needed : bool
        True.

    Raises
    ------
    FormatError
        When the table or the model is not one.
    """
    VoxelTable.open(settings.table)
    read_record(settings.model)
    return True


def run(settings, spark):
    """Transform the table.

    Parameters
    ----------
    settings : Settings
        The job's settings.
    spark : pyspark.sql.SparkSession
        The session.

    Returns
    -------
    result : dict
        Where the features are, and how many.

    Raises
    ------
    FormatError
        When the table or the model is not one.
    """
    from sparkneuro.data.spark import read_voxel_table, write_voxel_table
    from sparkneuro.train.trained_model import DownpourModel

    table = VoxelTable.open(settings.table)
    model = DownpourModel.load(settings.model)
    frame = model.transform(read_voxel_table(spark, settings.table))
    step = f"encoder of {settings.model}"
    features = write_voxel_table(frame, settings.output, like=table, column="features", units="feature", step=step)
    return {
        "features": features.path,
        "series": f"{sum(run.n_voxels for run in features.runs):,}",
        "features of each": f"{features.runs[0].n_scans}",
    }
