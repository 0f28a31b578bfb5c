# Every task a person runs. `make` alone lists them; none needs another to have run before.

PYTHON3 ?= python3
BACKEND ?= process
CONFIG ?= prod
STATE ?= .local/cloud
ENV_FILE ?= .env

# A caller's own Python set-up must not leak into ours.
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME PYTHONSAFEPATH PYENV_VERSION
export PYTHONUNBUFFERED = 1

DEV := .local/envs/dev/bin
SAM := .local/envs/sam/bin/sam
LINTED := layers cli functions migrations localcloud tests bench
TEST_PARTS := lint types imports validate unit integration faults e2e

.DEFAULT_GOAL := help
.PHONY: help setup demo up down status logs migrate key redrive doctor sample cli test lint types imports validate unit \
	integration faults e2e format corpus fuzz atheris agreement bench soak openapi lock deploy clean \
	env-dev env-localcloud env-sam env-cli

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: env-dev env-localcloud env-sam env-cli ## Install everything into .local/ (every target does what it needs of this by itself)

env-dev env-localcloud env-sam env-cli:
	@$(PYTHON3) -m localcloud.bootstrap $(@:env-%=%)

# ---- the local cloud

demo: setup ## Boot a local cloud, send packages through all three doors, show what happens, clean up
	@$(DEV)/python -m localcloud.demo

up: setup ## Start the local cloud and deploy to it (BACKEND=process|docker, settings from .env)
	@$(DEV)/python -m localcloud up --state $(STATE) --env-file $(ENV_FILE) --backend $(BACKEND)

down: env-dev ## End the local cloud and delete its data (BACKEND=process|docker)
	@$(DEV)/python -m localcloud down --state $(STATE) --backend $(BACKEND)

status: env-dev ## Show what runs, and where
	@$(DEV)/python -m localcloud status --state $(STATE)

logs: env-dev ## Follow what the functions print (FUNCTION=ingest for one of them)
	@$(DEV)/python -m localcloud logs --state $(STATE) --function "$(FUNCTION)"

# CONFIG has a default, which deploys; these mean the local cloud unless it is given.
STACK = $(if $(filter command line,$(origin CONFIG)),--config-env $(CONFIG),--state $(STATE))

migrate: env-dev ## Bring the database schema up to date (CONFIG=prod for a stack on AWS, else the local cloud's)
	@$(DEV)/python -m localcloud migrate $(STACK)

key: env-dev ## Make an API key and print it (NAME=me SCOPES=admin DAYS=90; CONFIG=prod for a stack on AWS)
	@test -n "$(NAME)" || { echo "error: say whose key it will be: make key NAME=me" >&2; exit 2; }
	@$(DEV)/python -m localcloud key $(STACK) --name "$(NAME)" --scopes "$(or $(SCOPES),admin)" $(if $(DAYS),--days $(DAYS))

redrive: env-dev ## Put parked messages back into the ingest queue (CONFIG=prod for a stack on AWS)
	@$(DEV)/python -m localcloud redrive $(STACK)

doctor: env-dev ## Compare store and records (FIX=1 repairs, DEEP=1 reads every byte, JSON=1; CONFIG=prod for AWS)
	@$(DEV)/python -m localcloud doctor $(STACK) $(if $(filter 1,$(FIX)),--fix) \
		$(if $(filter 1,$(DEEP)),--deep) $(if $(filter 1,$(JSON)),--json)

sample: env-dev ## Write HAAS_VF4.zip, a package to try the API with
	@$(DEV)/python -m localcloud.samples HAAS_VF4

cli: env-cli ## Install the veripost command into .local/ and say where (docs/cli.md)
	@echo "$(CURDIR)/.local/envs/cli/bin/veripost"

# ---- checks

test: ## Run every check: lint, types, imports, template, unit, integration, faults, end to end
	@summary=""; failed=""; all=$$(date +%s); \
	for part in $(TEST_PARTS); do \
		echo "== $$part"; begin=$$(date +%s); \
		if $(MAKE) --no-print-directory $$part; then verdict=ok; else verdict=FAILED; failed=$$part; fi; \
		summary="$$summary$$(printf '  %-12s %4d s  %s' $$part $$(( $$(date +%s) - begin )) $$verdict)\n"; \
		[ -z "$$failed" ] || break; \
	done; \
	printf "\n$$summary  %-12s %4d s\n" total $$(( $$(date +%s) - all )); \
	[ -z "$$failed" ]

lint: env-dev ## Check style and formatting (ruff)
	@$(DEV)/ruff check $(LINTED)
	@$(DEV)/ruff format --check $(LINTED)

types: env-dev ## Check types (mypy, strict)
	@$(DEV)/mypy

imports: env-dev ## Check which module may import which (import-linter)
	@PYTHONPATH=layers/common:cli $(DEV)/lint-imports --no-logo

validate: env-sam ## Check the template (sam validate --lint)
	@AWS_DEFAULT_REGION=us-east-1 SAM_CLI_TELEMETRY=0 $(SAM) validate --lint --template-file template.yaml

unit: env-dev ## Run the unit tests
	@$(DEV)/python -m pytest -q tests/unit

integration: env-dev ## Run the tests against a real Postgres
	@$(DEV)/python -m pytest -q tests/integration

faults: env-dev ## Kill, delay and repeat everything, on a real Postgres and an S3 and SQS of their own
	@$(DEV)/python -m pytest -q tests/faults

e2e: setup ## Run the tests against a deployed local cloud of their own
	@$(DEV)/python -m pytest -q tests/e2e

format: env-dev ## Rewrite the code in the project's style
	@$(DEV)/ruff check --fix --quiet $(LINTED) || true
	@$(DEV)/ruff format $(LINTED)

# ---- heavier checks and figures

corpus: env-dev ## Check the archive gate against a folder of archives (ZIPS=DIR)
	@test -n "$(ZIPS)" || { echo "error: say where the archives are: make corpus ZIPS=DIR" >&2; exit 2; }
	@PYTHONPATH=layers/common:. $(DEV)/python -m tests.corpus.run "$(ZIPS)"

fuzz: env-dev ## Fuzz the archive gate with hypothesis, on two cores (FUZZ_SECONDS=1800)
	@FUZZ_SECONDS=$(or $(FUZZ_SECONDS),1800) $(DEV)/python -m pytest -q -s tests/fuzz

atheris: env-dev ## Fuzz the archive gate guided by coverage, on one core (FUZZ_SECONDS=1800; Linux on x86-64)
	@PYTHONPATH=layers/common:. $(DEV)/python -m tests.fuzz.atheris_target $(or $(FUZZ_SECONDS),1800)

agreement: env-dev ## Compare the archive gate with the tools that write ZIPs (needs zip, unzip, 7z, jar and bsdtar)
	@$(DEV)/python -m pytest -q tests/agreement

bench: env-dev ## Measure everything in bench/ and write it into docs/performance.md (half an hour)
	@PYTHONPATH=layers/common:. $(DEV)/python -m bench

# ---- upkeep

COMPILE = .local/tools/bin/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url \
	--python $(DEV)/python --custom-compile-command "make lock" $(if $(UPGRADE),--upgrade)

soak: setup ## Send many packages at once through a local cloud of its own, and count what came of them (N=2000)
	@PYTHONPATH=layers/common:. $(DEV)/python -m bench.soak $(or $(N),2000)

openapi: env-dev ## Write the API's description anew (functions/status/openapi.json)
	@PYTHONPATH=layers/common $(DEV)/python -m veripost.openapi > .local/openapi.json
	@mv .local/openapi.json functions/status/openapi.json

lock: env-dev ## Pin what requirements/*.in ask for (UPGRADE=1: the newest versions of everything)
	@$(COMPILE) --python-version 3.13 layers/common/requirements.in -o layers/common/requirements.txt
	@$(COMPILE) --python-version 3.13 requirements/dev.in -o requirements/dev.txt
	@$(COMPILE) --python-version 3.13 requirements/cli.in -o requirements/cli.txt
	@$(COMPILE) --python-version 3.13 --override requirements/localcloud.overrides.in \
		requirements/localcloud.in -o requirements/localcloud.txt
	@$(COMPILE) --python-version 3.13 requirements/sam.in -o requirements/sam.txt
	@$(COMPILE) --python-version 3.9 requirements/tools.in -o requirements/tools.txt

deploy: setup ## Build, deploy to AWS and migrate (CONFIG=prod, as samconfig.toml names it; your AWS credentials)
	@PATH="$(CURDIR)/$(DEV):$$PATH" $(SAM) build --config-env $(CONFIG)
	@$(DEV)/python -m compileall -q -j 0 --invalidation-mode unchecked-hash .aws-sam/build
	@$(SAM) deploy --config-env $(CONFIG) --parameter-overrides $$($(DEV)/python -m localcloud release --config-env $(CONFIG))
	@$(DEV)/python -m localcloud migrate --config-env $(CONFIG)

clean: ## End the local cloud and delete everything that was installed or built
	@test ! -x $(DEV)/python || $(DEV)/python -m localcloud down --state $(STATE)
	@rm -rf .local .aws-sam .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
