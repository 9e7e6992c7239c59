"""A program of its own: copy a voxel table by Spark, and tell by which URI Spark's own readers have read it."""

import json
import sys

from sparkneuro.session import start_session, stop_session


def main(path, copy):
    """Copy the table at `path` and print one JSON object."""
    spark = start_session("local[2]", config={"spark.sql.shuffle.partitions": "2"})
    from sparkneuro.data.spark import read_voxel_table, write_voxel_table
    from sparkneuro.data.storage.jvm_path import find_jvm_path
    from sparkneuro.data.voxel_table import VoxelTable

    table = VoxelTable.open(path)
    rows = read_voxel_table(spark, path)
    write_voxel_table(rows.withColumn("copied", rows.series), copy, table, "copied", "z-score", "copied")
    one = rows.where("subject = '01' and block = 1").count()
    print(json.dumps({"uri": find_jvm_path(spark, path)[0], "partitions": rows.rdd.getNumPartitions(), "rows of one": one}))
    stop_session(spark)


if __name__ == "__main__":
    main(*sys.argv[1:])
