"""Entry of ``sparkneuro preprocess`` for spark-submit."""

import sys

from sparkneuro.cli import main

raise SystemExit(main(["preprocess", *sys.argv[1:]]))
