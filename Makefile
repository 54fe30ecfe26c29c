# Cadenza: `make` alone explains the targets. Every target makes .venv first where it is missing or out of date.
# CONTRIBUTING.md says more.

VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup robots demo test test-long test-hardware lint format types wheel check build bench clean

help:
	@echo "Cadenza: humanoids that learn on the computer you have."
	@echo
	@echo "Start here"
	@echo "  make demo        set up, train a humanoid from scratch, film it before and after (minutes)"
	@echo "  make test        set up, run the fast test suite"
	@echo
	@echo "Use it"
	@echo "  make setup       make or repair $(VENV) (done by every target; returns at once when nothing changed)"
	@echo "  make robots      fetch the models of the robots that exist (108 MB, once; make test does it)"
	@echo "  make bench       measure speed on this machine   (make bench ARGS=\"--help\")"
	@echo "  $(BIN)/cadenza --help          train, evaluate, record, plot, export"
	@echo
	@echo "Work on it"
	@echo "  make check       lint + types + a wheel built, installed elsewhere and used"
	@echo "  make lint        ruff: rules and formatting      (make format repairs what can be)"
	@echo "  make types       mypy over an installed copy"
	@echo "  make test-long   every test, the slow ones too   (make test ARGS=\"-k replay\" picks some)"
	@echo "  make test-hardware   motors: drivers, emulators, safety, deployment, in their long form"
	@echo "  make build       source distribution and wheel in dist/"
	@echo "  make clean       remove $(VENV), build/, dist/ and caches; runs/ stays"
	@echo
	@echo "Settings: PYTHON=python3.12 (which Python makes $(VENV)), ARGS=... (passed on), TORCH_INDEX_URL=... (CPU wheels)"

setup:
	@bash scripts/setup.sh

# Apollo is the sixth robot, which the page docs/add-a-robot.md adds and a test with it.
robots: setup
	@$(BIN)/cadenza robots fetch all apptronik_apollo

demo: setup
	$(BIN)/cadenza demo $(ARGS)

# Motors and deployment keep time with emulators in other processes: one after the other, with a core to spare. The rest
# two at a time. Agents by themselves: scipy's k-d tree (the curriculum) crashed in one process with all of their tests.
IN_TIME := tests/acceptance tests/robots tests/controllers tests/scripts
TWO := -n 2 --dist loadfile

test: robots
ifeq ($(strip $(ARGS)),)
	$(BIN)/python -m pytest $(TWO) tests/agents
	$(BIN)/python -m pytest $(TWO) $(addprefix --ignore=,tests/agents $(IN_TIME))
	$(BIN)/python -m pytest $(IN_TIME)
else
	$(BIN)/python -m pytest $(ARGS)
endif

# The long form of the twelve promises of the hardware layer (docs/hardware-tests.md), and of everything below them.
test-hardware: robots
	$(BIN)/python -m pytest -m "" tests/acceptance tests/robots/hardware tests/controllers \
		$(foreach name,deploy emulate motors calibrate sysid log bench_deploy,tests/scripts/test_$(name).py) $(ARGS)

# -m "" lifts the default `-m "not slow"` of pyproject.toml.
test-long: robots
	$(BIN)/python -m pytest -m "" $(ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: setup
	@bash scripts/check_wheel.sh types

wheel: setup
	@bash scripts/check_wheel.sh smoke

check: lint types wheel
	@echo "check: lint, types and wheel are in order"

build: setup
	rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist .

bench: setup
	$(BIN)/cadenza bench $(ARGS)

clean:
	rm -rf $(VENV) .make build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find agents assets controllers envs robots scripts tests -name __pycache__ -type d -prune -exec rm -rf {} +
