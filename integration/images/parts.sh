# What recipes of images have in common, to be sourced. Programs come from Debian packages, so that nothing is
# downloaded but from the machine's own apt sources. Before sourcing, a recipe sets:
#   packages   a folder with unpacked Debian packages
#   out        the rootfs to put together; it must not exist
# Afterwards there is work, a folder for everything else, which is removed at the end.
# shellcheck shell=bash
# shellcheck disable=SC2154 # packages and out: see above

# One moment for everything made here: the same packages give the same bytes.
epoch=2020-01-01T00:00:00Z
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
umoci init --layout "$work/oci"
mkdir -p "$out"/{bin,cri/lib,images,registry}

# add_program TREE FILE PLACE: FILE at PLACE in TREE, and its libraries.
add_program() {
    install -D -m 755 "$2" "$1/$3"
    add_libraries "$1" "$2"
}

# add_libraries TREE FILE: the libraries that FILE names in TREE, the packages' before the machine's.
add_libraries() {
    local tree=$1 file=$2 found library
    found=$(LD_LIBRARY_PATH="$packages/usr/lib/x86_64-linux-gnu:$packages/lib/x86_64-linux-gnu" ldd "$file")
    if grep 'not found' <<<"$found" >&2; then
        echo "$file names a library that neither the packages nor this machine have" >&2
        return 1
    fi
    grep -o '/[^ ]*' <<<"$found" | while read -r library; do
        install -D -m 755 "$library" "$tree/${library#"$packages"}"
    done
}

# add_runtime PROGRAM...: what every container runtime of Debian's needs, these programs, and their libraries.
add_runtime() {
    cp "$@" "$packages/usr/bin/"{containerd,containerd-shim-runc-v2,ctr} "$packages/usr/sbin/runc" "$out/cri/"
    cp -d "$packages/usr/lib/x86_64-linux-gnu/"{libdevmapper.so.1*,libseccomp.so.2*} "$out/cri/lib/" 2>/dev/null ||
        cp -d "$packages/lib/x86_64-linux-gnu/"libdevmapper.so.1* "$packages/usr/lib/x86_64-linux-gnu/"libseccomp.so.2* "$out/cri/lib/"
}

# add_docker: the container engine.
add_docker() {
    add_runtime "$packages/usr/bin/"{containerd-shim,docker} "$packages/usr/sbin/"{dockerd,docker-proxy}
    cp "$packages/usr/bin/tini-static" "$out/cri/docker-init"
}

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

# registry_config FOLDER ADDRESS: how docker's registry serves FOLDER.
registry_config() {
    cat <<END
version: 0.1
log: { level: warn }
storage:
  filesystem: { rootdirectory: $1 }
  delete: { enabled: false }
http: { addr: "$2" }
END
}

# add_registry: the registry's own image, as images/registry.tar.
add_registry() {
    add_program "$work/registry" "$packages/usr/bin/docker-registry" /bin/registry
    mkdir -p "$work/registry/etc" "$work/registry/var/lib/registry"
    registry_config /var/lib/registry :5000 >"$work/registry/etc/registry.yml"
    make_image registry "$work/registry" --config.entrypoint /bin/registry --config.cmd serve --config.cmd /etc/registry.yml
    skopeo copy --quiet "oci:$work/oci:registry" "docker-archive:$out/images/registry.tar:registry:2"
}

# make_hello: a small application. It greets, or serves its greeting as a web page.
make_hello() {
    mkdir -p "$work/hello/bin" "$work/hello/www"
    cp "$packages/bin/busybox" "$work/hello/bin/busybox"
    ln -s busybox "$work/hello/bin/sh"
    echo "Hello from a container whose image came out of the cluster's own registry." >"$work/hello/www/index.html"
    make_image hello "$work/hello" --config.cmd /bin/busybox --config.cmd cat --config.cmd /www/index.html
}

# fill_registry NAME:TAG...: these of the images made become what the registry serves.
fill_registry() {
    # The registry's tree is made by a registry, in a network of its own so that no port is taken or missed.
    export work packages out
    registry_config "$out/registry" 127.0.0.1:5000 >"$work/local.yml"
    # shellcheck disable=SC2016 # expanded by the inner shell
    unshare --net bash -euo pipefail -c '
        ip link set lo up
        "$packages/usr/bin/docker-registry" serve "$work/local.yml" >"$work/registry.log" 2>&1 &
        registry_pid=$!
        trap "kill $registry_pid; wait $registry_pid || true" EXIT
        for attempt in $(seq 100); do
            (exec 3<>/dev/tcp/127.0.0.1/5000) 2>/dev/null && break
            kill -0 $registry_pid || { cat "$work/registry.log" >&2; exit 1; }
            sleep 0.1
        done
        for image in "$@"; do
            skopeo copy --quiet --dest-tls-verify=false "oci:$work/oci:${image%:*}" "docker://127.0.0.1:5000/$image"
        done
    ' bash "$@"
    find "$out/registry" -name _uploads -type d -prune -exec rm -r {} +
}

# finish: the last word of a recipe.
finish() {
    find "$out" -exec touch --no-dereference --date="$epoch" {} +
}
