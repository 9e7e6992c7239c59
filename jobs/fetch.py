"""Entry of ``sparkneuro fetch`` for spark-submit."""

import sys

from sparkneuro.cli import main

raise SystemExit(main(["fetch", *sys.argv[1:]]))
