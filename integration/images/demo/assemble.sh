#!/bin/bash
# Puts the demonstration's rootfs together:   assemble.sh PACKAGES OUT
# PACKAGES is a folder with the unpacked Debian packages named in ../../src/demo_image.rs; OUT must not exist.
set -euo pipefail
packages=$1
out=$2
recipe=$(dirname "$(readlink -f "$0")")
# shellcheck source=integration/images/parts.sh
. "$recipe/../parts.sh"

cp -a "$recipe/rootfs/." "$out/"
cp "$packages/usr/sbin/conntrack" "$out/bin/"
add_docker
add_registry
make_hello
fill_registry hello:1.0
finish
