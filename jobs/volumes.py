"""Entry of ``sparkneuro volumes`` for spark-submit."""

import sys

from sparkneuro.cli import main

raise SystemExit(main(["volumes", *sys.argv[1:]]))
