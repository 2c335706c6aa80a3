#!/bin/bash
# Installs docker from ../cri and starts it.   docker.sh [STORAGE] [DOMAIN] [PORT]
STORAGE=${1:-/var/lib/docker}
DOMAIN=${2:-sea.hub}
PORT=${3:-5000}
set -e

if command -v dockerd >/dev/null; then
    echo "docker is installed already: $(command -v dockerd)"
else
    echo "installing docker"
    find ../cri -maxdepth 1 -type f -exec install -m 755 -t /usr/bin {} +
    mkdir -p /usr/lib/docker-cri
    cp -d ../cri/lib/* /usr/lib/docker-cri/
    install -m 644 ../etc/docker.service /etc/systemd/system/docker.service
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
