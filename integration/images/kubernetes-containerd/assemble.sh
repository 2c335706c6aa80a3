#!/bin/bash
# Puts the rootfs of Kubernetes v1.20.2 on containerd together:   assemble.sh PACKAGES BINARIES OUT
# PACKAGES is a folder with the unpacked Debian packages named in ../../src/kubernetes_image.rs, BINARIES is what
# ../kubernetes/binaries.sh made; OUT must not exist. Everything but the container runtime is that of ../kubernetes.
set -euo pipefail
packages=$1
binaries=$2
out=$3
recipe=$(dirname "$(readlink -f "$0")")
# shellcheck source=integration/images/parts.sh
. "$recipe/../parts.sh"
# shellcheck source=integration/images/kubernetes/parts.sh
. "$recipe/../kubernetes/parts.sh"

cp -a "$recipe/../demo/rootfs/." "$out/"
cp -a "$recipe/../kubernetes/rootfs/." "$out/"
# Docker goes, and the registry's container with it: agents serve registry/.
rm "$out/scripts/"{init,init-registry,docker,uninstall-docker}.sh "$out/etc/"{docker.service,daemon.json}
rmdir "$out/images"
cp -a "$recipe/rootfs/." "$out/"
add_runtime
add_kubernetes
make_control_plane
make_hello
fill_registry "${control_plane[@]}" hello:1.0
finish
