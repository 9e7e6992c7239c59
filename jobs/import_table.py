"""Entry of ``sparkneuro import`` for spark-submit."""

import sys

from sparkneuro.cli import main

raise SystemExit(main(["import", *sys.argv[1:]]))
