# make demo   the main job on real pictures: checkpoint -> ONNX -> proof -> answers
# make check  linters and the tests that are not slow, on two cores in a minute and a half: while you work
# make test   linters, C++ tests, all Python tests: what CI runs
# Each does all the set-up by itself: headers into build/deps, a virtual environment in .venv, the native build, with
# the CUDA kernels if nvcc is there and TensorRT's plugins if its headers are too (TENSORRT_ROOT=DIR says where); a
# browser for the tests into build/chromium.

PYTHON ?= python3
BIN := .venv/bin
SOURCES := pyproject.toml $(shell find vimdeploy plugins -type f -not -path '*/__pycache__/*')
DEPS := $(CURDIR)/build/deps
TORCH := torch==2.13.0
# Devices that CUDA kernels are compiled for, by the C++ tests and by the package that the Python tests run: each takes half
# a minute of a core. What the sources ask of a device is whether it has clusters, as those from 9.0 on, and which products
# its tensor cores know, those of 7.5 or of 8.0 on. `pip install .` compiles for all.
TESTED := 75;90
INSTALLED := 90
CPP_FILES = find plugins tests benchmarks/native samples -name '*.h' -o -name '*.cpp' -o -name '*.cu'

.PHONY: demo check test lint test-cpp test-python format clean

demo: .venv/demo
	$(BIN)/python samples/demo.py

check: lint
	$(BIN)/pytest -n 2 -m "not slow"

test: lint test-cpp test-python

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(CPP_FILES) | xargs $(BIN)/clang-format --dry-run --Werror

test-cpp: build/deps
	cmake -S plugins -B build/plugins -DCMAKE_BUILD_TYPE=Release -DVIMDEPLOY_DEPS_DIR=$(DEPS) \
		-DVIMDEPLOY_BUILD_TESTS=ON -DVIMDEPLOY_BUILD_BENCHMARKS=ON "-DCMAKE_CUDA_ARCHITECTURES=$(TESTED)"
	cmake --build build/plugins --parallel 2
	ctest --test-dir build/plugins --output-on-failure
	@echo "Why tests were skipped, and how many:"
	@grep -hA1 ': Skipped$$' build/plugins/Testing/Temporary/LastTest.log | grep -ve Skipped -e '^--' | sort | uniq -c

test-python: .venv/installed | build/chromium
	$(BIN)/pytest -n 2

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(CPP_FILES) | xargs $(BIN)/clang-format -i
	$(BIN)/python docs/site/generate.py

# What the demo needs, with pip's progress to be seen. It runs on a CPU: CUDA kernels would take minutes to compile. A folder
# of its own, because CMake remembers in build/ what it was told.
.venv/demo: $(SOURCES) | .venv/torch build/deps
	@echo "== 2 of 2: vimdeploy and what it runs with; the compiled operators take a minute or two"
	$(BIN)/python -m pip install '.[cpu,export,hub]' -C build-dir=build/demo \
		-C cmake.define.VIMDEPLOY_DEPS_DIR=$(DEPS) -C cmake.define.VIMDEPLOY_CUDA=OFF
	touch $@

.venv/installed: $(SOURCES) | .venv/torch build/deps
	$(BIN)/python -m pip install --quiet '.[cpu,dev]' -C cmake.define.VIMDEPLOY_DEPS_DIR=$(DEPS) \
		-C "cmake.define.CMAKE_CUDA_ARCHITECTURES=$(INSTALLED)"
	touch .venv/demo $@

# torch by itself, before an extra could ask for whatever build is newest. PIP_EXTRA_INDEX_URL=URL of PyTorch's index of
# builds for the CPU saves most of the download on Linux, where pip takes the one with CUDA.
.venv/torch:
	@echo "== 1 of 2: PyTorch, the largest piece (200 MB for the CPU, some GB with CUDA)"
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install $(TORCH)
	touch $@

build/deps: tools/fetch_headers
	rm -rf build/deps.new
	(tools/fetch_headers build/deps.new && rm -rf build/deps && mv build/deps.new build/deps) || \
		echo "CMake will download what plugins/ needs instead"
	mkdir -p build/deps && touch build/deps

build/chromium: tools/fetch_chromium
	tools/fetch_chromium build/chromium
	mkdir -p build/chromium && touch build/chromium

clean:
	rm -rf build .venv demo
