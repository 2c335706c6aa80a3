#!/bin/bash
# Puts the rootfs of kubernetes:v1.20.2 together:   assemble.sh PACKAGES BINARIES OUT
# PACKAGES is a folder with the unpacked Debian packages named in ../../src/kubernetes_image.rs, BINARIES is what
# binaries.sh made; OUT must not exist. Docker, the registry and all scripts are the demonstration's.
set -euo pipefail
packages=$1
binaries=$2
out=$3
recipe=$(dirname "$(readlink -f "$0")")
# shellcheck source=integration/images/parts.sh
. "$recipe/../parts.sh"
# shellcheck source=integration/images/kubernetes/parts.sh
. "$recipe/parts.sh"

cp -a "$recipe/../demo/rootfs/." "$out/"
cp -a "$recipe/rootfs/." "$out/"
add_docker
add_registry
add_kubernetes
make_control_plane
make_hello
fill_registry "${control_plane[@]}" hello:1.0
finish
