#!/bin/sh
# Installs a cargo tool that is missing:   cargo-tool.sh cargo-nextest
set -eu
command -v "$1" >/dev/null 2>&1 && exit 0
echo "installing: $1 (built from its sources once, some minutes)"
# A folder of its own: the tool's dependencies have nothing to do with ours.
CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/tools" exec cargo install --locked --quiet "$1"
