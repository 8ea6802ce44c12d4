# make demo   install into .venv and measure the embedded model's trade-off
# make test   install with the test tools and run the tests
# make check  what CI runs: format, lint, types, tests
# make model  make the embedded model again, from its seed (about 25 minutes on 2 cores; needs torch)

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
NATIVE := $(wildcard native/*.cpp native/*.h)
SOURCE := steercpp cli models tests
LLAMA  := $(shell sed -n 's/.*"\(llama-cpp-python==[^"]*\)".*/\1/p' pyproject.toml | head -n 1)

# With llama.cpp's RPC backend the tests put every tensor outside host memory, as on a GPU. Arguments of yours are kept:
# CMAKE_ARGS=-DGGML_CUDA=ON make test
export CMAKE_ARGS := $(CMAKE_ARGS) -DGGML_RPC=ON

.PHONY: demo test check rpc format model clean

demo: $(VENV)/.installed
	$(BIN)/steercpp sweep

test: rpc
	$(BIN)/pytest

check: rpc
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

# The first install compiles llama.cpp, about 5 minutes on 2 cores; pip keeps the wheel, and gives it back afterwards
# whatever CMAKE_ARGS says. Where it was one without RPC, the tests compile llama.cpp again and let pip keep that.
$(VENV)/.installed: $(VENV)/bin/pip pyproject.toml CMakeLists.txt $(NATIVE)
	@echo "installing; the first time this compiles llama.cpp, about 5 minutes on 2 cores"
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/.test: $(VENV)/.installed
	$(BIN)/pip install --quiet --editable '.[test]'
	touch $@

rpc: $(VENV)/.test
	@$(BIN)/python -c 'import llama_cpp; raise SystemExit(not llama_cpp.llama_supports_rpc())' || { \
	  echo "pip kept a llama.cpp without RPC; compiling it again, about 5 minutes on 2 cores"; \
	  $(BIN)/pip cache remove '$(subst ==,-,$(subst -,_,$(LLAMA)))*' >/dev/null 2>&1; \
	  $(BIN)/pip install --quiet --force-reinstall --no-deps --no-binary llama-cpp-python $(LLAMA); }

$(VENV)/.recipe: $(VENV)/.installed
	$(BIN)/pip install --quiet --editable '.[recipe]'
	touch $@

clean:
	rm -rf $(VENV) build
