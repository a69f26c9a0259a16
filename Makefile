# Everything a developer or a CI machine calls. `make help` lists it; hack/ holds the scripts that do it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

export PATH := $(CURDIR)/target/tools/bin:$(CURDIR)/target/tools/go/bin:$(HOME)/.cargo/bin:$(PATH):/usr/sbin:/sbin

# Where `make install` puts things. The daemon looks for its programs beside itself, then in /usr/libexec/cleat.
DESTDIR ?=
bindir ?= /usr/local/bin
libexecdir := /usr/libexec/cleat
unitdir ?= /usr/lib/systemd/system

# Where the built programs are.
bin := target/cleat/bin

.PHONY: help
help: ## List the targets
	@echo 'Cleat, a container runtime for Kubernetes. Targets:'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: build
build: ## Build cleatd, cleat-conmon, cleat-runtime and cleat-pause into target/cleat/bin
	@hack/deps build
	@hack/build $(bin)

.PHONY: install
install: ## Install the built programs (DESTDIR, bindir, unitdir) and a systemd unit; run `make build` first
	@for program in cleatd cleat-conmon cleat-runtime cleat-pause; do \
		test -x $(bin)/$$program || { echo "$(bin)/$$program is missing: run make build" >&2; exit 1; }; done
	install -D -m 755 $(bin)/cleatd $(DESTDIR)$(bindir)/cleatd
	install -D -m 755 $(bin)/cleat-runtime $(DESTDIR)$(bindir)/cleat-runtime
	install -D -m 755 $(bin)/cleat-conmon $(DESTDIR)$(libexecdir)/cleat-conmon
	install -D -m 755 $(bin)/cleat-pause $(DESTDIR)$(libexecdir)/cleat-pause
	@mkdir -p $(DESTDIR)$(unitdir)
	sed 's|@bindir@|$(bindir)|' hack/cleat.service >$(DESTDIR)$(unitdir)/cleat.service

.PHONY: demo
demo: ## Build, then show a pod's whole life with crictl, in namespaces of its own (root)
	@hack/deps demo
	@hack/build $(bin)
	@hack/demo

.PHONY: run
run: build ## Build and run cleatd in the foreground with its default settings (root); ARGS="--log-level debug"
	@echo 'crictl --runtime-endpoint unix:///run/cleat/cleat.sock info   # in another terminal' >&2
	@exec $(bin)/cleatd $(ARGS)

.PHONY: check
check: ## Check formatting, lints, shell scripts and the layout of the source tree
	@hack/deps check
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	shellcheck .ci/run $$(grep -lE '^#!.*bash' hack/*)
	cargo test --quiet -p cleat-test-layout

.PHONY: unit
unit: ## Run the tests that need neither root nor other programs
	@hack/deps build
	@hack/run-tests unit

.PHONY: privileged
privileged: build ## Run the tests that need root and real components
	@hack/deps test
	@hack/run-tests privileged

.PHONY: test
test: ## Run every test there is: check, unit, privileged, demo, docker-compare, critest, vm-test ARGS=short (root; under 50 minutes on two cores)
	@hack/deps test
	@hack/stage '1/8 check' $(MAKE) check
	@hack/stage '2/8 build' $(MAKE) build
	@hack/stage '3/8 unit' $(MAKE) unit
	@hack/stage '4/8 privileged' $(MAKE) privileged
	@hack/stage '5/8 demo' $(MAKE) demo
	@hack/stage '6/8 docker-compare' $(MAKE) docker-compare
	@hack/stage '7/8 critest' $(MAKE) critest
	@if hack/vm-test --possible; then hack/stage '8/8 virtual machine' $(MAKE) vm-test ARGS=short; fi
	@echo 'test: everything passed'

.PHONY: critest
critest: build ## Run the CRI validation suite in namespaces of its own (root); ARGS="-ginkgo.focus=Networking"
	@hack/deps critest
	@hack/critest $(ARGS)

.PHONY: test-kubelet
test-kubelet: build ## Run cleatd under a real kubelet with static pods (root; some minutes the first time); ARGS="--pods 20"
	@hack/deps kubelet
	@hack/test-kubelet $(ARGS)

.PHONY: docker-compare
docker-compare: build ## Compare docker on cleatd with docker on Debian's dockerd, line by line (root); ARGS="--only logs"
	@hack/deps docker-compare
	@hack/docker-compare $(ARGS)

.PHONY: engines
engines: build ## Have containerd and podman use cleat-runtime in place of runc (root)
	@hack/deps engines
	@hack/engines

.PHONY: runtime-validation
runtime-validation: build ## Run the OCI's validation programs with cleat-runtime and with runc (root; four minutes)
	@hack/deps runtime-validation
	@hack/runtime-validation $(ARGS)

.PHONY: runc-tests
runc-tests: ## Run the runtime's privileged tests with Debian's runc (root)
	@hack/deps runtime-validation
	@hack/runc-tests

.PHONY: bench
bench: build ## Measure operations and memory (root); ARGS="--peer containerd", ARGS="--peer docker" or ARGS=--load
	@hack/deps demo $(if $(findstring docker,$(ARGS)),docker-compare)
	@hack/bench $(ARGS)

.PHONY: bench-runtime
bench-runtime: build ## Measure cleat-runtime beside runc, crun and the bare system calls (root); ARGS=100 for a hundred rounds
	@hack/deps bench-runtime
	@hack/bench-runtime $(ARGS)

.PHONY: bench-image
bench-image: build ## Measure pulls beside containerd and podman (root); ARGS=3 for three rounds
	@hack/deps bench-image
	@hack/bench-image $(ARGS)

.PHONY: vm-test
vm-test: build ## Run the tests that need cgroup v2, systemd or AppArmor in a virtual machine (root); ARGS="demo runtime"
	@hack/deps vm
	@hack/vm-test $(ARGS)

.PHONY: critest-vm
critest-vm: build ## Run the CRI validation suite in the virtual machine (root; about ten minutes); ARGS="-ginkgo.focus=AppArmor"
	@hack/deps vm
	@hack/critest-vm $(ARGS)
