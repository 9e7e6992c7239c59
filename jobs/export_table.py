"""Entry of ``sparkneuro export`` for spark-submit."""

import sys

from sparkneuro.cli import main

raise SystemExit(main(["export", *sys.argv[1:]]))
