# make demo   install into .venv and run the main job on real BOLD
# make test   install into .venv and run the tests
#
# PYTHON=/path/to/python3 chooses the interpreter of .venv; without it the first of these that is 3.11 or later is taken.
CANDIDATES = python3 python3.13 python3.12 python3.11 python
VENV = .venv
INSTALLED = $(VENV)/.installed

SEEDS = 30
FIRST = 0

.PHONY: demo test test-quick test-slow test-storage chaos lint bench clean help
.DEFAULT_GOAL = help

help:
	@echo "make demo        install, then run the main job from BOLD to report (in .demo/)"
	@echo "make test        install, then run the tests (test-quick: only those without Spark and servers; test-slow: the long ones)"
	@echo "make test-storage    install, fetch servers of HDFS and S3A once (some 250 MB), then test jobs on HDFS and S3"
	@echo "make chaos       trainings under random faults: SEEDS=30 of them, from FIRST=0 on"
	@echo "make lint        ruff"
	@echo "make bench       the programs of benchmarks/"
	@echo "make clean       remove what make has made"

demo: $(INSTALLED)
	@$(VENV)/bin/sparkneuro demo

test: test-quick
	$(VENV)/bin/python -m pytest -q -m "(engine or processes) and not slow and not storage"

test-quick: $(INSTALLED)
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(VENV)/bin/python -m pytest -q -n 2 -m "not engine and not processes and not slow and not storage"

test-slow: $(INSTALLED)
	$(VENV)/bin/python -m pytest -q -m "slow"

test-storage: $(INSTALLED)
	PYTHONPATH=. $(VENV)/bin/python tests/storage/downloads.py
	$(VENV)/bin/python -m pytest -q -m "storage" tests/storage

chaos: $(INSTALLED)
	$(VENV)/bin/python tests/train/chaos.py --seeds $(SEEDS) --first $(FIRST)

lint: $(INSTALLED)
	$(VENV)/bin/ruff check

bench: $(INSTALLED)
	@set -e; for program in $(filter-out benchmarks/light_workers.py,$(wildcard benchmarks/*.py)); do echo "== $$program"; $(VENV)/bin/python $$program; done

clean:
	rm -rf $(VENV) .demo build dist *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is written last: an installation that was interrupted is taken up again. A JRE is added only where there is no
# Java that Spark can use.
$(INSTALLED): setup.py pyproject.toml constraints.txt
	@set -e; \
	chosen=; \
	for candidate in $(or $(PYTHON),$(CANDIDATES)); do \
	  if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then chosen=$$candidate; break; fi; \
	done; \
	if [ -z "$$chosen" ]; then \
	  echo "sparkneuro needs Python 3.11 or later, and none of these is: $(or $(PYTHON),$(CANDIDATES)). Name one: make PYTHON=/path/to/python3 ..." >&2; \
	  exit 1; \
	fi; \
	if ! "$$chosen" -c 'import ensurepip, venv' 2>/dev/null; then \
	  echo "$$chosen cannot make virtual environments; install its venv package (Debian and Ubuntu: apt install python3-venv)." >&2; \
	  exit 1; \
	fi; \
	[ -x $(VENV)/bin/python ] || { echo "Making $(VENV) with $$("$$chosen" -V)"; "$$chosen" -m venv $(VENV); }; \
	echo "Installing; this takes a few minutes the first time"; \
	$(VENV)/bin/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[all]'; \
	if ! $(VENV)/bin/python -c 'from sparkneuro.java import find_java; find_java()' 2>/dev/null; then \
	  echo "No Java 17 or 21 here: installing one into $(VENV)"; \
	  $(VENV)/bin/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[jre]'; \
	fi; \
	touch $@
