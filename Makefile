# `make demo` and `make test` need nothing prepared: each builds a virtual environment first, once.
#
#   PYTHON      interpreter that creates the environment (Python 3.10 to 3.12)
#   VENV        where the environment is (.venv)
#   DEMO_ARGS   further options of tools/demo.py          PYTEST_ARGS   further options of pytest
#   DOCTOR_ARGS further options of tools/doctor.py        PIP_ARGS      further options of pip install

SHELL := /bin/bash
.DELETE_ON_ERROR:
.PHONY: help setup demo test lint doctor clean

SUITABLE = import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))
# An interpreter counts only if it runs: version managers leave stubs on the path that do not.
PYTHON ?= $(shell for p in python3 python3.12 python3.11 python3.10; do \
	"$$p" -c "$(SUITABLE)" >/dev/null 2>&1 && { echo "$$p"; exit; }; done; echo python3)

VENV ?= .venv
VENV_PYTHON := $(VENV)/bin/python
# Depends on what decides the environment's contents, so that set-up is repeated when that changes.
STAMP := $(VENV)/.alignshift-installed

help:
	@echo "make demo    train the small detector on synthetic CT, evaluate it, draw what it found"
	@echo "make test    run the tests (PYTEST_ARGS=--cov: with coverage, which is slower)"
	@echo "make lint    ruff (lint and format) and mypy"
	@echo "make doctor  versions, devices, kernels, data, and what to do about each problem"
	@echo "make setup   only build the virtual environment ($(VENV))"
	@echo "make clean   remove caches and coverage data (keeps $(VENV), data and work_dirs)"

setup: $(STAMP)

$(STAMP): pyproject.toml setup.py constraints.txt
	@if [ ! -x "$(VENV_PYTHON)" ]; then .ci/check_python "$(PYTHON)" && \
		echo "Creating $(VENV) with $(PYTHON)" && "$(PYTHON)" -m venv "$(VENV)"; fi
	@echo "Installing into $(VENV): some 6 GB with PyTorch's CUDA libraries, minutes on a fast line"
	"$(VENV_PYTHON)" -m pip install $(PIP_ARGS) -c constraints.txt -e ".[dev]"
	@.ci/check_cv2 "$(VENV_PYTHON)"
	@touch "$@"

demo: $(STAMP)
	"$(VENV_PYTHON)" tools/demo.py --work-dir work_dirs/demo $(DEMO_ARGS)

# A process for each core, of one thread each: most tests wait for programs that they start. A
# process may take 4 GB, so no more than eight.
test: $(STAMP)
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} "$(VENV_PYTHON)" -m pytest \
		--numprocesses auto --maxprocesses 8 --dist loadfile $(PYTEST_ARGS)

lint: $(STAMP)
	"$(VENV_PYTHON)" -m ruff check .
	"$(VENV_PYTHON)" -m ruff format --check .
	"$(VENV_PYTHON)" -m mypy

doctor: $(STAMP)
	"$(VENV_PYTHON)" tools/doctor.py $(DOCTOR_ARGS)

clean:
	rm -rf .coverage .coverage.* htmlcov .hypothesis .mypy_cache .pytest_cache .ruff_cache build *.egg-info
	find alignshift deeplesion tools benchmarks tests -name __pycache__ -type d -prune -exec rm -rf {} +
