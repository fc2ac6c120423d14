# Two commands on a fresh machine: `make demo` and `make test`. Both make the environment first.
PYTHON ?= python3
VENV ?= .venv
DEMO ?= demo
READY := $(VENV)/.ready
# Both start hundreds of processes. If Python may not store compiled files, each process compiles vclimb again.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test lint clean

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "vclimb needs Python 3.11 or newer; $(PYTHON) is older. Set one: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --upgrade pip
	$(VENV)/bin/python -m pip install --quiet --editable '.[dev]'
	@touch $@

# The whole journey on a drawn data set: prepare, inspect, train over three tasks, study.
demo: $(READY)
	$(VENV)/bin/vclimb synth $(DEMO)/videos
	$(VENV)/bin/vclimb prepare $(DEMO)/videos --out $(DEMO)/shards/synth
	$(VENV)/bin/vclimb verify $(DEMO)/shards/synth --decode
	$(VENV)/bin/vclimb inspect $(DEMO)/shards/synth --contact-sheet $(DEMO)/contact-sheet.png
	$(VENV)/bin/vclimb train $(DEMO)/shards/synth --config docs/demo/run.toml --method icarl --budget 48v --out $(DEMO)/run --resume
	$(VENV)/bin/vclimb show $(DEMO)/run --png $(DEMO)/run.png
	$(VENV)/bin/vclimb study run docs/demo/study.toml --data $(DEMO)/shards/synth --out $(DEMO)/study --jobs 2
	$(VENV)/bin/vclimb study report $(DEMO)/study

test: $(READY)
	$(VENV)/bin/python -m pytest -n 2 --dist loadfile

lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

clean:
	rm -rf $(VENV) $(DEMO)
