#!/bin/bash
# Installs docker from ../cri and starts it.   docker.sh [STORAGE] [DOMAIN] [PORT]
STORAGE=${1:-/var/lib/docker}
DOMAIN=${2:-sea.hub}
PORT=${3:-5000}
set -e

unit=/etc/systemd/system/docker.service
if command -v dockerd >/dev/null && ! grep -qs '^# Came with a ClusterImage' $unit; then
    echo "docker is installed already: $(command -v dockerd)"
    # Its images and containers stay where they are.
    root=$(docker info --format '{{.DockerRootDir}}' 2>/dev/null) || root=
    STORAGE=${root:-$STORAGE}
    # Its owner gets the configuration back from uninstall-docker.sh; where there was none, the copy is empty.
    theirs=/etc/docker/daemon.json.before-cluster
    if [ ! -e "$theirs" ]; then
        mkdir -p /etc/docker
        cat /etc/docker/daemon.json >"$theirs.new" 2>/dev/null || true
        mv "$theirs.new" "$theirs"
    fi
else
    echo "installing docker"
    # The unit comes first, and at once: by it somebody else's docker is told from one whose installation was cut off.
    if ! cmp -s ../etc/docker.service $unit; then
        install -m 644 ../etc/docker.service $unit.new
        mv $unit.new $unit
    fi
    for file in ../cri/*; do
        [ ! -f "$file" ] || cmp -s "$file" "/usr/bin/${file##*/}" || install -m 755 -t /usr/bin "$file"
    done
    mkdir -p /usr/lib/docker-cri
    cp -d --remove-destination ../cri/lib/* /usr/lib/docker-cri/
    systemctl daemon-reload
    systemctl enable docker.service
fi

mkdir -p /etc/docker
wanted=$(sed -e "s#sea.hub:5000#$DOMAIN:$PORT#g" -e "s#/var/lib/docker#$STORAGE#" ../etc/daemon.json)
if [ "$wanted" = "$(cat /etc/docker/daemon.json 2>/dev/null)" ] && systemctl is-active --quiet docker.service; then
    echo "docker runs with this configuration already"
else
    echo "$wanted" >/etc/docker/daemon.json
    systemctl restart docker.service
fi
docker version --format 'docker {{.Server.Version}} serves'
