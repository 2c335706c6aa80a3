//! What stands in for programs that would change the kernel, or ask something that does not run in a rehearsal: scripts find
//! them first, they say what they are, and they succeed, so that scripts go on.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Where scripts find them first.
pub(super) const FOLDER: &str = "/run/gantry-rehearsal/bin";
/// Where those wait that ask a container runtime: until it is there, scripts find what they install.
const CLIENTS_FOLDER: &str = "/run/gantry-rehearsal/clients";

/// Programs that change the kernel or the time of a host, or that a rehearsal has no daemon for.
const SILENT: &[&str] = &[
    "modprobe",
    "insmod",
    "rmmod",
    "depmod",
    "swapoff",
    "swapon",
    "setenforce",
    "iptables",
    "iptables-save",
    "iptables-restore",
    "ip6tables",
    "ip6tables-save",
    "ip6tables-restore",
    "nft",
    "ipvsadm",
    "ipset",
    "hostnamectl",
    "timedatectl",
    "journalctl",
    "loginctl",
    "mount",
    "umount",
    "chattr",
    "reboot",
    "shutdown",
    "update-initramfs",
    "dracut",
    "udevadm",
];

/// Programs that ask a container runtime.
const CLIENTS: &[&str] = &["docker", "ctr", "nerdctl", "crictl", "podman"];

/// Which service runs is remembered, and nothing more: what a unit starts is not started.
const SYSTEMCTL: &str = r#"#!/bin/sh
# Stands in for systemctl in a rehearsal of gantry: there is no systemd. Services are noted as started, and are not.
units=/run/gantry-rehearsal/units
verb= now= quiet= names=
while [ $# -gt 0 ]; do
    case $1 in
    --now) now=yes ;;
    -q | --quiet) quiet=yes ;;
    -t | -p | -n | -o | -H | -M | -s) shift ;;
    -*) ;;
    *) if [ -z "$verb" ]; then verb=$1; else names="$names ${1%.service}"; fi ;;
    esac
    shift
done
started() {
    : >"$units/$1.active"
    case $1 in
    docker | containerd | crio | cri-docker | cri-dockerd)
        for client in /run/gantry-rehearsal/clients/*; do
            [ -z "$(command -v "${client##*/}")" ] || ln -sf "$client" /run/gantry-rehearsal/bin/
        done ;;
    esac
}
is() {
    for name in $names; do
        if [ -e "$units/$name.$1" ]; then
            [ -n "$quiet" ] || echo "$2"
            exit 0
        fi
        [ -n "$quiet" ] || echo "$3"
    done
    exit "$4"
}
case $verb in
is-active) is active active inactive 3 ;;
is-failed) is failed failed inactive 1 ;;
is-enabled) is enabled enabled disabled 1 ;;
is-system-running) echo running; exit 0 ;;
cat | get-default) exit 1 ;;
status) is active "active (running)" "inactive (dead)" 3 ;;
list-* | show | show-environment | daemon-reload | daemon-reexec) exit 0 ;;
esac
echo "systemctl $verb$names: stood in for by a rehearsal of gantry" >&2
for name in $names; do
    case $verb in
    start | restart | reload | reload-or-restart | try-restart | condrestart) started "$name" ;;
    enable | reenable)
        : >"$units/$name.enabled"
        [ -z "$now" ] || started "$name" ;;
    stop | kill) rm -f "$units/$name.active" ;;
    disable | mask)
        rm -f "$units/$name.enabled"
        [ -z "$now" ] || rm -f "$units/$name.active" ;;
    esac
done
exit 0
"#;

/// `service NAME VERB`.
const SERVICE: &str = "#!/bin/sh\nexec systemctl \"${2:-status}\" \"$1\"\n";

/// What is set is not set; what is read is read.
const SYSCTL: &str = r#"#!/bin/sh
# Stands in for sysctl in a rehearsal of gantry: settings of the kernel stay as they are.
for word; do
    case $word in
    -w | --write | -p* | --load* | --system | *=*)
        echo "sysctl: stood in for by a rehearsal of gantry" >&2
        exit 0 ;;
    esac
done
PATH=${PATH#/run/gantry-rehearsal/bin:}
exec sysctl "$@"
"#;

const SILENT_TEXT: &str = "\
#!/bin/sh
# Stands in for a program in a rehearsal of gantry: nothing of the machine is changed.
echo \"${0##*/}: stood in for by a rehearsal of gantry\" >&2
exit 0
";

/// Says how it was called: what a runtime is asked to fetch is nothing that a script fetches itself.
const CLIENT_TEXT: &str = "\
#!/bin/sh
# Stands in for a program that asks a container runtime in a rehearsal of gantry: there is none, and no answer.
words=$(for word; do printf '\\037%s' \"$word\"; done | tr '\\n' ' ')
printf '=\\037%s%s\\n' \"${0##*/}\" \"$words\" >>/run/gantry-rehearsal/trace
echo \"${0##*/}: stood in for by a rehearsal of gantry\" >&2
exit 0
";

/// Writes them below `root`, the root of the host that is rehearsed on.
///
/// # Errors
/// When a file cannot be written.
pub(super) fn write(root: &Path) -> io::Result<()> {
    let below = |path: &str| root.join(path.trim_start_matches('/'));
    for folder in [FOLDER, CLIENTS_FOLDER, "/run/gantry-rehearsal/units"] {
        fs::create_dir_all(below(folder))?;
    }
    let all = [("systemctl", SYSTEMCTL), ("service", SERVICE), ("sysctl", SYSCTL)]
        .into_iter()
        .chain(SILENT.iter().map(|name| (*name, SILENT_TEXT)))
        .map(|(name, text)| (below(FOLDER).join(name), text));
    let clients = CLIENTS
        .iter()
        .map(|name| (below(CLIENTS_FOLDER).join(name), CLIENT_TEXT));
    for (path, text) in all.chain(clients) {
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// Whether `program` is one that asks a container runtime: scripts can write to the pipe, too.
pub(super) fn is_client(program: &str) -> bool {
    CLIENTS.contains(&program)
}

/// Flags of `pull` whose value is a word of its own.
const WITH_VALUE: &[&str] = &[
    "--platform",
    "--user",
    "-u",
    "--creds",
    "--snapshotter",
    "--hosts-dir",
    "--annotation",
    "-a",
    "--auth",
];

/// The container image that a runtime is asked to fetch by `words`, e.g. `-n k8s.io images pull IMAGE`.
pub(super) fn pulled(words: &[String]) -> Option<&str> {
    let at = words.iter().position(|word| word == "pull")?;
    let mut after = words.get(at + 1..)?.iter().map(String::as_str);
    while let Some(word) = after.next() {
        if WITH_VALUE.contains(&word) {
            after.next();
        } else if !word.starts_with('-') {
            return Some(word);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_runtime_is_asked_to_fetch_is_told() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        for (call, image) in [
            ("pull a.example/b:1", Some("a.example/b:1")),
            (
                "-n k8s.io images pull --all-platforms a.example/b:1",
                Some("a.example/b:1"),
            ),
            ("pull -q b", Some("b")),
            ("pull b --platform linux/amd64", Some("b")),
            ("pull --platform linux/amd64 b", Some("b")),
            ("images", None),
            ("pull", None),
        ] {
            assert_eq!(pulled(&words(call)), image, "{call}");
        }
    }
}
