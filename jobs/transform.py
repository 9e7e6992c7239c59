"""Write the hidden features of a voxel table: ``spark-submit jobs/transform.py --help``."""

import sys

from sparkneuro.cli import main

raise SystemExit(main(["transform", *sys.argv[1:]]))
