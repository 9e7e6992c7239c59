"""Entry of ``sparkneuro report`` for spark-submit."""

import sys

from sparkneuro.cli import main

raise SystemExit(main(["report", *sys.argv[1:]]))
