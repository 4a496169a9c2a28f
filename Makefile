# Plumbline. Each target sets up what it needs. Settings are given as plain words: `make bench engine=recorded load.rho=0.8`.
# Make takes the quotes out of them: where a setting needs some, give it to ./plumbline, which these targets call.
SHELL := bash
CORE := .envs/core/bin/python
READY := .envs/core/.ready
# pip's local wheels, where a machine has some, serve uv as well; elsewhere uv takes PyTorch's CPU builds from their own index.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
export PYTHONHASHSEED ?= 0
unexport PYTHONDONTWRITEBYTECODE
# Processes that share the tests: one more than two cores, as many tests wait for a server.
PROCESSES ?= 3

.DEFAULT_GOAL := help
TARGETS := help setup simulators bench bench-gpu study report database test lint perf clean
.PHONY: $(TARGETS)

# A word that is neither a target nor KEY=VALUE: said before an engine starts, not after it.
STRAY := $(filter-out $(TARGETS) $(READY) .envs/uv/bin/uv,$(MAKECMDGOALS))
ifneq ($(and $(STRAY),$(filter bench bench-gpu study,$(MAKECMDGOALS))),)
$(error plumbline: $(firstword $(STRAY)) is no setting: give KEY=VALUE, e.g. load.rho=0.8 (./plumbline bench --help shows what there is))
endif

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(READY) ## make the core environment (.envs/core); engines and simulators get theirs when first used

.envs/uv/bin/uv:
	python3 -m venv .envs/uv && .envs/uv/bin/python -m pip install -q uv==0.13.9

$(READY): conf/envs/core.txt .envs/uv/bin/uv
	.envs/uv/bin/uv venv -q --clear --python python3 .envs/core
	.envs/uv/bin/uv pip install -q --compile-bytecode --no-deps --python $(CORE) -r conf/envs/core.txt
	@touch $@

simulators: $(READY) ## fetch the simulators that are git repositories, at their pinned commits, and make their environments
	@$(CORE) -m simulators.foreign.checkout
	@$(CORE) -c "from harness.environment import ensure; print(*map(ensure, ('splitwise_sim', 'distserve_sim', 'vidur')), sep='\n')"

bench: $(READY) ## measure an engine, simulate the same requests, score, report (Hydra overrides follow)
	@./plumbline bench $(MAKEOVERRIDES)

bench-gpu: $(READY) ## measure a campaign's tasks on a GPU box as far as the time reaches: `make bench-gpu until=540`; plan=true only says which
	@./plumbline campaign $(MAKEOVERRIDES); code=$$?; \
	if [ -d $(or $(out),results/campaign) ]; then ./plumbline unpack $(or $(out),results/campaign) || code=$$?; fi; exit $$code

study: $(READY) ## measure a grid of cells, simulate each, score, report, e.g. `make study study=quick`; goes on where it stopped
	@./plumbline study $(MAKEOVERRIDES)

report: $(READY) ## rebuild the database and results/report.html from the stored runs
	@./plumbline database
	@./plumbline report

database: $(READY) ## rebuild results/plumbline.duckdb from the stored runs
	@./plumbline database

test: $(READY) ## all tests, the end-to-end ones on real engines and simulators included
	@$(CORE) -m pytest -n $(PROCESSES)

lint: $(READY) ## ruff and strict mypy
	@$(CORE) -m ruff check .
	@$(CORE) -m ruff format --check .
	@$(CORE) -m mypy

perf: $(READY) ## benchmarks of client, database, report and simulators, and the papers' shapes (not part of the tests)
	@$(CORE) -m pytest tests/perf --benchmark-only -o addopts="-ra --import-mode=importlib -s"

clean: ## remove environments, caches, database and reports (runs, campaigns and studies stay)
	rm -rf .envs .models .cache results/plumbline.duckdb results/report.html results/study.html
