#!/bin/bash
# Builds the programs of Kubernetes from Debian's source package:   binaries.sh OUT
# OUT must not exist. Needs a C compiler, make, perl, 5 GB of disk and a quarter of an hour of two processors. Everything
# else comes from the machine's own apt sources into a folder beside OUT that is removed at the end; nothing is installed.
set -euo pipefail
out=$(realpath --canonicalize-missing "$1")
# Security updates of the source package keep it.
upstream=1.20.2
programs=(kubeadm kubelet kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubectl)
# Go, what unpacks and patches a source package, and the newer library that is needed below.
tools=(golang-1.19-go golang-1.19-src dpkg-dev libdpkg-perl patch xz-utils golang-github-modern-go-reflect2-dev)

work=$out.work
rm -rf "$work"
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{sources,lists/partial,cache/archives/partial,downloads,tools,tmp}
export TMPDIR=$work/tmp

# The machine's sources for its own release, each for source packages as well, in a configuration of our own.
. /etc/os-release
suites="$VERSION_CODENAME(-updates|-security|/updates)?/?"
for file in /etc/apt/sources.list /etc/apt/sources.list.d/*; do
    case $file in
        *.list)
            [ -f "$file" ] || continue
            sed -nE "\,^deb\s+(\[[^]]*\]\s+)?\S+\s+$suites\s, { p; s/^deb/deb-src/p }" "$file" >>"$work/sources/machine.list"
            ;;
        *.sources)
            awk -v RS= -v suites="$suites" '
                /(^|\n)Enabled: *no/ || $0 !~ "(^|\n)Suites:([ \t]+" suites ")+[ \t]*(\n|$)" { next }
                sub(/Types:[ \t]+deb[^\n]*/, "Types: deb deb-src") { print $0 "\n" }' "$file" >>"$work/sources/machine.sources"
            ;;
    esac
done
# As root: apt's own user may not write here.
apt=(
    apt-get --quiet -o APT::Sandbox::User=root -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$work/sources"
    -o Dir::State::Lists="$work/lists" -o Dir::Cache="$work/cache"
)
"${apt[@]}" update
cd "$work/downloads"
"${apt[@]}" download "${tools[@]}"
for deb in *.deb; do dpkg-deb -x "$deb" "$work/tools"; done
"${apt[@]}" source --download-only kubernetes
set -- kubernetes_*"$upstream"-*.dsc
if [ ! -f "$1" ]; then
    echo "binaries.sh: wanted the source of Kubernetes $upstream, apt has $(ls kubernetes_*.dsc)" >&2
    exit 1
fi
export PATH="$work/tools/usr/lib/go-1.19/bin:$work/tools/usr/bin:$PATH" GOROOT="$work/tools/usr/lib/go-1.19"
# apt has compared the files with its signed lists.
export PERL5LIB="$work/tools/usr/share/perl5"
dpkg-source --no-check -x "$1" "$work/kubernetes"

cd "$work/kubernetes"
# Built with Go 1.18 or newer, the version that Kubernetes vendors crashes: its 1.0.2 is the first that does not.
rm vendor/github.com/modern-go/reflect2/*.{go,s}
cp "$work/tools/usr/share/gocode/src/github.com/modern-go/reflect2/"*.{go,s} vendor/github.com/modern-go/reflect2/
# One copy of a file beside itself is all that rsync would be needed for.
sed -i 's/rsync -pc/cp -p/' hack/lib/golang.sh
mkdir -p .go/src/k8s.io
ln -s ../../.. .go/src/k8s.io/kubernetes
# Without symbols, and without anything that depends on where and when this is built.
SOURCE_DATE_EPOCH=$(dpkg-parsechangelog --show-field Timestamp)
export SOURCE_DATE_EPOCH
GOPATH=$PWD/.go GO111MODULE=off GOFLAGS='' CGO_ENABLED=0 GOLDFLAGS='-s -w -buildid=' HOME=$work \
    make WHAT="${programs[*]/#/cmd/}"
gcc -Os -Wall -Werror -static -s -DVERSION=3.2 -o _output/bin/pause build/pause/linux/pause.c

mkdir "$out"
for program in "${programs[@]}" pause; do
    install -m 755 "_output/bin/$program" "$out/"
done
