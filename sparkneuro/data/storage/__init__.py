"""Files wherever they are: local, S3, HDFS; whole or absent, locked, listed, checked."""
