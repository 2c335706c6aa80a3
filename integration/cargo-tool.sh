#!/bin/sh
# Installs a cargo tool that is missing:   cargo-tool.sh cargo-nextest
set -eu
command -v "$1" >/dev/null 2>&1 && exit 0
echo "installing: $1 (built from its sources once, some minutes)"
# A folder of its own, gone afterwards: the tool's dependencies have nothing to do with ours.
CARGO_TARGET_DIR=$(mktemp -d)
export CARGO_TARGET_DIR
trap 'rm -rf "$CARGO_TARGET_DIR"' EXIT
cargo install --locked --quiet "$1"
