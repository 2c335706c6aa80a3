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

cp -a "$recipe/../demo/rootfs/." "$out/"
cp -a "$recipe/rootfs/." "$out/"
cp "$binaries/"{kubeadm,kubectl,kubelet} "$packages/usr/sbin/conntrack" "$out/bin/"
mkdir "$out/bin/cni"
cp "$packages/usr/lib/cni/"{bridge,firewall,host-local,loopback,portmap} "$out/bin/cni/"
add_docker
add_registry

# The control plane's images hold one program each. Their tags are those kubeadm v1.20.2 asks for.
for program in kube-apiserver kube-controller-manager kube-scheduler; do
    install -D -m 755 "$binaries/$program" "$work/$program/usr/local/bin/$program"
    make_image "$program" "$work/$program" --config.cmd "/usr/local/bin/$program"
done
add_program "$work/etcd" "$packages/usr/bin/etcd" /usr/local/bin/etcd
make_image etcd "$work/etcd" --config.cmd /usr/local/bin/etcd
install -D -m 755 "$binaries/pause" "$work/pause/pause"
make_image pause "$work/pause" --config.entrypoint /pause

# kube-proxy calls programs that set up the host's network. iptables speaks to nf_tables as Debian's own does: rules of
# both kinds on one host would not see each other.
proxy=$work/kube-proxy
install -D -m 755 "$binaries/kube-proxy" "$proxy/usr/local/bin/kube-proxy"
add_program "$proxy" "$packages/usr/sbin/xtables-nft-multi" /usr/sbin/xtables-nft-multi
for name in ip{,6}tables{,-save,-restore}; do ln -s xtables-nft-multi "$proxy/usr/sbin/$name"; done
cp -r "$packages/usr/lib/x86_64-linux-gnu/xtables" "$proxy/usr/lib/x86_64-linux-gnu/"
add_program "$proxy" "$packages/usr/sbin/conntrack" /usr/sbin/conntrack
add_program "$proxy" "$packages/usr/sbin/ipset" /usr/sbin/ipset
add_program "$proxy" "$packages/bin/kmod" /usr/bin/kmod
ln -s ../bin/kmod "$proxy/usr/sbin/modprobe"
make_image kube-proxy "$proxy" --config.cmd /usr/local/bin/kube-proxy

make_hello
fill_registry kube-{apiserver,controller-manager,scheduler,proxy}:v1.20.2 etcd:3.4.13-0 pause:3.2 hello:1.0
finish
