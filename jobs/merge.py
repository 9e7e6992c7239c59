"""Entry of ``sparkneuro merge`` for spark-submit."""

import sys

from sparkneuro.cli import main

raise SystemExit(main(["merge", *sys.argv[1:]]))
