#!/bin/bash
# Puts the rootfs of kubernetes:v1.20.3 together, what a cluster of v1.20.2 is taken to:   assemble.sh PACKAGES BINARIES OUT
# A stand-in for the release: the same programs, linked with another version, which is as long. Docker is configured anew.
# For the rest see ../kubernetes/assemble.sh.
set -euo pipefail
packages=$1
binaries=$2
out=$3
recipe=$(dirname "$(readlink -f "$0")")
next=v1.20.3

relinked=$(mktemp -d)
trap 'rm -rf "$relinked"' EXIT
cp "$binaries/"* "$relinked/"
LC_ALL=C sed --in-place "s/v1\\.20\\.2/$next/g" "$relinked/"kube*
version=$next "$recipe/../kubernetes/assemble.sh" "$packages" "$relinked" "$out"
sed --in-place "s/v1\\.20\\.2/$next/g" "$out/"{Metadata,etc/Clusterfile,etc/kubeadm-config.yaml}
sed --in-place 's/"max-concurrent-downloads": 20/"max-concurrent-downloads": 10/' "$out/etc/daemon.json"
