"""Entry of ``sparkneuro ingest`` for spark-submit."""

import sys

from sparkneuro.cli import main

raise SystemExit(main(["ingest", *sys.argv[1:]]))
