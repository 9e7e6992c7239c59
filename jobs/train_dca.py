"""Train the autoencoder: ``spark-submit jobs/train_dca.py --help``."""

import sys

from sparkneuro.cli import main

raise SystemExit(main(["train", "dca", *sys.argv[1:]]))
