# make demo   a simulated experiment from nothing to movie and report (needs Python 3.11 or later and make)
# make test   everything that is checked
# make help   all targets

PYTHON ?= python3
CORES ?= 2
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SITE_STAMP := $(VENV)/.installed-docs
SNAKEMAKE := $(BIN)/snakemake
HEAVY := tests/rules tests/workflow tests/slurm
REAL_DATA := ../shared/data/sim
CONFIG_HOME := $(or $(XDG_CONFIG_HOME),$(HOME)/.config)/snakemake

.DEFAULT_GOAL := help
.PHONY: help demo test soak real bench pictures profiles lint format docs site clean install

help: ## show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 18

install: $(STAMP) ## make .venv from requirements.lock

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or later is needed, $(PYTHON) is $$($(PYTHON) --version 2>&1): make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
	  { echo "venv failed: on Debian, apt-get install python3-venv" >&2; exit 1; }
	@echo "Installing into $(VENV) (a minute or two) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

demo: $(STAMP) ## simulate a living sample, reconstruct it, and say where movie and report are
	@PATH="$(abspath $(BIN)):$$PATH" $(SNAKEMAKE) --cores $(CORES)
	@echo
	@$(BIN)/nstm summary results
	@echo
	@echo "movie:  $(abspath results/er_moving/movie.mp4)"
	@echo "report: $(abspath results/report.html)"

test: $(STAMP) lint site ## run all checks and tests
	@.ci/slurm-packages || true
	@.ci/browser-packages || true
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m pytest -x -q $(HEAVY)
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m pytest -x -q -n $(CORES) --dist loadfile $(addprefix --ignore=,$(HEAVY)) tests

soak: $(STAMP) ## damaged files and configs (NSTM_SOAK=600 for more), SLURM under chaos, all of benchmarks/robustness.tsv
	@.ci/slurm-packages || true
	@$(BIN)/python -m pytest -q -m soak tests

lint: $(STAMP) ## formatting, types, layers, workflow
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/snakefmt --check workflow
	@$(BIN)/lint-imports
	@PATH="$(abspath $(BIN)):$$PATH" $(SNAKEMAKE) --lint

format: $(STAMP) ## format Python and Snakemake files
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .
	@$(BIN)/snakefmt workflow

docs: $(STAMP) ## make schemas and config/README.md from the settings
	@$(BIN)/python -m nstm.pipeline.document

$(SITE_STAMP): requirements-docs.lock $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-docs.lock
	@touch $@

site: $(SITE_STAMP) ## make the site of the documents in build/site; a broken link is an error
	@$(BIN)/python -m sphinx -q -W --keep-going -n -c docs -d build/doctrees . build/site
	@echo "site: $(abspath build/site/docs/index.html)"

real: $(STAMP) ## published real recordings, results in real/results
	@if [ -d $(REAL_DATA) ]; then \
	  mkdir -p real && PATH="$(abspath $(BIN)):$$PATH" $(SNAKEMAKE) --cores $(CORES) --directory real \
	    --configfile config/real/config.yaml && \
	  $(BIN)/nstm summary real/results && echo "report: $(abspath real/results/report.html)"; \
	else echo "make real: the recordings are not at $(REAL_DATA) (see config/real/samples.tsv): nothing done"; fi

bench: $(STAMP) ## measured runs (benchmarks/*.py)
	@ls benchmarks/*.py >/dev/null 2>&1 || { echo "there are no benchmarks yet"; exit 1; }
	@for run in $(filter-out %/robustness.py,$(wildcard benchmarks/*.py)); do echo "== $$run"; $(BIN)/python $$run || exit 1; done

pictures: demo ## pictures of all movies, figures and the page, to be looked at, in pictures/
	@.ci/browser-packages || true
	@$(BIN)/python -m tests.pictures results pictures

profiles: ## let `snakemake --profile slurm` (and nstm-local) be found from every folder
	@mkdir -p "$(CONFIG_HOME)"
	@for pair in slurm:slurm local:nstm-local; do \
	  from="$(abspath profiles)/$${pair%%:*}"; to="$(CONFIG_HOME)/$${pair##*:}"; \
	  if [ -e "$$to" ] && [ ! -L "$$to" ]; then echo "$$to is there already and is left as it is" >&2; \
	  else ln -sfn "$$from" "$$to" && echo "$$to -> $$from"; fi; done

clean: ## remove what tools left behind (not results, not .venv)
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist
	@find nstm tests workflow -name __pycache__ -type d -prune -exec rm -rf {} +
