"""Entry of ``sparkneuro index`` for spark-submit."""

import sys

from sparkneuro.cli import main

raise SystemExit(main(["index", *sys.argv[1:]]))
