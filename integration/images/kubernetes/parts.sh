# What recipes of Kubernetes have in common, to be sourced after ../parts.sh. Before sourcing, a recipe sets binaries, the
# folder that binaries.sh made; version is the one that these programs say.
# shellcheck shell=bash
# shellcheck disable=SC2154 # packages, out and work: see ../parts.sh

# The control plane's images. Their tags are those kubeadm asks for.
# shellcheck disable=SC2034 # recipes name them
control_plane=(kube-{apiserver,controller-manager,scheduler,proxy}:"${version:=v1.20.2}" etcd:3.4.13-0 pause:3.2)

# add_kubernetes: kubeadm and what it needs on a host, and the plugins of the pods' network.
add_kubernetes() {
    cp "$binaries/"{kubeadm,kubectl,kubelet} "$packages/usr/sbin/conntrack" "$out/bin/"
    mkdir "$out/bin/cni"
    cp "$packages/usr/lib/cni/"{bridge,firewall,host-local,loopback,portmap} "$out/bin/cni/"
}

# make_control_plane: the images of control_plane.
make_control_plane() {
    local program name module proxy=$work/kube-proxy
    # They hold one program each.
    for program in kube-apiserver kube-controller-manager kube-scheduler; do
        install -D -m 755 "$binaries/$program" "$work/$program/usr/local/bin/$program"
        make_image "$program" "$work/$program" --config.cmd "/usr/local/bin/$program"
    done
    add_program "$work/etcd" "$packages/usr/bin/etcd" /usr/local/bin/etcd
    make_image etcd "$work/etcd" --config.cmd /usr/local/bin/etcd
    install -D -m 755 "$binaries/pause" "$work/pause/pause"
    make_image pause "$work/pause" --config.entrypoint /pause

    # kube-proxy calls programs that set up the host's network. iptables speaks to nf_tables as Debian's own does: rules of
    # both kinds on one host would not see each other.
    install -D -m 755 "$binaries/kube-proxy" "$proxy/usr/local/bin/kube-proxy"
    add_program "$proxy" "$packages/usr/sbin/xtables-nft-multi" /usr/sbin/xtables-nft-multi
    for name in ip{,6}tables{,-save,-restore}; do ln -s xtables-nft-multi "$proxy/usr/sbin/$name"; done
    cp -r "$packages/usr/lib/x86_64-linux-gnu/xtables" "$proxy/usr/lib/x86_64-linux-gnu/"
    # Loaded when a rule names them: that of a service with two endpoints, for one.
    for module in "$packages/usr/lib/x86_64-linux-gnu/xtables/"*.so; do add_libraries "$proxy" "$module"; done
    add_program "$proxy" "$packages/usr/sbin/conntrack" /usr/sbin/conntrack
    add_program "$proxy" "$packages/usr/sbin/ipset" /usr/sbin/ipset
    add_program "$proxy" "$packages/bin/kmod" /usr/bin/kmod
    ln -s ../bin/kmod "$proxy/usr/sbin/modprobe"
    make_image kube-proxy "$proxy" --config.cmd /usr/local/bin/kube-proxy
}
