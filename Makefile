# The two commands: make book, make test. Each makes .venv and installs what requirements.txt pins, when that changed.
# The first installation shows what pip does, as it takes some minutes; a later one only touches what changed, quietly.
PYTHON ?= python3
VENV := .venv
INSTALLED := $(VENV)/.installed
QUIETLY := $(if $(wildcard $(INSTALLED)),--quiet)

.PHONY: help book quick handouts test bench clean

help:
	@echo "make book    execute the chapters and build the pages: _build/html/index.html"
	@echo "make quick   the same at a small size, for a look: _build/quick/html/index.html"
	@echo "make handouts  student notebooks, PDFs for students and instructors: _build/handouts (COURSE='...' heads them)"
	@echo "make test    run all tests"
	@echo "make bench   measure the speeds that README.md states"
	@echo "make clean   remove everything built (_build); .venv stays"

book: $(INSTALLED)
	@$(VENV)/bin/dmf book

quick: $(INSTALLED)
	@$(VENV)/bin/dmf book --quick

handouts: export DMF_COURSE := $(value COURSE)
handouts: $(INSTALLED)
	@$(VENV)/bin/dmf handouts --course="$$DMF_COURSE"

test: $(INSTALLED)
	@$(VENV)/bin/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadgroup --no-loadscope-reorder

bench: $(INSTALLED)
	@$(VENV)/bin/python -m benchmarks

clean:
	rm -rf _build

$(INSTALLED): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version.split()[0]; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed, $(PYTHON) is " + v + ". Name another one: make PYTHON=python3.12 " + "$(firstword $(MAKECMDGOALS))")'
	@test -x $(VENV)/bin/python || { echo "making $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing the packages that requirements.txt pins (some minutes the first time)"
	@$(VENV)/bin/python -m pip install --disable-pip-version-check $(QUIETLY) --requirement requirements.txt
	@touch $@
