# `make help` lists what there is to make.

# Any Python 3.11, 3.12 or 3.13 will do.
PYTHON ?= python3
CORES ?= all
# Workers that tests run in.
WORKERS ?= auto
# One or more of cuda, docs, explore, exports, generic, slurm, test.
EXTRA ?=

# Tests of what depends on pymunk; they run on pymunk 7 too.
SIMULATION_TESTS := $(addprefix tests/unit/test_,simulator.py geometry.py starts.py rollouts.py video.py)

# So that the commands of the rules find the environment.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# Keep packages from elsewhere out (ROS, for example, sets PYTHONPATH).
unexport PYTHONPATH PYTHONHOME

# Snakemake and others keep caches in the home folder, which some containers lack.
ifneq ($(shell test -w "$$HOME" && echo usable),usable)
export HOME := $(CURDIR)/.venv/home
unexport XDG_CACHE_HOME XDG_CONFIG_HOME
endif

.NOTPARALLEL:
.PHONY: model check test test-exports test-slurm test-thorough static docs setup lock clean help

model: .venv/.installed-base  ## make the data, train the model and evaluate it (the default)
	snakemake --cores $(CORES)

check: static  ## the quick part of `make test`: static checks and unit tests, some minutes
	python -m pytest -n $(WORKERS) tests/unit

test: static .venv/pymunk7  ## every check that CI runs
	PYTHONPATH=.venv/pymunk7 PYMUNK=7 python -m pytest -n $(WORKERS) $(SIMULATION_TESTS)
	python -m pytest -n $(WORKERS) --ignore tests/slurm -m 'not thorough'

test-thorough: .venv/.installed-test  ## more cases of what `make test` tests, which take long
	python -m pytest -n $(WORKERS) --ignore tests/slurm -m thorough

test-slurm: .venv/.installed-test .venv/.installed-slurm .venv/.installed-generic  ## the workflow on a real Slurm, which `python3 tests/slurm/cluster.py --install` installs
	python -m pytest -v tests/slurm

EXPORTED := .venv/exported
EXPORTED_DATA := --config '{"num_trajectories": 40, "shard_size": 40, "training": {"batch_size": 64}}'
test-exports: .venv/.installed-test .venv/lerobot/.installed .venv/stable_worldmodel/.installed  ## train other libraries' models on exports, in environments with PyTorch (10 GB)
	rm -rf $(EXPORTED)
	python -m nsf_pipeline generate-data $(EXPORTED_DATA) --output $(EXPORTED)
	for format in lerobot stable_worldmodel stable_worldmodel_lance; do \
	  python -m nsf_pipeline export --format $$format --dataset $(EXPORTED)/dataset.h5 --frames 96 \
	    --output $(EXPORTED)/$$format || exit; \
	done
	.venv/lerobot/bin/python tests/exports/with_lerobot.py $(EXPORTED)/lerobot
	.venv/stable_worldmodel/bin/python tests/exports/with_stable_worldmodel.py \
	  $(EXPORTED)/stable_worldmodel/pusht.h5 $(EXPORTED)/stable_worldmodel_lance/pusht.lance

static: .venv/.installed-test  ## format, lint, types, and imports between layers
	ruff format --check
	ruff check
	@# mypy takes as long as the others together.
	mypy & types=$$!; lint-imports && snakefmt --check Snakefile workflow && snakemake --lint; \
	  others=$$?; wait $$types && exit $$others

docs: .venv/.installed-docs  ## build the documentation site into site/
	NO_MKDOCS_2_WARNING=1 mkdocs build --quiet
	@echo 'Open site/index.html in a browser; `. .venv/bin/activate && mkdocs serve` shows it with search.'

setup: $(addprefix .venv/.installed-,$(or $(EXTRA),base))  ## install into .venv; EXTRA="cuda docs explore exports generic slurm test" adds any of these
	@echo 'Ready: `. .venv/bin/activate` puts snakemake and python on the path.'

clean:  ## remove .venv, and nothing else
	rm -rf .venv

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' Makefile


# One stamp per lock, newer than the lock. Locks agree on versions, so extras can be combined.
PIP_INSTALL := .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps
.venv/.installed-%: requirements/%.txt requirements/build.txt pyproject.toml .venv/bin/python
	@echo 'Installing requirements/$*.txt into .venv; this takes some minutes the first time.'
	@$(PIP_INSTALL) --require-hashes -r requirements/build.txt
	@$(PIP_INSTALL) --require-hashes --no-build-isolation --compile -r requirements/$*.txt
	@$(PIP_INSTALL) --no-build-isolation -e .
	@touch $@

# gym-pusht requires pymunk 6, so pymunk 7 goes into a folder of its own, which PYTHONPATH puts first.
.venv/pymunk7: requirements/pymunk7.txt .venv/.installed-test
	@rm -rf $@
	@$(PIP_INSTALL) --require-hashes --compile --target $@ -r $<
	@touch $@

# An environment of its own for a library that needs PyTorch.
.venv/%/.installed: requirements/%.in .venv/.installed-test
	uv venv --quiet --clear --python .venv/bin/python .venv/$*
	VIRTUAL_ENV=.venv/$* uv pip install --quiet --compile-bytecode -r $<
	@touch $@

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null || \
	  { echo '$(PYTHON) is not Python 3.11, 3.12 or 3.13: install one of these and name it: make PYTHON=python3.11' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo '$(PYTHON) cannot make virtual environments: run `apt install python3-venv` as root, then make again' >&2; exit 1; }
	@$(PYTHON) -m venv --clear .venv || { rm -rf .venv; exit 1; }


# Versions stay as they are where pyproject.toml allows; UPGRADE=1 takes the newest.
# First all extras together, then each lock from what that chose; last the pins in envs/.
LOCKS := base cuda docs explore exports generic slurm test
COMPILE := uv pip compile --quiet --no-config --universal --python-version 3.11 --fork-strategy fewest \
  --generate-hashes --no-emit-index-url --custom-compile-command 'make lock' --overrides requirements/overrides.in
lock: .venv/.installed-test  ## update requirements/*.txt and the pins in envs/; UPGRADE=1 takes newer versions
	@set -e; all=$$(mktemp); trap 'rm -f "$$all"' EXIT; \
	$(if $(UPGRADE),,cat requirements/*.txt > "$$all";) \
	$(COMPILE) --all-extras pyproject.toml requirements/base.in -o "$$all" > /dev/null; \
	cp "$$all" requirements/build.txt; $(COMPILE) requirements/build.in -o requirements/build.txt > /dev/null; \
	$(COMPILE) --no-deps requirements/pymunk7.in -o requirements/pymunk7.txt > /dev/null; \
	for lock in $(LOCKS); do \
	  cp "$$all" requirements/$$lock.txt; \
	  $(COMPILE) $$([ $$lock = base ] || echo --extra $$lock) pyproject.toml requirements/base.in \
	    -o requirements/$$lock.txt > /dev/null; \
	done; \
	sed -nE 's/^([a-z0-9-]+)==([^ ;]+).*/s|- \1==.*|- \1==\2|/p' requirements/exports.txt > "$$all"; \
	sed -i -f "$$all" envs/*.yaml
