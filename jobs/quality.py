"""Entry of ``sparkneuro quality`` for spark-submit."""

import sys

from sparkneuro.cli import main

raise SystemExit(main(["quality", *sys.argv[1:]]))
