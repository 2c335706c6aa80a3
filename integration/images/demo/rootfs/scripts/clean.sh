#!/bin/bash
# Undoes init.sh and init-registry.sh, and removes a cluster that kubeadm made of this host; leaves a docker that this
# image did not install alone.
cd "$(dirname "$0")" || exit 1

unmount_below() {
    awk -v folder="$1/" 'index($5, folder) == 1 { print $5 }' /proc/self/mountinfo | tac |
        while read -r mount; do umount "$mount"; done
}

if [ -f /etc/systemd/system/pod-network.path ]; then
    systemctl disable --now pod-network.path pod-network.service
    rm -f /etc/systemd/system/pod-network.* /usr/bin/pod-network.sh /usr/share/pod-network.conflist
    ip route flush protocol 77
fi

# Kubelet goes first: it would start its containers again.
if [ -f /etc/systemd/system/kubelet.service ]; then
    systemctl disable --now kubelet.service
    rm -rf /etc/systemd/system/kubelet.service /etc/systemd/system/kubelet.service.d
    kubelet=ours
fi

if [ -f /etc/systemd/system/docker.service ] && cmp -s ../etc/docker.service /etc/systemd/system/docker.service; then
    containers=$(docker ps --all --quiet 2>/dev/null)
    # shellcheck disable=SC2086 # one word per container
    [ -z "$containers" ] || docker rm --force --volumes $containers >/dev/null
    storage=$(docker info --format '{{.DockerRootDir}}' 2>/dev/null)
    systemctl disable --now docker.service
    # Networks of containers that used the host's own stay mounted.
    unmount_below /run/docker
    rm -rf /etc/docker "${storage:-/var/lib/docker}" /run/docker /run/docker.sock /run/docker.pid /usr/lib/docker-cri \
        /opt/containerd
    rm -f /etc/systemd/system/docker.service
    for file in ../cri/*; do
        [ ! -f "$file" ] || rm -f "/usr/bin/$(basename "$file")"
    done
    ip link delete docker0 2>/dev/null
fi

if [ "$kubelet" = ours ]; then
    unmount_below /var/lib/kubelet
    rm -rf /etc/kubernetes /run/kubernetes /usr/libexec/kubernetes /var/lib/{kubelet,dockershim,etcd}
    # Made for kube-proxy where there are no modules.
    rmdir /lib/modules 2>/dev/null
    find /sys/fs/cgroup -depth -type d -path '*/kubepods*' -exec rmdir {} + 2>/dev/null
    # The rules that lead to pods and services.
    for family in iptables ip6tables; do
        "$family-save" 2>/dev/null | grep -Ev 'KUBE-|CNI-' | "$family-restore"
    done
fi
if [ -d ../bin/cni ]; then
    ip link delete cni0 2>/dev/null
    rm -rf /opt/cni /etc/cni /var/lib/cni
fi
for file in ../bin/*; do
    [ ! -f "$file" ] || rm -f "/usr/bin/$(basename "$file")"
done
rm -f /usr/bin/kubelet-pre-start.sh /etc/sysctl.d/k8s.conf
systemctl daemon-reload
echo "$(hostname) is clean"
