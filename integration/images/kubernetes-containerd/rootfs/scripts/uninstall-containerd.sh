#!/bin/bash
# Undoes containerd.sh.   uninstall-containerd.sh
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

rm -f /etc/systemd/system/containerd.service.new
if grep -qs '^# Came with a ClusterImage' /etc/systemd/system/containerd.service; then
    for namespace in $(ctr namespaces list --quiet); do
        for task in $(ctr --namespace "$namespace" tasks list --quiet); do
            ctr --namespace "$namespace" tasks rm --force "$task" >/dev/null
        done
        for container in $(ctr --namespace "$namespace" containers list --quiet); do
            ctr --namespace "$namespace" containers rm "$container"
        done
    done
    storage=$(sed -n 's/^root = "\(.*\)"/\1/p' /etc/containerd/config.toml)
    systemctl disable --now containerd.service
    end_leftovers containerd.service
    # Networks of pods.
    for network in /run/netns/cni-*; do
        [ -e "$network" ] || continue
        umount "$network"
        rm -f "$network"
    done
    unmount_below /run/containerd
    # Before the file that says where it is.
    rm -rf "${storage:-/var/lib/containerd}"
    rm -rf /etc/containerd /run/containerd /usr/lib/containerd-cri /opt/containerd
    for file in ../cri/*; do
        [ ! -f "$file" ] || rm -f "/usr/bin/$(basename "$file")"
    done
    # Last: by it an uninstallation that was cut off knows that this containerd came with the image.
    rm -f /etc/systemd/system/containerd.service
elif [ -e /etc/containerd/config.toml.before-cluster ]; then
    theirs=/etc/containerd/config.toml.before-cluster
    if [ -s "$theirs" ]; then
        cp -p "$theirs" /etc/containerd/config.toml
    else
        rm -f /etc/containerd/config.toml
    fi
    # Removed last: an uninstallation that was cut off restarts it once more.
    systemctl restart containerd.service
    rm -f "$theirs"
fi
