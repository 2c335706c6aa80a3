//! Scripts of the example images that were cut off somewhere have done everything, or undone it, once they are run again.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::path::Path;
use std::process::Command;

use gantry_integration::{Testbed, chaos, command};

/// Places of which the test of every day is about.
const SAMPLE: usize = 8;

/// What scripts and kubeadm leave behind that no program of it has to run for: units, programs, data.
const INSTALL: &str = r#"
cd /root/image
install -m 644 -t /etc/systemd/system etc/docker.service etc/containerd.service etc/kubelet.service etc/pod-network.path etc/pod-network.service
install -D -m 644 etc/10-kubeadm.conf /etc/systemd/system/kubelet.service.d/10-kubeadm.conf
for file in cri/* bin/*; do [ ! -f "$file" ] || install -m 755 -t /usr/bin "$file"; done
install -m 755 scripts/kubelet-pre-start.sh scripts/pod-network.sh /usr/bin/
install -m 644 etc/pod-network.conflist /usr/share/
install -D -m 644 etc/daemon.json /etc/docker/daemon.json
sed -i 's#/var/lib/docker#/srv/docker#' /etc/docker/daemon.json
sed 's#/var/lib/containerd#/srv/containerd#' etc/containerd-config.toml.tmpl | install -D -m 644 /dev/stdin /etc/containerd/config.toml
mkdir -p /srv/docker/overlay2 /srv/containerd/io /usr/lib/{docker,containerd}-cri /opt/cni/bin /etc/cni/net.d /var/lib/cni
mkdir -p /etc/kubernetes/pki /var/lib/kubelet/pods/one /var/lib/etcd/member
mount -t tmpfs secret /var/lib/kubelet/pods/one
echo 'net.ipv4.ip_forward = 1' >/etc/sysctl.d/k8s.conf
iptables -N KUBE-SERVICES; iptables -A FORWARD -j KUBE-SERVICES
"#;
/// Every shell that starts with this counts its commands, and all end at once with the one that has the number in `/root/cut`.
const CUT: &str = r#"
set -T
trap 'exec 9>/root/count.lock; flock 9; n=$(($(</root/count) + 1)); echo $n >/root/count; exec 9>&-
      if [ "$n" = "$(</root/cut)" ]; then touch /root/was-cut; kill -KILL 0; fi' DEBUG
"#;
/// What there is of a cluster.
const LOOK: &str = r#"
look() {
    (cd / && find etc opt srv usr var/lib ! -path '*/gantry*' ! -path 'var/lib/systemd/*')
    grep /var/lib/kubelet /proc/self/mountinfo
    iptables-save | grep KUBE
}
"#;
/// Cuts a first run off after each of these commands in turn, runs it once more, and says what it left. After the last one is
/// where a run that nothing cuts off says how many there are.
const CUT_OFF_AFTER: &str = r#"
. /root/look
look >/root/before
for cut in "$@"; do
    . /root/install
    cd /root/image/scripts
    echo 0 >/root/count; echo $cut >/root/cut; rm -f /root/was-cut
    BASH_ENV=/root/cut-here setsid --wait bash clean.sh >/root/said 2>&1
    if [ -e /root/was-cut ]; then bash clean.sh >/root/said 2>&1; fi
    left=$(look | diff /root/before -) || { echo "after command $cut: $left"; exit 1; }
done
cat /root/count
"#;

/// The runtime named by `$runtime`, and kubelet, are shells that wait.
const PROGRAMS: &str = r#"
cd /root/image
case $runtime in docker) daemon=dockerd client=docker ;; containerd) daemon=containerd client=ctr ;; esac
rm -rf cri
mkdir -p cri/lib
for program in cri/$daemon bin/kubelet; do
    printf '#!/bin/bash\nsystemd-notify --ready\nexec sleep infinity\n' >$program
done
printf '#!/bin/bash\n' >cri/$client
cp etc/containerd-config.toml.tmpl etc/containerd-config.toml
chmod +x cri/* bin/*
touch cri/lib/some.so bin/cni/bridge
mkdir -p /etc/systemd/system/$runtime.service.d
printf '[Service]\nNotifyAccess=all\n' >/etc/systemd/system/$runtime.service.d/shells.conf
# What `install` is to these scripts: it ends them all in the middle of the call that has the number in /root/cut.
mkdir -p /root/killing
cat >/root/killing/install <<'END'
#!/bin/bash
n=$(($(</root/count) + 1)); echo $n >/root/count
[ $n = "$(</root/cut)" ] || exec /usr/bin/install "$@"
case "$*" in
    *"-t "*) name=$(basename "${@: -1}"); while [ "$1" != -t ]; do shift; done; rm -f "$2/$name" ;;
    *) rm -f "${@: -1}" ;;
esac
touch /root/was-cut
kill -KILL 0
END
chmod +x /root/killing/install
printf 'set -e\nbash %s.sh\nbash init-kube.sh\n' $runtime >/root/image/scripts/all.sh
"#;
/// Installs, installs again and is killed while a file is written, installs again, cleans: for every file that is written.
const KILLED_IN_WRITING: &str = r#"
runtime=$1
. /root/programs
. /root/look
look >/root/before
cd /root/image/scripts
for ((cut = 1; ; cut++)); do
    bash all.sh >/root/said 2>&1 || { echo "first: $(cat /root/said)"; exit 1; }
    echo 0 >/root/count; echo $cut >/root/cut; rm -f /root/was-cut
    PATH=/root/killing:$PATH setsid --wait bash all.sh >/root/said 2>&1
    [ -e /root/was-cut ] || break
    bash all.sh >/root/said 2>&1 || { echo "again, after file $cut: $(cat /root/said)"; exit 1; }
    bash clean.sh >/root/said 2>&1
    left=$(look | diff /root/before -) || { echo "after file $cut: $left"; exit 1; }
done
cat /root/count
"#;

/// A host on which scripts of all example images can run.
fn host_with_images() -> Testbed {
    let bed = Testbed::start(1).unwrap();
    let host = bed.host(1);
    let copy = host.disk().join("root/image");
    let run = |words: &mut Command| assert!(command::run(words).unwrap().succeeded());
    run(Command::new("mkdir")
        .arg("-p")
        .args([copy.join("cri/lib"), copy.join("bin/cni")]));
    for image in ["demo", "kubernetes", "kubernetes-containerd"] {
        let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("images").join(image);
        let folders = [recipe.join("rootfs/etc"), recipe.join("rootfs/scripts")];
        run(Command::new("cp").arg("-a").args(folders).arg(&copy));
    }
    host.must("touch /root/image/cri/dockerd /root/image/bin/kubeadm")
        .unwrap();
    for (name, text) in [
        ("install", INSTALL),
        ("cut-here", CUT),
        ("look", LOOK),
        ("cut-off-after", CUT_OFF_AFTER),
        ("programs", PROGRAMS),
        ("killed-in-writing", KILLED_IN_WRITING),
    ] {
        fs::write(host.disk().join("root").join(name), text).unwrap();
    }
    bed
}

/// How many commands the last run had.
fn run_cut_off_after(bed: &Testbed, commands: impl IntoIterator<Item = usize>) -> usize {
    let numbers: Vec<String> = commands.into_iter().map(|number| number.to_string()).collect();
    let words = format!("bash /root/cut-off-after {}", numbers.join(" "));
    bed.host(1).must(&words).unwrap().trim().parse().unwrap()
}

#[test]
fn clean_sh_that_was_cut_off_somewhere_ends_well_when_it_is_run_again() {
    let bed = host_with_images();
    let all = run_cut_off_after(&bed, [0]);
    let seed = chaos::seed();
    let mut places = chaos::sample((1..=all).collect(), SAMPLE, seed);
    println!("{places:?} of {all} commands, seed {seed}");
    places.sort_unstable();
    run_cut_off_after(&bed, places);
}

#[test]
fn clean_sh_that_was_cut_off_after_any_command_ends_well_when_it_is_run_again() {
    let bed = host_with_images();
    let all = run_cut_off_after(&bed, [0]);
    run_cut_off_after(&bed, 1..=all);
}

#[test]
fn scripts_that_were_killed_while_they_wrote_a_file_end_well_when_they_are_run_again_and_are_undone() {
    let bed = host_with_images();
    for runtime in ["docker", "containerd"] {
        let killed =
            format!("bash /root/killed-in-writing {runtime} && cd /root/image/scripts && bash clean.sh");
        let said = bed.host(1).must(&killed).unwrap();
        assert!(
            !said.starts_with("0\n"),
            "nothing was written a second time: {said}"
        );
    }
}
