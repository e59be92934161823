# One command each: `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

DEVICE ?= cpu
PROFILE ?= release
export DEVICE
# The library path serves target folders outside the checkout; inside it the rpath does.
empty :=
NVIDIA_LIBS = $(subst $(empty) ,:,$(wildcard $(CURDIR)/.libtorch/nvidia/*/lib))
export LD_LIBRARY_PATH = $(CURDIR)/.libtorch/lib:$(NVIDIA_LIBS)
CARGO_FEATURES := $(if $(filter cuda,$(DEVICE)),--features esta-worker/cuda,)

.PHONY: help
help: ## What there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1\t\2/' | expand -t 16

.PHONY: setup
setup: ## Install what building needs: compiler parts, libtorch
	@./scripts/provision-libtorch.sh

.PHONY: data
data: ## Bring the small real data sets
	@./scripts/fetch-data.sh

.PHONY: build
build: setup ## Build coordinator and worker
	cargo build --profile $(PROFILE) -p esta-coordinator -p esta-worker $(CARGO_FEATURES)

.PHONY: quickstart
quickstart: build data ## From images to a palette of adapted models, on this machine; SEED=1 for another run over the same anchors
	@./scripts/quickstart.sh

.PHONY: quickstart-llm
quickstart-llm: build ## From manual pages to a palette of language models that answer questions about them
	@./scripts/fetch-manpages.sh
	@./scripts/quickstart-llm.sh

.PHONY: alone
alone: ## After quickstart: tune each anchor alone and add the results to its report as stars
	@./scripts/study/alone.sh

.PHONY: alone-llm
alone-llm: ## After quickstart-llm: tune both anchors alone and add the results to its report as stars
	@./scripts/study/alone-llm.sh

.PHONY: reproduce
reproduce: build ## The paper's claims measured again, on one page; STUDY=equal-time for another; TASK=cars DATA=... WEIGHTS=... for ViT-Ti/S/B
	@./scripts/reproduce.sh

.PHONY: test
test: setup data ## Everything that has to pass
	@./scripts/test.sh

SEEDS ?= 10000
FIRST ?= 1

.PHONY: sim
sim: setup ## Simulations of SEEDS seeds from FIRST on, in virtual time: laws under deaths, pauses, partitions and slow disks
	cargo run --release -p esta-sim -- --first $(FIRST) --seeds $(SEEDS)

.PHONY: fuzz
fuzz: setup ## Spoilt messages, tokens, records and job files of SEEDS seeds from FIRST on; a seed that fails says how to run it again
	FUZZ_FIRST=$(FIRST) FUZZ_SEEDS=$(SEEDS) cargo test -p esta-sim --test reports whatever_somebody
	FUZZ_FIRST=$(FIRST) FUZZ_SEEDS=$(SEEDS) cargo test -p esta-sim --test spoilt
	FUZZ_FIRST=$(FIRST) FUZZ_SEEDS=$(SEEDS) cargo test -p esta-config --test fuzz
	FUZZ_FIRST=$(FIRST) FUZZ_SEEDS=$(SEEDS) cargo test -p esta-coordinator --lib spoilt

.PHONY: soak
soak: build ## After quickstart: its training with a worker killed every EVERY=4 seconds: the same bits as in peace
	@./scripts/soak.sh

.PHONY: bench
bench: setup data ## Speed, memory and bytes, beside plain PyTorch, transformers and peft; after quickstart a real run as well
	@./scripts/bench.sh

.PHONY: lint
lint: setup ## Format, lints, documentation
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

.PHONY: images
images: ## Carry out the Dockerfile's steps in a clean root, without an engine, and start what comes out; needs root
	@./scripts/image-check.sh coordinator worker

.PHONY: check-cuda
check-cuda: ## Build and link the GPU path against a CUDA libtorch; needs no GPU
	DEVICE=cuda ./scripts/provision-libtorch.sh
	cargo build -p esta-worker --features cuda --target-dir target/cuda

.PHONY: clean
clean: ## Remove what was built; caches outside the checkout stay
	rm -rf target runs .cache .libtorch

.PHONY: test-all
test-all: test ## The tests, and what needs PyTorch: exported models computed again by the modelling file and by timm
	@./scripts/test-export.sh
	@./scripts/test-export-llm.sh
