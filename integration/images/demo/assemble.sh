#!/bin/bash
# Puts the demonstration's rootfs together:   assemble.sh PACKAGES OUT
# PACKAGES is a folder with the unpacked Debian packages named in ../../src/demo_image.rs; OUT must not exist.
# Programs come from Debian, so that nothing is downloaded but from the machine's own apt sources.
set -euo pipefail
packages=$1
out=$2
recipe=$(dirname "$(readlink -f "$0")")
# One moment for everything made here: the same packages give the same bytes.
epoch=2020-01-01T00:00:00Z

mkdir -p "$out"/{bin,cri/lib,images,registry}
cp -a "$recipe/rootfs/." "$out/"

cp "$packages/usr/sbin/conntrack" "$out/bin/"
cp "$packages/usr/bin/"{containerd,containerd-shim,containerd-shim-runc-v2,ctr,docker} "$out/cri/"
cp "$packages/usr/sbin/"{dockerd,docker-proxy,runc} "$out/cri/"
cp "$packages/usr/bin/tini-static" "$out/cri/docker-init"
cp -d "$packages/usr/lib/x86_64-linux-gnu/"{libdevmapper.so.1*,libseccomp.so.2*} "$out/cri/lib/" 2>/dev/null ||
    cp -d "$packages/lib/x86_64-linux-gnu/"libdevmapper.so.1* "$packages/usr/lib/x86_64-linux-gnu/"libseccomp.so.2* "$out/cri/lib/"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# make_image NAME TREE UMOCI-CONFIG-WORDS...: one layer with TREE in it, in the OCI layout $work/oci.
make_image() {
    local name=$1 tree=$2
    shift 2
    umoci new --image "$work/oci:$name"
    umoci unpack --image "$work/oci:$name" "$work/$name-bundle"
    cp -a "$tree/." "$work/$name-bundle/rootfs/"
    find "$work/$name-bundle/rootfs" -exec touch --no-dereference --date="$epoch" {} +
    umoci repack --image "$work/oci:$name" --history.created="$epoch" "$work/$name-bundle"
    umoci config --image "$work/oci:$name" --created="$epoch" --history.created="$epoch" "$@"
}
umoci init --layout "$work/oci"

# The registry's image: the program and the libraries it names.
mkdir -p "$work/registry/bin" "$work/registry/etc" "$work/registry/var/lib/registry"
cp "$packages/usr/bin/docker-registry" "$work/registry/bin/registry"
ldd "$work/registry/bin/registry" | grep -o '/[^ ]*' | while read -r library; do
    install -D -m 755 "$library" "$work/registry$library"
done
cat >"$work/registry/etc/registry.yml" <<END
version: 0.1
log: { level: warn }
storage:
  filesystem: { rootdirectory: /var/lib/registry }
  delete: { enabled: false }
http: { addr: ":5000" }
END
make_image registry "$work/registry" --config.entrypoint /bin/registry --config.cmd serve --config.cmd /etc/registry.yml
skopeo copy --quiet "oci:$work/oci:registry" "docker-archive:$out/images/registry.tar:registry:2"

# The application: it greets, or serves its greeting as a web page.
mkdir -p "$work/hello/bin" "$work/hello/www"
cp "$packages/bin/busybox" "$work/hello/bin/busybox"
ln -s busybox "$work/hello/bin/sh"
echo "Hello from a container whose image came out of the cluster's own registry." >"$work/hello/www/index.html"
make_image hello "$work/hello" --config.cmd /bin/busybox --config.cmd cat --config.cmd /www/index.html

# The registry's tree is made by a registry, in a network of its own so that no port is taken or missed.
export work packages out
# shellcheck disable=SC2016 # expanded by the inner shell
unshare --net bash -euo pipefail -c '
    ip link set lo up
    sed "s#/var/lib/registry#$out/registry#; s#:5000#127.0.0.1:5000#" "$work/registry/etc/registry.yml" >"$work/local.yml"
    "$packages/usr/bin/docker-registry" serve "$work/local.yml" >"$work/registry.log" 2>&1 &
    registry_pid=$!
    trap "kill $registry_pid" EXIT
    for attempt in $(seq 100); do
        (exec 3<>/dev/tcp/127.0.0.1/5000) 2>/dev/null && break
        kill -0 $registry_pid || { cat "$work/registry.log" >&2; exit 1; }
        sleep 0.1
    done
    skopeo copy --quiet --dest-tls-verify=false "oci:$work/oci:hello" docker://127.0.0.1:5000/hello:1.0
'
find "$out/registry" -name _uploads -type d -prune -exec rm -r {} +
find "$out" -exec touch --no-dereference --date="$epoch" {} +
