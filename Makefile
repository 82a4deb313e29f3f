# The whole platform on this machine. `make` shows what there is.
#   make up RATE=100 CUSTOMERS=2000     another world: RATE, CUSTOMERS, TERMINALS, HISTORY_DAYS, SEED, PREVALENCE, DRIFT_DAY
#   make up WORLD=off                    no simulated world: for events of your own
#   make status SCALED=on                any command for the stack of `make up-scaled`
#   any FLYWHEEL_* setting in the environment or in .env reaches every process (ports, data directory, …)
.DEFAULT_GOAL := help
SHELL := /bin/sh
.PHONY: help up up-scaled down status logs clean decide send replay attributes train deploy rollback variant models rebuild erase mlflow test test-containers test-scaled lint loadtest loadtest-compare jars lock kubernetes audit sbom capacity environment environment-dev \
        figures-start figures-soak figures-fraud figures-features figures-serving figures-containers figures-render

PYTHON_OF_PROJECT := .venv/bin/python
USECASE ?= $(or $(FLYWHEEL_USECASE),fraud)
MINUTES ?= 30
EVENT ?= transaction
T ?= tests

# The short names of the world's knobs, where they are given.
define knob
ifneq ($(origin $(1)),undefined)
export FLYWHEEL_WORLD_$(1) := $($(1))
endif
endef
ifeq ($(WORLD),off)
export FLYWHEEL_WORLD_ENABLED := false
endif
$(foreach name,RATE CUSTOMERS TERMINALS HISTORY_DAYS SEED PREVALENCE DRIFT_DAY,$(eval $(call knob,$(name))))

# Everything more than once, on data of its own; a setting that is given wins.
ifeq ($(SCALED),on)
export FLYWHEEL_DATA_DIR ?= data-scaled
export FLYWHEEL_REDIS_URL ?= redis+cluster://127.0.0.1:16371,127.0.0.1:16372,127.0.0.1:16373
export FLYWHEEL_EVENT_PARTITIONS ?= 6
export FLYWHEEL_EDGE_REPLICAS ?= 2
export FLYWHEEL_SPARK_WORKERS ?= 2
export FLYWHEEL_SERVING_REPLICAS ?= 2
endif

help:  ## show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

up: environment  ## install, start everything that does not run, and wait until the loop turns
	@$(PYTHON_OF_PROJECT) -m infra.local up

up-scaled:  ## start it scaled out: three Redis masters, six partitions, two edge lanes, Spark workers and serving replicas
	@$(MAKE) --no-print-directory up SCALED=on

down: environment-present  ## stop everything that was started, and nothing else; data stays
	@$(PYTHON_OF_PROJECT) -m infra.local down

status: environment-present  ## show what runs, since when, with how much memory
	@$(PYTHON_OF_PROJECT) -m infra.local status

logs: environment-present  ## follow the logs; of one process: P=serving
	@$(PYTHON_OF_PROJECT) -m infra.local logs $(P)

clean: environment-present  ## stop everything and remove its data
	@$(PYTHON_OF_PROJECT) -m infra.local clean

decide: environment-present  ## ask for one decision: ARGS="card_id=alice terminal_id=t000001 amount_cents=4200"
	@$(PYTHON_OF_PROJECT) -m flywheel decide $(USECASE) $(or $(ARGS),card_id=alice terminal_id=t000001 amount_cents=4200)

send: environment-present  ## send one event: EVENT=transaction ARGS="card_id=alice …"
	@$(PYTHON_OF_PROJECT) -m flywheel send $(USECASE) $(EVENT) $(ARGS)

replay: environment-present  ## send your own events: FILE=payments.csv (CSV, JSON Lines, Parquet) ARGS="--pace recorded"
	@test -n "$(FILE)" || { echo "Which file? make replay FILE=payments.csv"; exit 2; }
	@$(PYTHON_OF_PROJECT) -m flywheel replay $(USECASE) "$(FILE)" $(ARGS)

attributes: environment-present  ## load attributes from a file: TABLE=profile FILE=profile.csv ARGS="--as-of 2026-01-01T00:00:00Z"
	@test -n "$(TABLE)" -a -n "$(FILE)" || { echo "Which? make attributes TABLE=profile FILE=profile.csv"; exit 2; }
	@$(PYTHON_OF_PROJECT) -m flywheel attributes $(USECASE) "$(TABLE)" "$(FILE)" $(ARGS)

train: environment-present  ## train a new model now, and deploy it if it passes the gates
	@$(PYTHON_OF_PROJECT) -m flywheel train $(USECASE) --wait $(ARGS)

deploy: environment-present  ## give a model a role: MODEL=… ROLE=champion|challenger|canary|shadow SHARE=0.05 ARGS="--reason …"
	@test -n "$(MODEL)" || { echo "Which model? make models lists them; then: make deploy MODEL=… ROLE=canary"; exit 2; }
	@$(PYTHON_OF_PROJECT) -m flywheel deploy $(USECASE) "$(MODEL)" $(if $(ROLE),--role "$(ROLE)") $(if $(SHARE),--share "$(SHARE)") $(ARGS)

rollback: environment-present  ## end the canary, or bring the champion before the present one back
	@$(PYTHON_OF_PROJECT) -m flywheel rollback $(USECASE) $(ARGS)

variant: environment-present  ## publish a smaller form of a model if it decides alike: MODEL=… KIND=int8|fp16
	@test -n "$(MODEL)" || { echo "Which model? make models lists them"; exit 2; }
	@$(PYTHON_OF_PROJECT) -m flywheel variant $(USECASE) "$(MODEL)" $(if $(KIND),--kind "$(KIND)") $(ARGS)

models: environment-present  ## show all models, their gates and their roles, and what was deployed last
	@$(PYTHON_OF_PROJECT) -m flywheel models $(USECASE)

rebuild: environment-present  ## fill the online store again from the lake: after its loss, or for newly declared features
	@$(PYTHON_OF_PROJECT) -m infra.local rebuild

erase: environment-present  ## delete a person from everything that is kept: ENTITY=card ID=c1; first only look: ARGS=--dry-run
	@test -n "$(ENTITY)" -a -n "$(ID)" || { echo "Whom? make erase ENTITY=card ID=c1"; exit 2; }
	@$(PYTHON_OF_PROJECT) -m flywheel erase $(USECASE) "$(ENTITY)" $(ID) $(ARGS)

mlflow: environment-present  ## open the model registry's own page until Ctrl-C; elsewhere than at port 5000: PORT=5001
	@$(PYTHON_OF_PROJECT) -m infra.local mlflow $(if $(filter command,$(origin PORT)),--port $(PORT))

test: environment-dev jars lint  ## install what testing needs, then check and test everything; a part: T=tests/unit
	@$(PYTHON_OF_PROJECT) -m pytest $(T)

test-containers: environment-dev  ## build the images, run the stack of docker-compose.yml in containers, and test it
	@$(PYTHON_OF_PROJECT) -m pytest -m containers tests/containers

test-scaled: environment-dev jars  ## run the stack of `make up-scaled` on ports of its own, and test it: about eight minutes
	@$(PYTHON_OF_PROJECT) -m pytest -m scaled tests/scaled

lint: environment-dev  ## style, strict types, import contracts
	@.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy && .venv/bin/lint-imports

loadtest: environment-present  ## load the running stack for two minutes, write a page: SCENARIO=step|steady|spike|soak|overload|fault
	@FLYWHEEL_USECASE=$(USECASE) $(PYTHON_OF_PROJECT) -m loadtests run $(or $(SCENARIO),step) \
		$(if $(CAPACITY),--capacity $(CAPACITY)) $(if $(STRETCH),--stretch $(STRETCH)) $(ARGS)

loadtest-compare: environment-present  ## is B faster than A? two results, or commits measured in turns: A=main~1 B=. ARGS="--pairs 5"
	@test -n "$(A)" -a -n "$(B)" || { echo "What with what? make loadtest-compare A=build/loadtests/….json B=….json, or A=main~1 B=."; exit 2; }
	@FLYWHEEL_USECASE=$(USECASE) $(PYTHON_OF_PROJECT) -m loadtests compare "$(A)" "$(B)" \
		$(if $(SCENARIO),--scenario $(SCENARIO)) $(if $(CAPACITY),--capacity $(CAPACITY)) $(if $(STRETCH),--stretch $(STRETCH)) $(ARGS)

figures-start: environment-dev  ## measure the first and a later start, and memory, in a clean clone
	@$(PYTHON_OF_PROJECT) -m benchmarks.start

figures-soak: environment-dev jars  ## measure MINUTES=30 of steady traffic: nothing lost, nothing growing
	@$(PYTHON_OF_PROJECT) -m loadtests.soak --minutes $(MINUTES)

figures-fraud: environment-dev jars  ## measure the trained model on the handbook's test protocol
	@$(PYTHON_OF_PROJECT) -m benchmarks.fraud

figures-features: environment-dev jars  ## measure freshness, reads, hot keys, recovery, rebuilding and training sets
	@$(PYTHON_OF_PROJECT) -m benchmarks.features

figures-serving: environment-dev jars  ## measure serving beside its alternatives and floors; a part: ARGS="--only overload"
	@$(PYTHON_OF_PROJECT) -m benchmarks.serving $(ARGS)

figures-containers: test-containers  ## measure starting, stopping, sizes and memory of the containers: what their tests see

figures-render: environment-dev  ## rewrite the documents' tables from measured figures
	@$(PYTHON_OF_PROJECT) -m benchmarks.render $(ARGS)

lock: environment-dev  ## resolve the dependencies anew and lock them by digest
	@for each in bootstrap run dev images; do infra/lock.sh $$each; done

capacity: environment-dev  ## rewrite docs/capacity.md: machines, money and what breaks first, from measured figures
	@$(PYTHON_OF_PROJECT) -m infra.capacity $(ARGS)

audit: environment-dev  ## ask for known vulnerabilities of everything locked; another service: ARGS="--vulnerability-service osv"
	@$(PYTHON_OF_PROJECT) -m infra.supply_chain audit $(ARGS)

sbom: environment-dev  ## write the bill of materials (CycloneDX) of every image to build/sbom
	@$(PYTHON_OF_PROJECT) -m infra.supply_chain bills

kubernetes: environment-dev  ## build the manifests and check them by the schemas of Kubernetes, offline
	@$(PYTHON_OF_PROJECT) -m infra.kubernetes validate

jars:
	@$(PYTHON_OF_PROJECT) -m infra.local jars

environment:
	@infra/setup.sh run

environment-dev:
	@infra/setup.sh dev

.PHONY: environment-present
environment-present:
	@test -f .venv/.installed || { echo "Nothing is installed here yet; start with: make up"; exit 1; }
