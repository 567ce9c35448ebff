# calico-rs: `make demo` shows it working, `make test` checks everything. Both install what they need first.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build

TARGET    := x86_64-unknown-linux-musl
TARGETDIR := $(or $(CARGO_TARGET_DIR),target)
BINARY    := $(TARGETDIR)/$(TARGET)/release/calico
DATASTORE ?= embedded
LOGS      := $(TARGETDIR)/logs

# Kubernetes' programs, built once by their Go modules, kept outside the tree.
PARTS     := $(HOME)/.cache/calico-lab
export CALICO_LAB_PARTS := $(PARTS)

# What clusters of the tests run; those that need it are skipped where it is not built.
export CALICO_K8S_IMAGE := $(abspath $(TARGETDIR))/image/calico.tar

# The CNI project's reference runtime, which judges our plugin; built where there is Go, kept outside the tree.
CNITOOL   := $(HOME)/.cache/calico-lab/bin/cnitool

# What building and testing need of Debian: a compiler for musl (SQLite), protoc (etcd's API), the real parts that nodes
# and tests run (BIRD, etcd, nginx, nftables, iproute2), and the keys by which the image's packages are checked.
PACKAGES := build-essential musl-tools protobuf-compiler libprotobuf-dev bird2 etcd-server nginx-light nftables \
            iproute2 curl iputils-ping conntrack containernetworking-plugins procps iptables ipset ethtool \
            debian-archive-keyring
# What boots the machines of the qemu lab.
QEMU_PACKAGES := qemu-system-x86
# What a node of the Kubernetes lab runs, and what its images are made of. None of these starts a daemon here.
K8S_PACKAGES := containerd runc busybox
# Routers that are none of ours, for the labs of BGP. Their services stay off.
BGP_PACKAGES := frr gobgpd

.PHONY: build setup qemu-parts test-qemu k8s-setup k8s-parts k8s-parts-begin k8s-parts-end k8s-smoke test-k8s \
        cyclonus-parts test-cyclonus bgp-setup test-bgp lab-reflectors lab-racks demo demo-k8s test fmt clippy unit tidy \
        lab-tests deny tiers races cross image image-load manifests fuzz clean help

help: ## Show the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# install-missing PACKAGES: those Debian packages that are not there yet. Meanwhile Debian's policy-rc.d keeps their
# daemons from being started.
define install-missing
	@missing=""; for p in $(1); do \
	  dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then \
	  sudo=""; [ "$$(id -u)" = 0 ] || sudo=sudo; \
	  echo "… installing:$$missing"; \
	  policy=/usr/sbin/policy-rc.d; \
	  [ -e $$policy ] || { printf '#!/bin/sh\nexit 101\n' | $$sudo tee $$policy >/dev/null; $$sudo chmod 755 $$policy; \
	    trap "$$sudo rm -f $$policy" EXIT; }; \
	  $$sudo apt-get update -qq; \
	  DEBIAN_FRONTEND=noninteractive $$sudo apt-get install -y -qq --no-install-recommends $$missing >/dev/null; fi
endef

setup: ## Install missing Debian packages and the rustup target
	$(call install-missing,$(PACKAGES))
	@rustup target list --installed | grep -qx $(TARGET) || rustup target add $(TARGET)
	@[ -x $(CNITOOL) ] || ! command -v go >/dev/null || { echo "… building cnitool"; \
	  GOBIN=$(dir $(CNITOOL)) GOFLAGS=-modcacherw go install github.com/containernetworking/cni/cnitool@v1.3.0 || \
	  echo "… no cnitool; its tests will be skipped"; }

k8s-setup: setup
	$(call install-missing,$(K8S_PACKAGES))

k8s-parts: k8s-setup ## Build Kubernetes' programs into ~/.cache/calico-lab (15 CPU minutes the first time)
	@command -v go >/dev/null || [ -x $(PARTS)/bin/hyperkube ] || { echo "k8s-parts: needs Go 1.26 or newer" >&2; exit 1; }
	crates/lab/k8s/build $(PARTS)

# The same while something else is compiled: whoever needs the parts waits for this.
k8s-parts-begin: k8s-setup
	@mkdir -p $(LOGS)
	@if command -v go >/dev/null; then crates/lab/k8s/build $(PARTS) >$(LOGS)/k8s-parts.log 2>&1 & \
	else echo "… no go: tests on Kubernetes will be skipped"; fi

k8s-parts-end: k8s-parts-begin
	@! command -v go >/dev/null || crates/lab/k8s/build $(PARTS)

k8s-smoke: k8s-parts image ## A Kubernetes cluster comes, works with what we ship, and goes
	cargo test --quiet --locked --package calico --test k8s_smoke -- --nocapture

test-k8s: k8s-parts image ## Every test on Kubernetes: kube-proxy's modes, both families, rolls, kills
	CALICO_K8S_CASES=all cargo test --quiet --locked --package calico --test k8s_smoke --test k8s_roll --test k8s_churn \
	  --test k8s_crash --test k8s_services -- --nocapture

qemu-parts: setup ## Debian's kernel for the qemu lab, unpacked into ~/.cache/calico-lab/qemu
	$(call install-missing,$(QEMU_PACKAGES))
	crates/lab/qemu/parts $(PARTS)/qemu

test-qemu: qemu-parts build ## What this kernel may not have, on two emulated machines with Debian's: IPIP (some minutes)
	suite=$$(cargo test --quiet --locked --package calico-linux --lib --no-run --message-format=json 2>/dev/null | \
	  sed -nE 's/.*"executable":"([^"]*calico_linux-[^"]*)".*/\1/p'); \
	CALICO_QEMU_PARTS=$(PARTS)/qemu CALICO_QEMU_SUITE=$$suite CALICO_BINARY=$(abspath $(BINARY)) \
	  cargo test --quiet --locked --package calico --test qemu_ipip -- --nocapture

# Everything but SCTP, whose sockets not every kernel has, and the 90 cases of two peers each, which take half an hour.
CYCLONUS ?= --exclude sctp,multi-peer

cyclonus-parts: k8s-setup
	crates/lab/k8s/cyclonus/build $(PARTS)

test-cyclonus: k8s-parts cyclonus-parts image ## cyclonus judges network policy on three nodes (CYCLONUS="--include end-port")
	@mkdir -p $(LOGS)
	crates/lab/k8s/cyclonus/run $(BINARY) $(TARGETDIR)/image/calico.tar $(LOGS) $(CYCLONUS)

bgp-setup: setup
	$(call install-missing,$(BGP_PACKAGES))

# One lab at a time: what is timed must not wait for another lab.
test-bgp: bgp-setup ## BGP: reflectors, racks, speakers of others, restarts in a mesh (15 minutes)
	CALICO_BGP_CASES=all cargo test --quiet --locked --package calico --test lab_bgp_reflectors --test lab_bgp_racks \
	  --test lab_bgp_peers --test lab_bgp_restarts -- --nocapture --test-threads 1

lab-reflectors lab-racks: build bgp-setup ## Twelve nodes with two reflectors; two racks with FRR. They stay up: docs/lab-bgp.md
	$(if $(filter 0,$(shell id -u)),,sudo) $(BINARY) lab up --topology $(@:lab-%=%)
	$(if $(filter 0,$(shell id -u)),,sudo) $(BINARY) lab status

build: setup ## Build the binary (release) and print its size
	cargo build --release --locked --package calico
	@printf 'calico: %s, %s bytes, %s\n' "$(BINARY)" "$$(stat -c %s $(BINARY))" \
	  "$$(file -b $(BINARY) 2>/dev/null | grep -oE 'static(-pie|ally) linked' || echo 'see ldd')"

demo: build ## Three nodes, workloads, BGP, policy, real requests (DATASTORE=embedded|etcd, KEEP=1)
	$(if $(filter 0,$(shell id -u)),,sudo) $(BINARY) lab demo --datastore $(DATASTORE) $(if $(KEEP),--keep)

demo-k8s: k8s-parts image ## The policy story on a real Kubernetes cluster (KEEP=1 leaves it up)
	$(if $(filter 0,$(shell id -u)),,sudo) $(BINARY) lab k8s demo --nodes 2 --parts $(PARTS) --image $(TARGETDIR)/image/calico.tar $(if $(KEEP),--keep)

test: setup k8s-parts-begin fmt clippy deny image k8s-parts-end unit lab-tests tiers ## Everything that continuous integration runs
	@.ci/summary $(LOGS)

fmt:
	cargo fmt --all --check

# The fuzz targets are a workspace of their own: their lock file must follow this one's.
clippy:
	cargo metadata --quiet --locked --format-version 1 --manifest-path fuzz/Cargo.toml >/dev/null
	cargo clippy --workspace --all-targets --locked -- -D warnings

unit: ## Unit, property, contract and tidy tests
	@mkdir -p $(LOGS); echo "… unit and contract tests (log: $(LOGS)/unit.log)"
	cargo test --workspace --locked --no-fail-fast -- --show-output >$(LOGS)/unit.log 2>&1 || { \
	  grep -E '^(test .*FAILED|error|---- .* stdout|thread .*panicked)' -A4 $(LOGS)/unit.log; exit 1; }
	@awk '/^test result/ {p += $$4; f += $$6} END {printf "unit: %d passed, %d failed\n", p, f}' $(LOGS)/unit.log

tidy:
	cargo run --quiet --package xtask -- tidy

lab-tests: build ## The demo on both datastores: real nodes, real packets
	@mkdir -p $(LOGS)
	for d in embedded etcd; do \
	  $(BINARY) lab --dir /run/calico-lab-test demo --datastore $$d >$(LOGS)/lab-$$d.log 2>&1 || \
	    { cat $(LOGS)/lab-$$d.log; exit 1; }; \
	  tail -n 1 $(LOGS)/lab-$$d.log; done

races: build ## Race the peer's figures: letter name figure unit peer ratio
	cargo bench --quiet --locked -p calico-selector --bench label_index 2>/dev/null | grep -E '^E '
	cargo bench --quiet --locked -p calico-calc --bench races 2>/dev/null | grep -E '^[AD] '
	cargo run --quiet --release --locked -p calico-ipam --example assignments | grep -E '^L '
	for d in etcd embedded; do \
	  $(BINARY) lab --dir /run/calico-lab-races up --nodes 2 --datastore $$d 2>/dev/null; \
	  $(BINARY) lab --dir /run/calico-lab-races race cni || { $(BINARY) lab --dir /run/calico-lab-races down; exit 1; }; \
	  for v in none any; do \
	    $(BINARY) lab --dir /run/calico-lab-races race restart --victim $$v 2>/dev/null || \
	      { $(BINARY) lab --dir /run/calico-lab-races down; exit 1; }; done; \
	  $(BINARY) lab --dir /run/calico-lab-races down; done

# A linker and C compiler for other systems, from PyPI, kept outside the tree.
ZIG := $(HOME)/.cache/calico-lab/zig
CROSS_TARGET := aarch64-unknown-linux-musl
MAC_TARGET := aarch64-apple-darwin

cross: setup ## An arm64 Linux binary, and calicoctl's library for macOS
	@[ -x $(ZIG)/bin/cargo-zigbuild ] || { python3 -m venv $(ZIG); $(ZIG)/bin/pip install --quiet ziglang cargo-zigbuild; }
	rustup target add $(CROSS_TARGET) $(MAC_TARGET)
	PATH=$(ZIG)/bin:$$PATH $(ZIG)/bin/cargo-zigbuild zigbuild --release --locked --package calico --target $(CROSS_TARGET)
	PATH=$(ZIG)/bin:$$PATH $(ZIG)/bin/cargo-zigbuild zigbuild --release --locked --package calico-ctl --target $(MAC_TARGET)
	@file -b $(TARGETDIR)/$(CROSS_TARGET)/release/calico

VERSION := $(shell sed -nE '/^\[workspace.package\]/,/^\[/ s/^version = "(.*)"/\1/p' Cargo.toml)
# The name that the manifests say; another is for `make image` and `make -C install install` alike.
IMAGE   ?= localhost/calico:$(VERSION)
CROSSED := $(wildcard $(TARGETDIR)/$(CROSS_TARGET)/release/calico)

image: build ## The container image (also for arm64 where `make cross` has built it): target/image
	@deploy/image/build --name $(IMAGE) --out $(TARGETDIR)/image --binary amd64=$(BINARY) \
	  $(if $(CROSSED),--binary arm64=$(CROSSED))

image-load: ## Load the image into this machine's containerd, or with TO=kind or TO=minikube into their nodes
	@deploy/image/load $(TARGETDIR)/image $(or $(TO),containerd)

manifests: ## Write deploy/*.yaml and deploy/crds again from their tables
	cargo xtask crds
	cargo xtask manifests

fuzz: ## Every decoder under libFuzzer for FUZZ_SECONDS (600) each, two at a time; needs rustup
	@rustup toolchain list | grep -q '^nightly' || rustup toolchain install nightly --profile minimal
	CARGO_TARGET_DIR=$(abspath $(TARGETDIR))/fuzz fuzz/run

deny: ## Licences, sources and bans of dependencies
	@command -v cargo-deny >/dev/null || cargo install cargo-deny --quiet --locked --target $$(rustc -vV | sed -n 's/host: //p')
	cargo deny --log-level error check licenses bans sources

tiers: ## Fail where a tier that continuous integration requires did not run
	@.ci/check-tiers $(LOGS) $(CALICO_REQUIRE_TIERS)

clean:
	cargo clean
