# make demo   install into .venv and measure the embedded model's trade-off
# make test   install with the test tools and run the tests
# make check  what CI runs: format, lint, types, tests
# make model  make the embedded model again, from its seed (about 25 minutes on 2 cores; needs torch)

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
NATIVE := $(wildcard native/*.cpp native/*.h)
SOURCE := steercpp cli models tests

.PHONY: demo test check format model clean

demo: $(VENV)/.installed
	$(BIN)/steercpp sweep

test: $(VENV)/.test
	$(BIN)/pytest

check: $(VENV)/.test
	$(BIN)/ruff format --check $(SOURCE)
	$(BIN)/ruff check $(SOURCE)
	$(BIN)/clang-format --dry-run -Werror $(NATIVE)
	$(BIN)/mypy
	$(BIN)/pytest

format: $(VENV)/.test
	$(BIN)/ruff format $(SOURCE)
	$(BIN)/ruff check --fix $(SOURCE)
	$(BIN)/clang-format -i $(NATIVE)

model: $(VENV)/.recipe
	$(BIN)/python -m steercpp.models.recipe --out models

$(VENV)/bin/pip:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip

# The first install compiles llama.cpp, about 5 minutes on 2 cores; pip keeps the wheel.
$(VENV)/.installed: $(VENV)/bin/pip pyproject.toml CMakeLists.txt $(NATIVE)
	@echo "installing; the first time this compiles llama.cpp, about 5 minutes on 2 cores"
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/.test: $(VENV)/.installed
	$(BIN)/pip install --quiet --editable '.[test]'
	touch $@

$(VENV)/.recipe: $(VENV)/.installed
	$(BIN)/pip install --quiet --editable '.[recipe]'
	touch $@

clean:
	rm -rf $(VENV) build
