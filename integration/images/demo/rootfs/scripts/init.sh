#!/bin/bash
# Makes this host ready for a cluster.   init.sh [STORAGE] [DOMAIN] [PORT]
# Called in the folder it lies in, as all scripts here are.
STORAGE=${1:-/var/lib/docker}
DOMAIN=${2:-sea.hub}
PORT=${3:-5000}
set -e
bash docker.sh "$STORAGE" "$DOMAIN" "$PORT"
bash init-kube.sh
