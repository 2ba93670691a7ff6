# Every target makes .venv when it is missing and reinstalls only when pyproject.toml or constraints.txt changed. What tests need
# besides is installed by the first of them.
# Variables of `make sweep`: STUDY TRIALS EPOCHS HOURS DATASET SEED SET STORED NEW_SOURCE, as in `sweep run --help`; and of it and `make confirm`:
# WORKERS DEVICE EXECUTOR CPUS_PER_TRIAL GPUS_PER_TRIAL TRIALS_PER_WORKER.
# Variables of `make baselines`: ONLY SEEDS EPOCHS DATASET PROTOCOL POPULATION DEVICE, as in `sweep baselines --help`.
# Variables of `make confirm`: STUDY TOP SEEDS FINAL UNTIL_DECIDED MOST PLAN, as in `sweep confirm --help`. Of `make report`: STUDY OUTPUT.
# Variables of `make explain`: RUN STUDY DIGIT FEATURE AGAINST ONLY OUTPUT DEVICE, as in `sweep explain --help`.
# Variables of `make faults`: FAULTS SEED RESULTS. Of `make fuzz`: TARGETS SECONDS.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.installed
TESTED := $(VENV)/.installed-for-tests
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable

option = $(if $($(1)),--$(2) $($(1)))
flag   = $(if $(filter-out 0,$($(1))),--$(2))
CREW    = $(call option,EXECUTOR,executor) $(call option,WORKERS,workers) $(call option,DEVICE,device) \
          $(call option,CPUS_PER_TRIAL,cpus-per-trial) \
          $(call option,GPUS_PER_TRIAL,gpus-per-trial) $(call option,TRIALS_PER_WORKER,trials-per-worker)
OPTIONS = $(call option,TRIALS,trials) $(call option,EPOCHS,epochs) $(call option,HOURS,hours) \
          $(call option,DATASET,dataset) $(call option,SEED,seed) $(foreach pair,$(SET),--set $(pair)) $(call flag,STORED,stored) $(call flag,NEW_SOURCE,new-source) $(CREW)

BASELINES = $(foreach name,$(ONLY),--only $(name)) $(call option,SEEDS,seeds) $(call option,EPOCHS,epochs) \
            $(call option,DATASET,dataset) $(call option,PROTOCOL,protocol) $(call option,DEVICE,device) \
            $(call option,POPULATION,population)

EXPLAIN = $(call option,STUDY,study) $(call option,DIGIT,digit) $(call option,FEATURE,feature) $(call option,AGAINST,against) \
          $(foreach figure,$(ONLY),--only $(figure)) $(call option,OUTPUT,output) $(call option,DEVICE,device)
RUN ?= best

.DEFAULT_GOAL := help
FAULT_CAMPAIGN = $(call option,FAULTS,faults) $(call option,SEED,seed) $(if $(RESULTS),--results $(RESULTS),--page docs/reliability.md)
TARGETS ?= study idx npz archive photo state command run_id
SECONDS ?= 60

.PHONY: help setup sweep status baselines confirm report explain best ui cluster-demo dashboard test test-fast test-long lint bench faults fuzz audit clean

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  Variables of make sweep: STUDY TRIALS EPOCHS HOURS WORKERS DATASET DEVICE SEED SET STORED NEW_SOURCE EXECUTOR"
	@echo "  Variables of make baselines: ONLY SEEDS EPOCHS DATASET PROTOCOL POPULATION DEVICE"

setup: $(READY) ## Make .venv and install what a sweep needs

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $(PYTHON) is older than 3.11: set PYTHON=python3.11 or newer"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) .
	@touch $@

$(TESTED): $(READY)
	$(INSTALL) ".[dev]"
	@touch $@

sweep: $(READY) ## Run a study, or resume it (STUDY=lean_cnn)
	@$(BIN)/sweep run $(STUDY) $(OPTIONS)

status: $(READY) ## Say of every study how far it is, and who trains it
	@$(BIN)/sweep status $(STUDY)

baselines: $(READY) ## Train every published recipe from several seeds (ONLY="softmax lean_cnn" SEEDS=3), or resume
	@$(BIN)/sweep baselines $(BASELINES)

confirm: $(READY) ## Train the best configurations again from fresh seeds, for a verdict (STUDY=the latest TOP=2 SEEDS=5 FINAL=1)
	@$(BIN)/sweep confirm $(STUDY) $(call option,TOP,top) $(call option,SEEDS,seeds) $(call flag,FINAL,final) \
		$(call option,UNTIL_DECIDED,until-decided) $(call option,MOST,most) $(call flag,PLAN,plan) $(CREW)

report: $(READY) ## Write the report: a verdict on every target, and the numbers behind it (STUDY=the latest)
	@$(BIN)/sweep report $(STUDY) $(call option,OUTPUT,output)

best: $(READY) ## Print the leaderboard against the published accuracies (STUDY=the latest)
	@$(BIN)/sweep best $(STUDY)

explain: $(READY) ## Draw what is inside a trained model (RUN=best STUDY=the latest DIGIT=7)
	@$(BIN)/sweep explain $(RUN) $(EXPLAIN)

ui: $(READY) ## Open the MLflow UI on http://127.0.0.1:5000
	@$(BIN)/sweep ui

cluster-demo: $(TESTED) ## Run a study on a small cluster on this machine, and kill one of its nodes half-way (needs PostgreSQL)
	@$(BIN)/python -m deploy.demo

dashboard: $(READY) ## Open the Optuna dashboard on http://127.0.0.1:8080 (STUDY=the latest)
	@$(BIN)/sweep dashboard $(STUDY)

test: $(TESTED) ## Run the tests of every promise; the ten slowest are listed
	$(BIN)/python -m pytest -n 3 --dist worksteal --durations=10 -m "not long"

test-fast: $(TESTED) ## Run the quick tests
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow and not long"

test-long: $(TESTED) ## Run what takes many minutes: clusters, populations, other backends, the wheel
	$(BIN)/python -m pytest -n 2 --dist worksteal -m long

lint: $(TESTED) ## Check style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(READY) ## Measure this project beside what people use today, and write docs/benchmarks.md (hours on an idle machine)
	$(INSTALL) ".[bench]"
	$(BIN)/python -m benchmarks.peers short
	$(BIN)/python -m benchmarks.peers lean
	$(BIN)/python -m benchmarks.feeding
	$(BIN)/python -m benchmarks.own_data memory index speed
	$(BIN)/python -m benchmarks.throughput
	KERAS_BACKEND=jax $(BIN)/python -m benchmarks.population
	$(BIN)/python -m benchmarks.history
	$(BIN)/python -m benchmarks.strategies record
	$(BIN)/python -m benchmarks.strategies
	$(BIN)/python -m benchmarks.strategies real
	$(BIN)/python -m benchmarks.page

faults: $(READY) ## Break real sweeps at random instants, and look whether anything is lost (FAULTS=200 RESULTS=a new file)
	@$(BIN)/python -m benchmarks.faults $(FAULT_CAMPAIGN)

fuzz: $(TESTED) ## Fuzz what is read from outside, guided by coverage (SECONDS=60 each)
	$(INSTALL) ".[fuzz]"
	for target in $(TARGETS); do MLRUNS_DIR= MNIST_DIR= $(BIN)/python -m tests.fuzz $$target --seconds $(SECONDS) || exit 1; done

audit: $(READY) ## Ask the advisory database about every pinned version
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[audit]"
	$(BIN)/pip-audit --requirement constraints.txt --no-deps --disable-pip

clean: ## Delete .venv and caches, never results
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -not -path './mlruns/*' -prune -exec rm -rf {} +
