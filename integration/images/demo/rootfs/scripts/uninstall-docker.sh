#!/bin/bash
# Undoes docker.sh.   uninstall-docker.sh
cd "$(dirname "$0")" || exit 1

unmount_below() {
    awk -v folder="$1/" 'index($5, folder) == 1 { print $5 }' /proc/self/mountinfo | tac |
        while read -r mount; do umount "$mount"; done
}

# A shim ends by itself once it was told that its container is gone. Where the runtime was stopped first, nobody tells it.
end_leftovers() {
    for group in /sys/fs/cgroup/{,systemd/}system.slice/"$1"/cgroup.procs; do
        [ ! -f "$group" ] || xargs --no-run-if-empty kill -KILL <"$group"
    done
}

rm -f /etc/systemd/system/docker.service.new
if grep -qs '^# Came with a ClusterImage' /etc/systemd/system/docker.service; then
    containers=$(docker ps --all --quiet 2>/dev/null)
    # shellcheck disable=SC2086 # one word per container
    [ -z "$containers" ] || docker rm --force --volumes $containers >/dev/null
    storage=$(sed -n 's/.*"data-root": "\([^"]*\)".*/\1/p' /etc/docker/daemon.json 2>/dev/null)
    systemctl disable --now docker.service
    end_leftovers docker.service
    # Networks of containers that used the host's own stay mounted.
    unmount_below /run/docker
    # Before the file that says where it is.
    rm -rf "${storage:-/var/lib/docker}"
    rm -rf /etc/docker /run/docker /run/docker.sock /run/docker.pid /usr/lib/docker-cri /opt/containerd
    for file in ../cri/*; do
        [ ! -f "$file" ] || rm -f "/usr/bin/$(basename "$file")"
    done
    ip link delete docker0 2>/dev/null
    # Its rules, and that nothing passes which it does not know.
    for family in iptables ip6tables; do
        rules=$("$family-save" 2>/dev/null)
        grep -q DOCKER <<<"$rules" || continue
        grep -Ev 'DOCKER|docker0' <<<"$rules" | sed 's/^:FORWARD DROP/:FORWARD ACCEPT/' | "$family-restore"
    done
    # Last: by it an uninstallation that was cut off knows that this docker came with the image.
    rm -f /etc/systemd/system/docker.service
elif [ -e /etc/docker/daemon.json.before-cluster ]; then
    # Of its containers only the one that init-registry.sh made goes; those of pods went with kubeadm's reset.
    docker rm --force --volumes sealer-registry >/dev/null 2>&1
    theirs=/etc/docker/daemon.json.before-cluster
    if [ -s "$theirs" ]; then
        cp -p "$theirs" /etc/docker/daemon.json
    else
        rm -f /etc/docker/daemon.json
    fi
    # Removed last: an uninstallation that was cut off restarts it once more.
    systemctl restart docker.service
    rm -f "$theirs"
fi
