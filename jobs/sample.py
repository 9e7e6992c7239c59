"""Entry of ``sparkneuro sample`` for spark-submit."""

import sys

from sparkneuro.cli import main

raise SystemExit(main(["sample", *sys.argv[1:]]))
