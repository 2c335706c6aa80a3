#!/bin/bash
# Installs containerd from ../cri and starts it.   containerd.sh
# ContainerDataRoot, in the environment, is where it keeps its data.
STORAGE=${ContainerDataRoot:-/var/lib/containerd}
set -e

if command -v containerd >/dev/null; then
    echo "containerd is installed already: $(command -v containerd)"
else
    echo "installing containerd"
    find ../cri -maxdepth 1 -type f -exec install -m 755 -t /usr/bin {} +
    mkdir -p /usr/lib/containerd-cri
    cp -d ../cri/lib/* /usr/lib/containerd-cri/
    install -m 644 ../etc/containerd.service /etc/systemd/system/containerd.service
    systemctl daemon-reload
    systemctl enable containerd.service
fi

mkdir -p /etc/containerd
wanted=$(sed "s#/var/lib/containerd#$STORAGE#" ../etc/containerd-config.toml)
if [ "$wanted" = "$(cat /etc/containerd/config.toml 2>/dev/null)" ] && systemctl is-active --quiet containerd.service; then
    echo "containerd runs with this configuration already"
else
    echo "$wanted" >/etc/containerd/config.toml
    systemctl restart containerd.service
fi
ctr version
