# The two commands: make book, make test. Each makes .venv and installs what requirements.txt pins, when that changed: every
# file that is installed is compared with its hash there.
# The first installation shows what pip does, as it takes some minutes; a later one only touches what changed, quietly.
PYTHON ?= python3
VENV := .venv
INSTALLED := $(VENV)/.installed
QUIETLY := $(if $(wildcard $(INSTALLED)),--quiet)

.PHONY: help book quick handouts slides test test-faults test-narrow bench lock clean

help:
	@echo "make book    execute the chapters and build the pages: _build/html/index.html"
	@echo "make quick   the same at a small size, for a look: _build/quick/html/index.html"
	@echo "make handouts  student notebooks, PDFs for students and instructors: _build/handouts (COURSE='...' heads them)"
	@echo "make slides  the slides of three lectures, HTML and PDF: _build/slides"
	@echo "make test    run all tests but the slow ones: \`make test-faults\` runs those, \`make test-narrow\` the numerical ones with fewer instructions"
	@echo "make bench   measure the speeds that README.md states"
	@echo "make lock    find all packages beneath requirements.in, and their hashes"
	@echo "make clean   remove everything built (_build); .venv stays"

book: $(INSTALLED)
	@$(VENV)/bin/dmf book

quick: $(INSTALLED)
	@$(VENV)/bin/dmf book --quick

handouts: export DMF_COURSE := $(value COURSE)
handouts: $(INSTALLED)
	@$(VENV)/bin/dmf handouts --course="$$DMF_COURSE"

slides: $(INSTALLED)
	@$(VENV)/bin/dmf slides

test: $(INSTALLED)
	@$(VENV)/bin/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadgroup --no-loadscope-reorder

# What kills, damages and starves takes minutes; its tests have the mark `slow`.
test-faults: $(INSTALLED)
	@$(VENV)/bin/python -m pytest -m slow --numprocesses auto --maxprocesses 4 --dist worksteal

# The numerical tests with fewer of the processor's instructions, which round differently.
test-narrow: $(INSTALLED)
	@NPY_DISABLE_CPU_FEATURES="$$($(VENV)/bin/python .ci/narrow.py)" ATEN_CPU_CAPABILITY=default MKL_ENABLE_INSTRUCTIONS=AVX2 \
	  $(VENV)/bin/python -m pytest $(addprefix tests/,$(NUMERICAL)) --numprocesses auto --maxprocesses 4 --dist worksteal
NUMERICAL := factorization problems flow convex theory

bench: $(INSTALLED)
	@$(VENV)/bin/python -m benchmarks

clean:
	rm -rf _build

INSTALL := $(VENV)/bin/python -m pip install --disable-pip-version-check $(QUIETLY) --no-deps

$(INSTALLED): requirements.txt requirements-cuda.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version.split()[0]; sys.exit(0 if sys.version_info >= (3, 11, 5) else "Python 3.11.5 or newer is needed, $(PYTHON) is " + v + ". Name another one: make PYTHON=python3.12 " + "$(firstword $(MAKECMDGOALS))")'
	@test -x $(VENV)/bin/python || { echo "making $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing the packages that requirements.txt pins (some minutes the first time)"
	@$(INSTALL) --require-hashes --requirement requirements.txt
	@$(INSTALL) --no-build-isolation --editable .
# PyTorch's build for graphics cards says that libraries are missing, which the other build does without.
	@if $(VENV)/bin/python -m pip check | grep -q '^torch '; then $(INSTALL) --require-hashes --requirement requirements-cuda.txt; fi
	@touch $@

# For whoever changes requirements.in; UPGRADE=--upgrade takes the newest of all that it does not pin.
lock: .ci/tools.txt
	@test -x _build/tools/bin/python || $(PYTHON) -m venv _build/tools
	@_build/tools/bin/python -m pip install --quiet --no-deps --require-hashes --requirement .ci/tools.txt
	@_build/tools/bin/python .ci/lock.py $(UPGRADE)
