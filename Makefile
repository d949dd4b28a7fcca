# What a newcomer needs: `make demo`, `make test`. Only Python and make are assumed on the PATH.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install demo play test test-all lint format bench docs clean anew

help: ## show this list
	@$(PYTHON) -c 'import re; print(*(f"make {n:9} {t}" for n, t in re.findall(r"^([a-z-]+):.*?## (.*)", open("Makefile").read(), re.M)), sep="\n")'

install: $(STAMP) ## make .venv, for a CPU; a GPU: EXTRA=cuda12 or cuda13; no CUDA: TORCH_INDEX=URL

demo: $(STAMP) ## sweep on this machine's CPU, 15 min at most; again: make demo ARGS="name=demo2"
	@$(BIN)/python -m booster_ray.tune tune_configs/demo.yaml $(ARGS)

play: $(STAMP) ## policies/striker in the official environment: scores, and a video of each task
	@$(BIN)/python -m booster_ray.evaluate policies/striker --world official --episodes 20 --seed 0 --video --output results/play $(ARGS)

test: $(STAMP) ## the tests, without the slow ones, on two cores; ARGS go to pytest
	@$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

test-all: $(STAMP) ## every test
	@$(BIN)/python -m pytest -q -m "" $(ARGS)

lint: $(STAMP) ## ruff, mypy and import-linter; changes nothing
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy booster_ray
	@$(BIN)/lint-imports

format: $(STAMP) ## put the code into the house's format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(STAMP) ## run every benchmark of speed (benchmarks/*.py)
	@for file in benchmarks/*.py; do \
		[ -e "$$file" ] || { echo "no benchmarks yet"; break; }; \
		echo "== $$file"; $(BIN)/python "$$file" $(ARGS) || exit 1; \
	done

docs: $(STAMP) ## the docs site, into build/site; warnings are errors
	@NO_MKDOCS_2_WARNING=1 PYTHONPATH=. $(BIN)/mkdocs build --quiet $(ARGS)

clean: ## remove .venv and caches; results/ stays
	rm -rf $(VENV) build .cache .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache *.egg-info
	find booster_ray tests -name __pycache__ -prune -exec rm -rf {} +

# With a choice of its own, always; without one, as it was chosen last.
$(STAMP): pyproject.toml constraints.txt requirements/install.py $(wildcard requirements/*.lock) $(if $(EXTRA)$(TORCH_INDEX),anew)
	@$(PYTHON) requirements/install.py $(VENV) $(if $(EXTRA),--extra $(EXTRA)) $(if $(TORCH_INDEX),--torch-index $(TORCH_INDEX))
