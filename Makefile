# Every target sets up what it needs in .venv. Python 3.11 or newer; choose one with PYTHON=python3.12.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
DEMO_DATA := data/elpv
DEMO_RUN := runs/demo
# one thread a process: the cores are shared out among the processes, not within them
PARALLEL := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup demo demo-regress test test-full lint format docs clean

help:
	@echo "make demo       train on 2,624 real photographs of solar cells (about 10 minutes) and write a report"
	@echo "make demo-regress  the same photographs: how likely each is to be defective (about 6 minutes)"
	@echo "make test       set up and run the quick tests"
	@echo "make test-full  all tests, the slow ones too"
	@echo "make lint       ruff and mypy        make format   ruff format"
	@echo "make docs       docs/python.md from the docstrings"
	@echo "make setup      only set up .venv    make clean    remove .venv and caches (runs/ and data/ stay)"

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@echo "== setting up $(VENV) (a few minutes the first time)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; try: make clean && make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	@PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $(STAMP)
	@echo "== ready: $(BIN)/convnext --help"

demo: $(STAMP)
	@echo "== 1/5 the data: 2,624 photographs of solar cells (elpv-dataset, CC BY-NC-SA 4.0)"
	$(BIN)/convnext sample elpv $(DEMO_DATA)
	@echo "== 2/5 training from scratch, about 9 minutes"
	$(BIN)/convnext train $(DEMO_DATA)/data.csv recipes/elpv.toml --out $(DEMO_RUN) --overwrite
	@echo "== 3/5 judging the saved run again, in a process of its own"
	$(BIN)/convnext evaluate $(DEMO_RUN)
	@echo "== 4/5 naming a few files"
	$(BIN)/convnext predict $(DEMO_RUN) '$(DEMO_DATA)/images/cell1?07.png' --top 2
	@echo "== 5/5 the report"
	@$(BIN)/convnext report $(DEMO_RUN)
	@echo "Open $(CURDIR)/$(DEMO_RUN)/report.html in a browser."

demo-regress: $(STAMP)
	@echo "== 1/4 the data: 2,624 photographs of solar cells, each with a probability of being defective"
	$(BIN)/convnext sample elpv $(DEMO_DATA)
	@echo "== 2/4 training from scratch, about 5 minutes"
	$(BIN)/convnext train $(DEMO_DATA)/data.csv regress/elpv --out $(DEMO_RUN)-regress --overwrite
	@echo "== 3/4 judging the saved run again, in a process of its own"
	$(BIN)/convnext evaluate $(DEMO_RUN)-regress
	@echo "== 4/4 answering for a few files"
	$(BIN)/convnext predict $(DEMO_RUN)-regress '$(DEMO_DATA)/images/cell1?07.png'
	@echo "Open $(CURDIR)/$(DEMO_RUN)-regress/report.html in a browser."

test: $(STAMP)
	@echo "== quick tests, a process a core"
	$(PARALLEL) -m "not full"

test-full: $(STAMP) lint
	@echo "== all tests; about 20 minutes on 2 cores"
	$(PARALLEL)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(STAMP)
	$(BIN)/python -m convnext.reference > docs/python.md

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache build dist
	find src tests -name __pycache__ -type d -exec rm -rf {} +
