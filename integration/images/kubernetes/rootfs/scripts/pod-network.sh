#!/bin/bash
# Gives the pods of this host the addresses that the cluster has set aside for them, and leads to those of other hosts,
# as nodes come.   pod-network.sh CONFLIST
# Runs as a service for as long as the host is a member of a cluster.
set -euo pipefail
conflist=$1
self=$(hostname)
node='{.metadata.name}{" "}{.spec.podCIDR}{" "}{.status.addresses[?(@.type=="InternalIP")].address}{"\n"}'

kubectl --kubeconfig /etc/kubernetes/kubelet.conf --cache-dir /run/pod-network get nodes --watch --output "jsonpath=$node" |
    while read -r name range address; do
        # A node that has only just registered has no range yet; it is told of again.
        [ -n "$address" ] || continue
        if [ "$name" = "$self" ]; then
            mkdir -p /etc/cni/net.d
            sed "s|POD_RANGE|$range|" "$conflist" >/etc/cni/net.d/.pods
            mv /etc/cni/net.d/.pods /etc/cni/net.d/10-pods.conflist
            # Docker forwards nothing that is not its own.
            rule=(FORWARD --destination "$range" --match comment --comment KUBE-PODS --jump ACCEPT)
            iptables --check "${rule[@]}" 2>/dev/null || iptables --insert "${rule[@]}"
        else
            # 77: so that clean.sh finds what is ours.
            ip route replace "$range" via "$address" protocol 77
        fi
    done
