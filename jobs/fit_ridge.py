"""Fit brain encoding models: ``spark-submit jobs/fit_ridge.py --help``."""

import sys

from sparkneuro.cli import main

raise SystemExit(main(["ridge", "fit", *sys.argv[1:]]))
