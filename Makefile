# Everything a developer types. Two commands matter to a newcomer:
#
#   make demo [WAV=speech.wav]   set up, export the demo checkpoint, speak the sample, write demo.mp4
#   make test                    run the tests in the same environment
#
# Both install into .venv with the exact versions of constraints.txt. A second run starts at once; a changed C++ file,
# constraint or checkpoint redoes only what depends on it.

PYTHON ?= $(or $(shell command -v python3.11),python3)
WAV ?= training/assets/sample.wav
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

installed := $(VENV)/.installed
bundle := demo.emotag/manifest.json
native := CMakeLists.txt $(shell find plugins -name '*.cpp' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh')
# What decides the bundle's content besides the checkpoint.
exporter := $(wildcard export/*.py training/*.py runtime/bundle*.py runtime/manifest.py)

.DELETE_ON_ERROR:
.PHONY: demo test test-avx512 bench lint types format wheel media sample clean

demo: $(bundle)
	$(BIN)/emotag-render demo.emotag "$(WAV)" -o demo.mp4

$(bundle): training/assets/demo.pt $(exporter) | $(installed)
	$(BIN)/emotag-export $< -o demo.emotag
	@touch $@

test: $(installed)
	$(BIN)/python -m pytest

# The tests of the kernels on a processor with AVX-512, which an emulator stands in for; it names the packages it needs.
test-avx512: $(installed)
	$(BIN)/python -m tests.emulated.run

# Every benchmark, on the demo and on the base size with random weights, which the first run writes below build/bench.
bench: $(bundle)
	@mkdir -p build/bench
	$(BIN)/python -m pytest benchmarks --benchmark-json=build/bench/benchmarks.json --benchmark-columns=min,median,stddev,rounds

lint: $(installed)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(installed)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# mypy takes the package's name from the folder's: the link makes it "emotag" whatever the clone is called.
types: $(installed)
	@mkdir -p build/mypy && ln -sfn ../.. build/mypy/emotag
	cd build/mypy && ../../$(BIN)/mypy --config-file emotag/pyproject.toml --cache-dir ../../.mypy_cache \
	    -p emotag.runtime -p emotag.plugins -p emotag.export -p emotag.training

wheel: $(installed)
	$(PIP) wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

# The README's pictures, and the shipped sample speech (needs flite).
media: $(bundle)
	$(BIN)/python -m benchmarks.readme_media demo.emotag "$(WAV)" docs/images

sample: $(installed)
	$(BIN)/python -m benchmarks.sample_speech training/assets/sample.wav

# The build requirements come first because the project builds without isolation: its compiled objects then stay valid
# between builds, and a changed C++ file costs seconds.
$(installed): pyproject.toml constraints.txt $(native) | $(BIN)/python
	@echo "make: installing what constraints.txt pins into $(VENV); the first time takes a minute or two"
	@$(PIP) install --quiet --no-compile -c constraints.txt scikit-build-core nanobind
	@$(PIP) install --quiet --no-compile -c constraints.txt --no-build-isolation -e '.[export,train,dev,gpu]'
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys, venv, ensurepip; assert sys.version_info >= (3, 11)' 2>/dev/null || \
	    { echo "make: $(PYTHON) is not Python 3.11 or later with venv; install one, or pass PYTHON=path"; exit 1; }
	@command -v $${CXX:-c++} >/dev/null || { echo "make: no C++ compiler; install g++ or clang"; exit 1; }
	@command -v cmake >/dev/null || { echo "make: cmake is missing; install cmake 3.25 or later"; exit 1; }
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf build dist demo.emotag demo.mp4 $(VENV) .mypy_cache .pytest_cache .ruff_cache
