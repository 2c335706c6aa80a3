# Everything a person or CI does here. Each goal installs what it needs (Debian packages as root, cargo tools).
#
#   make build    both programs, static, in target/
#   make package  .deb and .rpm of both programs in target/packages/
#   make test     fast tests, then the two real programs on real hosts (root)
#   make long-test  what takes too long for every change: three control planes through their whole life (root)
#   make demo     three hosts, one Clusterfile, a running container (root)
#   make bench    Gantry's figures beside other tools', measured in one run (root); ARGS="stage-tree --rounds 3"
#   make chaos    a fault at every step of a cluster's life, and the same command again (root); ARGS="--kubernetes --life"
#   make fuzz     everything that reads what others wrote, given to libFuzzer for a while; ARGS="kubefile --seconds 60"
#   make lint     format, clippy, docs, rules of the repository, dependencies

SHELL := /bin/bash
export PATH := $(HOME)/.cargo/bin:$(PATH)
CARGO_TARGET_DIR ?= target
export CARGO_TARGET_DIR

.PHONY: help build package test fast-test product-test long-test demo bench chaos fuzz lint clean
help:
	@sed -n 's/^#   //p' Makefile

build:
	@integration/prerequisites.sh build
	cargo xtask package --programs-only

package:
	@integration/prerequisites.sh build
	cargo xtask package

test: fast-test product-test

fast-test:
	@integration/prerequisites.sh build
	@integration/cargo-tool.sh cargo-nextest
	cargo nextest run --workspace --locked
	cargo test --workspace --locked --doc --quiet

product-test: package
	@integration/prerequisites.sh test
	@integration/cargo-tool.sh cargo-nextest
	cargo nextest run --profile product --package gantry-integration --locked

long-test: package
	@integration/prerequisites.sh test
	@integration/cargo-tool.sh cargo-nextest
	cargo nextest run --profile long --package gantry-integration --locked

demo: package
	@integration/prerequisites.sh test
	cargo run --quiet --locked --package gantry-integration --bin demo

bench: package
	@integration/prerequisites.sh bench
	cargo run --quiet --locked --release --package gantry-integration --bin bench -- $(ARGS)

chaos: package
	@integration/prerequisites.sh test
	cargo run --quiet --locked --package gantry-integration --bin chaos -- $(ARGS)

fuzz:
	@integration/prerequisites.sh fuzz
	cargo xtask fuzz $(ARGS)

lint:
	@integration/prerequisites.sh build
	@integration/cargo-tool.sh cargo-deny
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --quiet
	cargo xtask tidy
	cargo deny --locked check licenses bans sources
	@integration/advisories.sh

clean:
	cargo clean
