# make demo   install into .venv and measure the embedded model's trade-off
# make quick  install with the test tools and run the tests that are not marked slow: 3 minutes on 2 cores
# make test   run all tests: 9 minutes on 2 cores
# make check  what CI runs: format, lint, types, all tests
# make docs   the pages of docs/ as a site in build/docs; a warning is an error
# make sanitize  the tests of native/ under AddressSanitizer and UndefinedBehaviorSanitizer (gcc, Linux)
# make table NAME=method  measure a table of docs/ again and write it there (architecture, calibration, evidence, method,
#   mmlu, notebook); the tables of docs/statistics.md are printed by pytest -s, see tests/tables/coverage_study.py and share_coverage.py
# make lock   write requirements/*.txt again: the newest versions within pyproject.toml's bounds, with hashes (needs network)
# make lowest the oldest versions that pyproject.toml allows, in an environment of their own, and a part of the tests
# make model  make the embedded model again, from its seed (half an hour on 2 idle cores; needs torch)

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
NATIVE := $(wildcard native/*.cpp native/*.h)
SOURCE := steercpp cli models tests docs/conf.py
SANE   := build/sanitize
OF_NATIVE := tests/native $(addprefix tests/engine/test_,engine.py generation.py packing.py)
# A process for each core, of which each computes with one thread, BLAS and engines that are told nothing too: threads of
# several processes wait for each other most of the time. Who has no tests left takes over half of another's.
JOBS   := auto
PYTEST := LOKY_MAX_CPU_COUNT=1 OPENBLAS_NUM_THREADS=1 $(BIN)/pytest -n $(JOBS) --dist worksteal
LLAMA  := $(shell sed -n 's/.*"\(llama-cpp-python==[^"]*\)".*/\1/p' pyproject.toml | head -n 1)

# With llama.cpp's RPC backend the tests put every tensor outside host memory, as on a GPU. Arguments of yours are kept:
# CMAKE_ARGS=-DGGML_CUDA=ON make test
export CMAKE_ARGS := $(CMAKE_ARGS) -DGGML_RPC=ON

# What `make`, the tests and the docs install has a hash in requirements/. What `lock` (uv), `lowest` (uv, the lowest versions,
# pytest) and `model` (torch) bring along has none. What compiles comes first: llama-cpp-python is compiled from its
# source package, and neither that nor native/ takes build tools from elsewhere.
LOCKED := $(BIN)/python -m pip install --quiet --require-hashes --no-build-isolation
EDITED := $(BIN)/python -m pip install --quiet --no-build-isolation --no-deps --editable .
LOCK   := build/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate

.PHONY: demo quick test check docs rpc sanitize format table lock lowest model clean

demo: $(VENV)/.installed
	$(BIN)/steercpp sweep

quick: rpc
	STEERCPP_PLANS=500 $(PYTEST) -m "not slow"

test: rpc
	$(PYTEST)

check: rpc
	$(BIN)/ruff format --check $(SOURCE)
	$(BIN)/ruff check $(SOURCE)
	$(BIN)/clang-format --dry-run -Werror $(NATIVE)
	$(BIN)/mypy
	$(PYTEST)

docs: $(VENV)/.test
	$(BIN)/sphinx-build -q -W --keep-going -n -d build/doctrees -b html docs build/docs
	@echo "open build/docs/index.html"

# Run from elsewhere, as Python would find steercpp/ here first. The limit on a process's memory, which two tests set,
# is no room for AddressSanitizer.
sanitize: $(SANE)/.installed
	cd $(SANE) && ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 STEERCPP_PLANS=500 \
	LD_PRELOAD="$(shell $(CXX) -print-file-name=libasan.so) $(shell $(CXX) -print-file-name=libstdc++.so)" \
	venv/bin/python -m pytest -q -c $(CURDIR)/pyproject.toml $(addprefix $(CURDIR)/,$(OF_NATIVE)) -k "not too_large_for_memory"

format: $(VENV)/.test
	$(BIN)/ruff format $(SOURCE)
	$(BIN)/ruff check --fix $(SOURCE)
	$(BIN)/clang-format -i $(NATIVE)

table: $(VENV)/.test
	PYTHONPATH=tests/helpers $(BIN)/python tests/tables/$(NAME)_table.py $(DATA)

model: $(VENV)/.recipe
	$(BIN)/python -m steercpp.models.recipe --out models

$(VENV)/bin/pip: requirements/build.txt
	$(PYTHON) -m venv $(VENV)
	$(LOCKED) --upgrade -r requirements/build.txt
	touch $@

# The first install compiles llama.cpp, about 5 minutes on 2 cores; pip keeps the wheel, and gives it back afterwards
# whatever CMAKE_ARGS says. Where it was one without RPC, the tests compile llama.cpp again and let pip keep that.
$(VENV)/.installed: $(VENV)/bin/pip pyproject.toml requirements/run.txt CMakeLists.txt $(NATIVE)
	@echo "installing; the first time this compiles llama.cpp, about 5 minutes on 2 cores"
	$(LOCKED) -r requirements/run.txt
	$(EDITED)
	touch $@

$(VENV)/.test: $(VENV)/.installed requirements/dev.txt
	$(LOCKED) -r requirements/dev.txt
	touch $@

rpc: $(VENV)/.test
	@$(BIN)/python -c 'import llama_cpp; raise SystemExit(not llama_cpp.llama_supports_rpc())' || { \
	  echo "pip kept a llama.cpp without RPC; compiling it again, about 5 minutes on 2 cores"; \
	  $(BIN)/pip cache remove '$(subst ==,-,$(subst -,_,$(LLAMA)))*' >/dev/null 2>&1; \
	  sed -n '/^llama-cpp-python==/,/[0-9a-f]$$/p' requirements/run.txt > $(VENV)/llama.txt; \
	  $(LOCKED) --force-reinstall --no-deps --no-binary llama-cpp-python -r $(VENV)/llama.txt; }

# A second environment that sees the first one's packages, with a native module of its own.
$(SANE)/.installed: $(VENV)/.test CMakePresets.json
	$(PYTHON) -m venv --clear $(SANE)/venv
	$(BIN)/python -c 'import site; print(site.getsitepackages()[0])' \
	  > "$$($(SANE)/venv/bin/python -c 'import site; print(site.getsitepackages()[0])')/first.pth"
	$(SANE)/venv/bin/python -m pip install --quiet --no-deps --no-build-isolation -C build-dir=$(SANE)/cmake -C cmake.args=--preset=sanitize .
	touch $@

lock:
	$(PYTHON) -m venv build/lock
	build/lock/bin/pip install --quiet uv
	for name in dev run build model; do rm -f requirements/$$name.txt; done
	$(LOCK) --extra test --extra docs pyproject.toml requirements/build.in --output-file requirements/dev.txt
	$(LOCK) --constraints requirements/dev.txt pyproject.toml --output-file requirements/run.txt
	$(LOCK) --constraints requirements/dev.txt requirements/build.in --output-file requirements/build.txt
	$(LOCK) --no-deps requirements/model.in --output-file requirements/model.txt

# llama-cpp-python's version is exact, so its wheel is pip's; the tools are those of today. Left out are two tests of words
# that newer releases of click and safetensors say.
lowest: $(VENV)/.test
	$(PYTHON) -m venv build/lock
	build/lock/bin/pip install --quiet uv
	build/lock/bin/uv pip compile --quiet --resolution lowest-direct --python-version 3.11 pyproject.toml --output-file build/lowest.txt
	$(PYTHON) -m venv --clear build/lowest
	build/lowest/bin/python -m pip install --quiet --require-hashes --no-build-isolation --upgrade -r requirements/build.txt
	build/lowest/bin/python -m pip install --quiet --no-build-isolation -r build/lowest.txt pytest pytest-xdist hypothesis
	build/lowest/bin/python -m pip install --quiet --no-build-isolation --no-deps -C build-dir=build/lowest/cmake .
	cd build/lowest && bin/python -m pytest -q -c $(CURDIR)/pyproject.toml -p no:cacheprovider -W default -m "not slow" -k "not nearly_right and not do_not_fit" \
	  $(addprefix $(CURDIR)/tests/,vectors data cli runs)

$(VENV)/.recipe: $(VENV)/.installed
	$(BIN)/pip install --quiet --editable '.[recipe]'
	touch $@

clean:
	rm -rf $(VENV) build
