#!/bin/bash
# Serves DIR as the cluster's registry.   init-registry.sh [PORT] [DIR]
PORT=${1:-5000}
DIR=${2:-/var/lib/registry}
set -e

docker load --quiet --input ../images/registry.tar
if docker inspect sealer-registry >/dev/null 2>&1; then
    docker rm --force sealer-registry >/dev/null
fi
docker run --detach --restart=always --net=host --name sealer-registry \
    --env "REGISTRY_HTTP_ADDR=:$PORT" --volume "$DIR:/var/lib/registry" registry:2 >/dev/null

for _ in $(seq 60); do
    if (exec 3<>"/dev/tcp/127.0.0.1/$PORT") 2>/dev/null; then
        echo "the registry serves $DIR on port $PORT"
        exit 0
    fi
    [ "$(docker inspect --format '{{.State.Running}}' sealer-registry)" = true ] || break
    sleep 0.5
done
echo "the registry does not serve on port $PORT; it said:" >&2
docker logs --tail 20 sealer-registry >&2
exit 1
