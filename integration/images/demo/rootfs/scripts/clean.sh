#!/bin/bash
# Undoes what the other scripts did, and removes a cluster that kubeadm made of this host; leaves a container runtime that
# this image did not install alone.
cd "$(dirname "$0")" || exit 1

unmount_below() {
    awk -v folder="$1/" 'index($5, folder) == 1 { print $5 }' /proc/self/mountinfo | tac |
        while read -r mount; do umount "$mount"; done
}

# A process that was killed leaves its group a moment later, and so does what a container left behind.
remove_pod_groups() {
    for _ in {1..100}; do
        # 0 stands for a process outside of this host's own table.
        find /sys/fs/cgroup -path '*/kubepods*' -name cgroup.procs -exec cat {} + 2>/dev/null | grep -vx 0 |
            xargs --no-run-if-empty kill -KILL 2>/dev/null
        find /sys/fs/cgroup -depth -type d -path '*/kubepods*' -exec rmdir {} + 2>/dev/null
        [ -n "$(find /sys/fs/cgroup -type d -path '*/kubepods*' -print -quit)" ] || return 0
        sleep 0.1
    done
    echo "control groups of pods cannot be removed: $(find /sys/fs/cgroup -type d -path '*/kubepods*' -print -quit)" >&2
}

# A unit's file goes last of all that came with it: as long as it is there, a clean.sh that was cut off has something left to do.
if [ -f /etc/systemd/system/pod-network.path ]; then
    systemctl disable --now pod-network.path pod-network.service
    ip route flush protocol 77
    rm -f /usr/bin/pod-network.sh /usr/share/pod-network.conflist
    rm -f /etc/systemd/system/pod-network.service /etc/systemd/system/pod-network.path
fi

# Kubelet goes first: it would start its containers again.
if [ -f /etc/systemd/system/kubelet.service ]; then
    systemctl disable --now kubelet.service
    kubelet=ours
fi

for runtime in uninstall-*.sh; do bash "$runtime"; done

if [ "$kubelet" = ours ]; then
    unmount_below /var/lib/kubelet
    rm -rf /etc/kubernetes /run/kubernetes /usr/libexec/kubernetes /var/lib/{kubelet,dockershim,etcd}
    # Made for kube-proxy where there are no modules.
    rmdir /lib/modules 2>/dev/null
    remove_pod_groups
    # The rules that lead to pods and services.
    for family in iptables ip6tables; do
        "$family-save" 2>/dev/null | grep -Ev 'KUBE-|CNI-' | "$family-restore"
    done
    rm -rf /etc/systemd/system/kubelet.service.d
    rm -f /etc/systemd/system/kubelet.service
fi
if [ -d ../bin/cni ]; then
    ip link delete cni0 2>/dev/null
    rm -rf /opt/cni /etc/cni /var/lib/cni
fi
for file in ../bin/*; do
    [ ! -f "$file" ] || rm -f "/usr/bin/$(basename "$file")"
done
rm -f /usr/bin/kubelet-pre-start.sh /etc/sysctl.d/k8s.conf /etc/systemd/system/{kubelet.service,pod-network.path,pod-network.service}.new
systemctl daemon-reload
echo "$(hostname) is clean"
