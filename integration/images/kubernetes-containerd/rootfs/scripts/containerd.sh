#!/bin/bash
# Installs containerd from ../cri and starts it.   containerd.sh
# ContainerDataRoot, in the environment, is where it keeps its data.
STORAGE=${ContainerDataRoot:-/var/lib/containerd}
set -e

unit=/etc/systemd/system/containerd.service
if command -v containerd >/dev/null && ! grep -qs '^# Came with a ClusterImage' $unit; then
    echo "containerd is installed already: $(command -v containerd)"
    # Its owner gets the configuration back from uninstall-containerd.sh; where there was none, the copy is empty.
    theirs=/etc/containerd/config.toml.before-cluster
    if [ ! -e "$theirs" ]; then
        mkdir -p /etc/containerd
        cat /etc/containerd/config.toml >"$theirs.new" 2>/dev/null || true
        mv "$theirs.new" "$theirs"
    fi
else
    echo "installing containerd"
    # The unit comes first, and at once: by it somebody else's containerd is told from one whose installation was cut off.
    if ! cmp -s ../etc/containerd.service $unit; then
        install -m 644 ../etc/containerd.service $unit.new
        mv $unit.new $unit
    fi
    for file in ../cri/*; do
        [ ! -f "$file" ] || cmp -s "$file" "/usr/bin/${file##*/}" || install -m 755 -t /usr/bin "$file"
    done
    mkdir -p /usr/lib/containerd-cri
    cp -d --remove-destination ../cri/lib/* /usr/lib/containerd-cri/
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
