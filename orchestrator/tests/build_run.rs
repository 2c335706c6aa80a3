//! RUN of `gantry build`: commands of a Kubefile, and programs of its image, get the rootfs to write to and no more of this machine.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod desk;

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use desk::*;

/// The longest time that anything here waits for a condition.
const LIMIT: Duration = Duration::from_secs(60);

/// A desk whose Kubefile runs these lines with bash; none for who is not root.
fn desk(lines: &[&str]) -> Option<Desk> {
    if !am_root() {
        return None;
    }
    let desk = Desk::new();
    let lines = lines.join("\n");
    desk.file(
        "app/Kubefile",
        format!("FROM scratch\nRUN <<EOF\n{lines}\necho ran > ran\nEOF\n"),
    );
    Some(desk)
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < LIMIT, "{what}");
        std::thread::yield_now();
    }
}

/// The processes whose command line begins with `name`.
fn processes_called(name: &str) -> Vec<u32> {
    let all = fs::read_dir("/proc").unwrap().flatten();
    let ids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter(|id: &u32| {
        fs::read(format!("/proc/{id}/cmdline")).is_ok_and(|words| words.starts_with(name.as_bytes()))
    })
    .collect()
}

/// A build is interrupted by a signal of this name, to the whole foreground as a terminal sends it or to the build alone.
fn interrupted_build(signal: &str, foreground: bool) {
    let Some(desk) = desk(&[]) else {
        return;
    };
    let name = format!("gantry-{signal}-{foreground}-{}", std::process::id());
    desk.file(
        "app/Kubefile",
        format!("FROM scratch\nRUN bash -c 'exec -a {name} sleep 1000'\n"),
    );
    let mut build = desk.command(&["build", "-t", "app:v1", "app"]);
    let build = build
        .process_group(0)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let build = build.spawn().unwrap();
    wait_until("RUN begins", || !processes_called(&name).is_empty());
    assert!(fs::read_dir(desk.path("root/store/tmp")).unwrap().count() > 0);
    let whom = if foreground { "-" } else { "" };
    let whom = format!("{whom}{}", build.id());
    let sent = Command::new("kill").args(["-s", signal, "--", &whom]).status();
    assert!(sent.unwrap().success());
    let output = build.wait_with_output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert_eq!(said.matches("error:").count(), 1, "{said}");
    assert!(
        said.contains("error: interrupted\nhint: no image was made"),
        "{said}"
    );
    wait_until("RUN ends", || processes_called(&name).is_empty());
    let left = || fs::read_dir(desk.path("root/store/tmp")).map_or(0, Iterator::count);
    if foreground {
        assert_eq!(left(), 0, "it was cleared away");
    }
    assert_eq!(desk.ok(&["images", "-q"]), "");
    assert_eq!(left(), 0, "nothing of it is left");
}

#[test]
fn an_interrupted_build_says_so_and_leaves_nothing() {
    interrupted_build("INT", true);
    interrupted_build("TERM", false);
}

/// What docker's containers have, without making device nodes and writing to the audit log.
const RIGHTS: &str = "grep -q 'CapEff:.00000000800425fb$' /proc/self/status || exit 11";

#[test]
fn commands_have_rights_over_files_and_processes_and_over_nothing_else() {
    let Some(desk) = desk(&[
        RIGHTS,
        "grep -q 'CapBnd:.00000000800425fb$' /proc/self/status || exit 12",
        "unshare --user true && exit 13",
        "unshare --mount true && exit 14",
        "[ -e /proc/1/root/ ] && exit 15",
        "(echo 1 >/proc/sys/vm/swappiness) && exit 16",
        "(: >/etc/gantry-was-here) && exit 17",
        "chown 1:1 /tmp && chown 0:0 /tmp || exit 18",
    ]) else {
        return;
    };
    desk.ok(&["build", "-t", "app:v1", "app"]);
}

#[test]
fn on_the_network_of_this_machine_commands_see_no_packets_of_others() {
    let Some(desk) = desk(&["grep -q 'CapBnd:.00000000800405fb$' /proc/self/status || exit 11"]) else {
        return;
    };
    desk.ok(&["build", "--network", "host", "-t", "app:v1", "app"]);
}

#[test]
fn commands_inherit_no_handles_no_rights_and_no_terminal() {
    let Some(desk) = desk(&[
        "[ -e /proc/self/fd/7 ] && exit 10",
        RIGHTS,
        "grep -q 'CapInh:.0*$' /proc/self/status || exit 12",
        "grep -q 'CapAmb:.0*$' /proc/self/status || exit 13",
        // A session of its own: its leader is a process in here.
        "read -r _ _ _ _ _ session _ </proc/self/stat",
        "[ \"$session\" -gt 0 ] || exit 14",
    ]) else {
        return;
    };
    let output = Command::new("setpriv")
        .args([
            "--inh-caps",
            "+sys_admin,+net_admin",
            "--ambient-caps",
            "+sys_admin,+net_admin",
        ])
        .args(["bash", "-c", "exec 7</ && exec \"$0\" build -t app:v1 app"])
        .arg(&desk.program)
        .current_dir(desk.dir.path())
        .env("GANTRY_ROOT", desk.path("root"))
        .env("GANTRY_SIGNATURE_POLICY", desk.path("policy.json"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_command_ends_with_its_build_whatever_it_asks_of_the_kernel() {
    let mark = format!("gantry-build-run-test-{}", std::process::id());
    // prctl(PR_SET_PDEATHSIG, 0): it does not want to be ended when its parent is.
    let line = format!("exec perl -e '$0 = \"{mark}\"; syscall(157, 1, 0); sleep 1000'");
    let Some(desk) = desk(&[&line]) else {
        return;
    };
    let mut build = desk.command(&["build", "-t", "app:v1", "app"]).spawn().unwrap();
    // It has its own name as soon as it runs; who starts it has it among other words.
    wait_until("the command does not start", || {
        !processes_called(&mark).is_empty()
    });
    build.kill().unwrap();
    build.wait().unwrap();
    wait_until("the command goes on without its build", || {
        processes_called(&mark).is_empty()
    });
}

#[test]
fn commands_see_nothing_of_the_people_and_services_of_this_machine() {
    let Some(desk) = desk(&[
        "[ -z \"$(ls -A /root /home /srv /mnt /media | grep -v ^/)\" ] || exit 11",
        "[ -s /etc/shadow ] && exit 12",
        "ls /etc/ssh/*key && exit 13",
        "[ -z \"$(find / -xdev -type s)\" ] || exit 14",
        "[ -s /etc/passwd ] && [ -x /usr/bin/env ] || exit 15",
        "[ \"$(ls /var/lib | grep -v -x -e dpkg -e apt -e rpm -e ca-certificates)\" = '' ] || exit 16",
        "mkdir c && chroot c /bin/true; cd /; [ -e ../../../proc/1/root/etc ] && exit 17",
        "touch /tmp/a /var/tmp/b /run/c /root/d || exit 18",
    ]) else {
        return;
    };
    desk.ok(&["build", "-t", "app:v1", "app"]);
    assert!(Path::new("/etc/shadow").exists());
}

#[test]
fn a_command_that_takes_too_much_is_ended_and_told_of_what() {
    let Some(desk) = desk(&["perl -e 'for (1..5000) { fork or sleep 1000 } sleep 1000'"]) else {
        return;
    };
    let error = desk.fails(5, &["build", "-t", "app:v1", "app"]);
    assert!(
        error.contains("the RUN command was ended: it wanted more than 4096 processes at once"),
        "{error}"
    );
}
