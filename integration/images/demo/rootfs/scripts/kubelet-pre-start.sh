#!/bin/bash
# What must hold each time kubelet starts.
modprobe br_netfilter 2>/dev/null
sysctl --quiet --ignore --load /etc/sysctl.d/k8s.conf
swapoff -a
exit 0
