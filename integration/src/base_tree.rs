//! The tree every test host starts from: a small Debian with systemd, made once and cached.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use gantry_model::Digest;

use crate::{apt, cache, command};

/// What a machine in a machine room would have: an init system, network tools, and what Kubernetes's own
/// preflight asks for.
const PACKAGES: &[&str] = &[
    "attr",
    "ca-certificates",
    "conntrack",
    "dbus",
    "ethtool",
    "iproute2",
    "iptables",
    "kmod",
    "mount",
    "procps",
    "socat",
    "systemd",
    "systemd-sysv",
    "util-linux",
];

/// Counts up when [`prepare`] changes, so that cached trees of the older kind are not used.
const VERSION: u32 = 2;

/// The cached base tree with `extra` packages, made if it is not there yet.
///
/// # Errors
/// When `mmdebstrap` fails; the message holds its output.
pub fn base_tree(extra: &[&str]) -> Result<PathBuf> {
    let suite = apt::suite()?;
    let mut packages: Vec<&str> = PACKAGES.iter().chain(extra).copied().collect();
    packages.sort_unstable();
    packages.dedup();
    let key = Digest::of(format!("{VERSION} {suite} {packages:?}").as_bytes()).hex();
    cache::made_once(&format!("base-{suite}-{}", &key[..12]), |tree| {
        let sources = tempfile::tempdir()?;
        let mut make = Command::new("mmdebstrap");
        make.args(["--quiet", "--variant=minbase", "--mode=root"])
            .arg(format!("--include={}", packages.join(",")));
        make.args(
            apt::settings()?
                .iter()
                .map(|setting| format!("--aptopt={setting}")),
        );
        for unread in ["doc", "man", "locale", "info"] {
            make.arg(format!("--dpkgopt=path-exclude=/usr/share/{unread}/*"));
        }
        make.arg(&suite)
            .arg(tree)
            .args(apt::write_sources(sources.path(), &suite)?);
        command::run(&mut make)?.ok()?;
        prepare(tree)
    })
}

/// Makes a Debian tree into a machine that boots quietly inside a container.
fn prepare(tree: &Path) -> Result<()> {
    // Every host gets its own; an empty file is filled at the first boot.
    fs::write(tree.join("etc/machine-id"), "")?;
    for unit in [
        "apt-daily.timer",
        "apt-daily-upgrade.timer",
        "e2scrub_all.timer",
        "console-getty.service",
    ] {
        mask(tree, unit)?;
    }
    // There is no /dev/kmsg in a container, and some programs (kubelet) insist on one.
    fs::write(
        tree.join("etc/tmpfiles.d/kmsg.conf"),
        "L /dev/kmsg - - - - /dev/null\n",
    )?;
    let units = tree.join("etc/systemd/system");
    fs::write(units.join("writable-cgroups.service"), WRITABLE_CGROUPS)?;
    let wants = units.join("sysinit.target.wants");
    fs::create_dir_all(&wants)?;
    symlink(
        "../writable-cgroups.service",
        wants.join("writable-cgroups.service"),
    )?;
    if lacks_sys_resource()? {
        let wrapper = tree.join("usr/local/sbin/runc");
        fs::write(&wrapper, RUNC_WRAPPER)?;
        fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

fn mask(tree: &Path, unit: &str) -> Result<()> {
    let link = tree.join("etc/systemd/system").join(unit);
    cache::remove_tree(&link)?;
    symlink("/dev/null", &link).with_context(|| format!("cannot mask {unit}"))
}

/// Whether this machine withholds `CAP_SYS_RESOURCE`, as some virtual machines do.
fn lacks_sys_resource() -> Result<bool> {
    const CAP_SYS_RESOURCE: u32 = 24;
    let status = fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
    let bounding = status
        .lines()
        .find_map(|line| line.strip_prefix("CapBnd:"))
        .context("no CapBnd in /proc/self/status")?;
    let set = u64::from_str_radix(bounding.trim(), 16).context("CapBnd is not a number")?;
    Ok(set & (1 << CAP_SYS_RESOURCE) == 0)
}

/// Before any container engine starts: it needs to write below `/sys/fs/cgroup`, which nspawn mounts read-only on cgroup v1. A
/// plain remount is refused as busy; a bind remount changes one mount alone.
const WRITABLE_CGROUPS: &str = r#"[Unit]
Description=Control groups can be written
DefaultDependencies=no
Before=sysinit.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'for folder in /sys/fs/cgroup /sys/fs/cgroup/*; do if mountpoint -q "$folder"; then mount -o remount,bind,rw "$folder"; fi; done'
"#;

/// Stands before the `runc` an image installs, on machines without `CAP_SYS_RESOURCE` only: there a container
/// that asks for that capability or for a negative OOM score would not start. It is part of the test host, as
/// a kernel is: images know nothing of it.
const RUNC_WRAPPER: &str = r#"#!/bin/bash
bundle=$PWD
arguments=("$@")
for ((i = 0; i < ${#arguments[@]}; i++)); do
    case "${arguments[i]}" in
        --bundle | -b) bundle=${arguments[i + 1]} ;;
        --bundle=*) bundle=${arguments[i]#--bundle=} ;;
    esac
done
if [ -f "$bundle/config.json" ]; then
    sed -i -e 's/,"CAP_SYS_RESOURCE"//g; s/"CAP_SYS_RESOURCE",//g; s/"CAP_SYS_RESOURCE"//g' \
        -e 's/"oomScoreAdj": *-[0-9]*/"oomScoreAdj":0/' "$bundle/config.json"
fi
for runc in /usr/bin/runc /usr/sbin/runc; do
    [ -x "$runc" ] && exec "$runc" "$@"
done
echo "runc: not installed" >&2
exit 127
"#;
