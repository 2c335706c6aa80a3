#!/bin/bash
# Undoes init.sh and init-registry.sh; leaves a docker that this image did not install alone.
cd "$(dirname "$0")" || exit 1

if [ -f /etc/systemd/system/docker.service ] && cmp -s ../etc/docker.service /etc/systemd/system/docker.service; then
    containers=$(docker ps --all --quiet 2>/dev/null)
    # shellcheck disable=SC2086 # one word per container
    [ -z "$containers" ] || docker rm --force --volumes $containers >/dev/null
    storage=$(docker info --format '{{.DockerRootDir}}' 2>/dev/null)
    systemctl disable --now docker.service
    # Networks of containers that used the host's own stay mounted.
    awk '$5 ~ "^/run/docker/" { print $5 }' /proc/self/mountinfo | while read -r mount; do umount "$mount"; done
    rm -rf /etc/docker "${storage:-/var/lib/docker}" /run/docker /run/docker.sock /run/docker.pid /usr/lib/docker-cri
    rm -f /etc/systemd/system/docker.service
    for file in ../cri/*; do
        [ ! -f "$file" ] || rm -f "/usr/bin/$(basename "$file")"
    done
    ip link delete docker0 2>/dev/null
fi

if [ -f /etc/systemd/system/kubelet.service ]; then
    systemctl disable --now kubelet.service
    rm -rf /etc/systemd/system/kubelet.service /etc/systemd/system/kubelet.service.d /var/lib/kubelet
fi
for file in ../bin/*; do
    rm -f "/usr/bin/$(basename "$file")"
done
rm -f /usr/bin/kubelet-pre-start.sh /etc/sysctl.d/k8s.conf
systemctl daemon-reload
echo "$(hostname) is clean"
