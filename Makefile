# `make demo` and `make test` need Python >= 3.11 and nothing else; each makes its own virtual environment.

PYTHON ?= python3
# Nothing outside this folder and the user's state folder: no pip cache either.
PIP = PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 .venv/bin/python -m pip install --quiet
SOURCES = asyncjobs tests examples benchmarks templates/project

.PHONY: demo test check format crash chaos bench bench-up bench-worker bench-image posture clean

demo: .venv/local
	.venv/bin/asyncjobs demo

# Each process of the tests would compile all of them again where the person's shell forbids to keep bytecode. Three
# processes on two cores: some tests wait for leases and rollouts, and use no processor meanwhile.
test: export PYTHONDONTWRITEBYTECODE =
test: .venv/dev check
	.venv/bin/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

check: .venv/dev
	.venv/bin/ruff check $(SOURCES)
	.venv/bin/ruff format --check $(SOURCES)
	.venv/bin/mypy

format: .venv/dev
	.venv/bin/ruff check --fix $(SOURCES)
	.venv/bin/ruff format $(SOURCES)

# Every point at which `up` or `down` can be killed, and 20 pairs of `up` at once; `make test` tries one point in 120, and one pair.
crash: .venv/dev
	CRASH_EVERY=1 PAIRS=20 .venv/bin/python -m pytest -n 2 tests/aws/test_crash.py tests/aws/test_neighbours.py

# `make test` has a small one of each; rustc is needed for all but the last.
# Workers killed and paused at random, without and with a tenth of the calls failing; handlers that crash, hang and flood;
# workers told to leave under load; a worker killed before and after each call it makes, twenty times each.
chaos: .venv/dev
	.venv/bin/python tests/chaos/chaos.py
	.venv/bin/python tests/chaos/chaos.py --fault-rate 0.1 --seed 2
	.venv/bin/python tests/chaos/hostile.py
	.venv/bin/python tests/chaos/sigterm.py
	KILL_TIMES=20 .venv/bin/python -m pytest -n 2 tests/aws/test_kill_points.py

bench: .venv/dev
	.venv/bin/python benchmarks/startup.py

bench-up: .venv/dev
	.venv/bin/python benchmarks/up.py

# Needs a Docker engine and docker-registry. BENCH_ARGS="--base IMAGE" names another base image than that of tests/docker.
bench-image: .venv/dev
	PATH="$(CURDIR)/.venv/bin:$$PATH" .venv/bin/python benchmarks/image.py $(BENCH_ARGS)

# Our worker beside others, on a stand-in that is compiled for it: needs rustc, and node for one of the others.
# BENCH_ARGS=--quick takes about a minute and a half, the whole some fifteen.
bench-worker: .venv/dev .venv-rivals/made benchmarks/rivals/node_modules
	.venv/bin/python benchmarks/worker.py $(BENCH_ARGS)

.venv-rivals/made: benchmarks/rivals/requirements.txt
	$(PYTHON) -m venv .venv-rivals
	PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 .venv-rivals/bin/python -m pip install --quiet -r $<
	touch $@

benchmarks/rivals/node_modules: benchmarks/rivals/package-lock.json
	cd benchmarks/rivals && npm ci --no-audit --no-fund
	touch $@

# prowler pins hundreds of packages, so it has an environment of its own, which takes minutes and 2 GB to make.
posture: .venv/dev .venv-prowler/made
	.venv/bin/python tests/posture/run.py .venv-prowler/bin/prowler

.venv-prowler/made:
	$(PYTHON) -m venv .venv-prowler
	PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 .venv-prowler/bin/python -m pip install --quiet 'prowler==5.46.0'
	touch $@

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("asyncjobs needs Python 3.11 or later, and this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv

.venv/local: .venv/bin/python pyproject.toml
	$(PIP) --editable '.[local]'
	touch $@

.venv/dev: .venv/bin/python pyproject.toml
	$(PIP) --editable '.[local,dev]'
	touch $@ .venv/local

clean:
	rm -rf .venv .venv-prowler .venv-rivals benchmarks/rivals/node_modules benchmarks/standin/build
