#!/bin/sh
# Installs what building, testing and measuring Gantry need on a Debian 12 machine, and nothing that is there already.
#
#   prerequisites.sh [build|test|bench|fuzz]...      (default: build)
#
# Silent and quick when everything is present; needs root only when something is missing.
set -eu

build_packages="git gcc libc6-dev make dpkg rpm"
# systemd-nspawn hosts, their trees, their network; the image tools Gantry's images are compared with.
test_packages="systemd-container mmdebstrap iproute2 iptables util-linux procps skopeo umoci podman buildah curl openssl attr"
# libFuzzer is built from its sources.
fuzz_packages="g++"
# What Gantry's figures are measured beside.
bench_packages="openssh-client rsync"

wanted=""
for group in "${@:-build}"; do
    case "$group" in
        build) wanted="$wanted $build_packages" ;;
        test) wanted="$wanted $build_packages $test_packages" ;;
        bench) wanted="$wanted $build_packages $test_packages $bench_packages" ;;
        fuzz) wanted="$wanted $build_packages $fuzz_packages" ;;
        *) echo "prerequisites.sh: no group is called '$group'; there are: build, test, bench, fuzz" >&2; exit 2 ;;
    esac
done

missing=""
for package in $wanted; do
    # ${Status} is three words; only "install ok installed" means usable.
    status=$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || true)
    [ "$status" = "install ok installed" ] || missing="$missing $package"
done
if [ -n "$missing" ]; then
    if [ "$(id -u)" != 0 ]; then
        echo "prerequisites.sh: missing:$missing" >&2
        echo "prerequisites.sh: run this as root once, or: apt-get install$missing" >&2
        exit 3
    fi
    echo "installing:$missing"
    log=$(mktemp)
    if ! { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing; } >"$log" 2>&1 </dev/null; then
        cat "$log" >&2
        rm -f "$log"
        exit 1
    fi
    rm -f "$log"
fi

if ! command -v cargo >/dev/null 2>&1; then
    echo "prerequisites.sh: cargo is missing: install a Rust toolchain, at least the version named in Cargo.toml" >&2
    exit 3
fi
