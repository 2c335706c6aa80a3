#!/bin/bash
# Kernel settings, kubelet and the pods' network.   init-kube.sh
set -e

# A unit is there as a whole or not at all: clean.sh goes by it.
place_unit() {
    unit=/etc/systemd/system/$1
    cmp -s "../etc/$1" "$unit" && return
    install -m 644 "../etc/$1" "$unit.new"
    mv "$unit.new" "$unit"
}

# What a kernel has built in, or a container cannot load, is no reason to stop: preflight names what is missing.
for module in br_netfilter ip_vs ip_vs_rr ip_vs_wrr ip_vs_sh nf_conntrack; do
    modprobe "$module" 2>/dev/null || echo "kernel module $module is not loadable here"
done
cat >/etc/sysctl.d/k8s.conf <<END
net.bridge.bridge-nf-call-ip6tables = 1
net.bridge.bridge-nf-call-iptables = 1
net.ipv4.conf.all.rp_filter = 0
net.ipv4.ip_forward = 1
END
sysctl --quiet --ignore --load /etc/sysctl.d/k8s.conf || true
for firewall in firewalld ufw; do
    systemctl disable --now "$firewall" 2>/dev/null || true
done
swapoff -a 2>/dev/null || true
if command -v setenforce >/dev/null; then setenforce 0 || true; fi

find ../bin -maxdepth 1 -type f -exec install -m 755 -t /usr/bin {} +
install -m 755 kubelet-pre-start.sh /usr/bin/kubelet-pre-start.sh
# kubeadm starts kubelet once it has written its configuration; an image without kubelet has nothing to enable.
if [ -x /usr/bin/kubelet ]; then
    place_unit kubelet.service
    install -D -m 644 ../etc/10-kubeadm.conf /etc/systemd/system/kubelet.service.d/10-kubeadm.conf
    systemctl daemon-reload
    systemctl enable kubelet.service
fi
# Pods get their network from what the image brings for it.
if [ -d ../bin/cni ]; then
    install -D -m 755 -t /opt/cni/bin ../bin/cni/*
    install -m 755 pod-network.sh /usr/bin/pod-network.sh
    install -m 644 ../etc/pod-network.conflist /usr/share/pod-network.conflist
    place_unit pod-network.path
    place_unit pod-network.service
    systemctl daemon-reload
    systemctl enable --now pod-network.path
fi
echo "$(hostname) is ready for a cluster"
