//! `gantry check --rehearse`: what the scripts of an image ask a network for, and that they reach nothing of this machine.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod desk;

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use desk::*;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// A desk with the image `app:v1` of these scripts; none for who is not root.
fn desk(scripts: &[(&str, &str)]) -> Option<Desk> {
    if !am_root() {
        // What an ordinary user gets is the last test.
        return None;
    }
    let desk = Desk::new();
    for (name, text) in scripts {
        desk.file(&format!("app/scripts/{name}"), text);
    }
    desk.file("app/Kubefile", "FROM scratch\nCOPY . .\n");
    desk.ok(&["build", "-t", "app:v1", "app"]);
    Some(desk)
}

/// What a rehearsal of `app:v1` comes to, and its exit status.
fn rehearsed(desk: &Desk, words: &[&str]) -> (Value, Option<i32>) {
    let words = [&["check", "app:v1", "--rehearse", "-o", "json"][..], words].concat();
    let output = desk.run(&words);
    let document: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{words:?}: {}", text(&output.stderr)));
    (document["rehearsal"].clone(), output.status.code())
}

/// Findings as `FILE:LINE WHAT TARGET`.
fn findings(rehearsal: &Value) -> Vec<String> {
    let findings = rehearsal["findings"].as_array().unwrap().iter();
    let word = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    findings
        .map(|finding| {
            let line = &finding["line"];
            format!(
                "{}:{} {} {}",
                word(&line["file"]),
                line["line"],
                word(&finding["what"]),
                word(&finding["target"])
            )
        })
        .collect()
}

/// Doubts as `SCRIPT: REASON`.
fn doubts(rehearsal: &Value) -> Vec<String> {
    let doubts = rehearsal["notKnown"].as_array().unwrap().iter();
    doubts
        .map(|doubt| {
            format!(
                "{}: {}",
                doubt["script"].as_str().unwrap(),
                doubt["reason"].as_str().unwrap()
            )
        })
        .collect()
}

#[test]
fn names_and_addresses_are_listed_with_the_lines_that_ask_for_them() {
    let Some(desk) = desk(&[
        (
            "init.sh",
            "#!/bin/bash\n\
             (exec 3<>/dev/tcp/get.example/443) || echo refused\n\
             (exec 3<>/dev/tcp/203.0.113.9/8443) || echo refused\n\
             (exec 3<>/dev/tcp/2001:db8:1::9/80) || echo refused\n\
             bash docker.sh\n",
        ),
        (
            "docker.sh",
            "# nothing\n: >/dev/udp/time.example/123\necho x >/dev/udp/time.example/123\n",
        ),
        (
            "clean.sh",
            "(exec 3<>/dev/tcp/get.example/443) || true\n(exec 3<>/dev/tcp/get.example/443) || true\n",
        ),
    ]) else {
        return;
    };
    let (rehearsal, status) = rehearsed(&desk, &[]);
    let found = findings(&rehearsal);
    assert_eq!(
        found,
        [
            "init.sh:2 resolves get.example",
            "init.sh:2 connects get.example:443",
            "init.sh:3 connects 203.0.113.9:8443",
            "init.sh:4 connects [2001:db8:1::9]:80",
            "docker.sh:2 resolves time.example",
            "docker.sh:3 sends time.example:123",
            "clean.sh:1 resolves get.example",
            "clean.sh:1 connects get.example:443",
        ]
    );
    assert_eq!(status, Some(6));
    assert_eq!(rehearsal["findings"][0]["script"], "scripts/init.sh");
    assert_eq!(
        rehearsal["findings"][0]["process"], "bash",
        "who waits for an answer is known"
    );
    assert_eq!(doubts(&rehearsal), [""; 0]);

    let output = desk.run(&["check", "app:v1", "--rehearse"]);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(out.contains("NEEDS A NETWORK"), "{out}");
    assert!(
        out.contains("reaches get.example:443") && out.contains("init.sh:2 ("),
        "{out}"
    );
    assert!(
        err.contains("its scripts asked a network for 8 things") && err.contains("COPY"),
        "{err}"
    );
    let document =
        serde_json::from_slice::<Value>(&desk.run(&["check", "app:v1", "--rehearse", "-o", "json"]).stdout)
            .unwrap();
    assert_eq!(document["complete"], false);
    // Who does not ask for a rehearsal gets none.
    assert_eq!(
        desk.json(&["check", "app:v1", "-o", "json"])["rehearsal"],
        Value::Null
    );
}

#[cfg(target_arch = "x86_64")]
#[test]
fn scripts_get_no_rights_by_new_namespaces_no_keys_and_no_devices_to_change() {
    // unshare(CLONE_NEWUSER), keyctl(KEYCTL_GET_KEYRING_ID), socket(AF_VSOCK), setns: by their numbers, without a program that would
    // give up for other reasons.
    let refused = |words: &str| format!("perl -e 'exit(syscall({words}) == -1 ? 0 : 1)' || exit 1\n");
    let script = [
        "#!/bin/bash\n".to_owned(),
        refused("272, 0x10000000"),
        refused("250, 0, -3, 0"),
        refused("41, 40, 1, 0"),
        refused("308, 0, 0"),
        "grep -q ' /dev/null ro,' /proc/self/mountinfo || exit 2\n".to_owned(),
        "echo x >/dev/null || exit 3\n".to_owned(),
        // Programs start others as ever.
        "perl -e 'exit(system(\"true\"))' && python3 -c 'import subprocess; subprocess.run([\"true\"], check=True)' || \
         ! command -v python3 || exit 4\n"
            .to_owned(),
    ];
    let Some(desk) = desk(&[("init.sh", &script.concat())]) else {
        return;
    };
    let (rehearsal, status) = rehearsed(&desk, &[]);
    assert_eq!((doubts(&rehearsal), status), (vec![], Some(0)));
}

#[test]
fn templates_are_written_in_the_image_whatever_its_links_lead_to() {
    let Some(desk) = desk(&[(
        "init.sh",
        "#!/bin/bash\ngrep -qx 192.0.2.10 ../etc/host || exit 1\n",
    )]) else {
        return;
    };
    desk.file("app/etc/host.tmpl", "{{ .HostIP }}\n");
    std::os::unix::fs::symlink("/proc/self/fd/2", desk.path("app/etc/host")).unwrap();
    desk.ok(&["build", "-t", "app:v1", "app"]);
    let (rehearsal, status) = rehearsed(&desk, &[]);
    assert_eq!((doubts(&rehearsal), status), (vec![], Some(0)));
}

#[test]
fn scripts_of_an_image_that_the_policy_refuses_are_not_run() {
    let Some(desk) = desk(&[("init.sh", "#!/bin/bash\n: >/dev/tcp/get.example/443\n")]) else {
        return;
    };
    desk.file("policy.json", r#"{"default": [{"type": "reject"}]}"#);
    let error = desk.fails(6, &["check", "app:v1", "--rehearse"]);
    assert!(!error.contains("rehearsing"), "{error}");
    assert!(error.contains("policy"), "{error}");
    desk.ok(&["check", "app:v1"]);
}

#[test]
fn what_the_cluster_has_is_no_finding() {
    let Some(desk) = desk(&[(
        "init.sh",
        "set -e\n\
         [ \"$1 $2 $3 $HostIP $Zone\" = '/var/lib/docker sea.hub 5000 192.0.2.10 a' ]\n\
         [ \"$(cat ../etc/zone)\" = 'zone a' ]\n\
         [ \"$(umask) $(stat -c %a / /var/lib /tmp | xargs)\" = '0022 755 755 1777' ]\n\
         for peer in sea.hub/5000 apiserver.cluster.local/6443 localhost/80 127.0.0.1/80 \"$HostIP/80\" \"$HOSTNAME/80\" kubernetes.default.svc.cluster.local/443; do\n\
         (exec 3<>\"/dev/tcp/$peer\") 2>/dev/null && exit 1\n\
         done\n\
         ip -brief address | grep -q \"$HostIP/\"\n\
         ip route | grep -q '^default dev lo'\n\
         modprobe br_netfilter\n\
         sysctl -w net.ipv4.ip_forward=1\n\
         ! systemctl is-active --quiet web\n\
         systemctl enable --now web\n\
         systemctl is-active --quiet web\n\
         [ \"$(systemctl is-enabled web.service)\" = enabled ]\n\
         systemctl disable --now web\n\
         ! systemctl is-active --quiet web\n",
    )]) else {
        return;
    };
    desk.file("app/etc/zone.tmpl", "zone {{ .Zone }}\n");
    desk.ok(&["build", "-t", "app:v1", "app"]);
    let (rehearsal, status) = rehearsed(&desk, &["--strict", "-e", "Zone=a"]);
    assert_eq!((findings(&rehearsal), doubts(&rehearsal)), (vec![], vec![]));
    assert_eq!(status, Some(0));
    assert_eq!(rehearsal["scripts"][0]["succeeded"], true);
}

#[test]
fn a_script_that_fails_is_a_doubt_and_what_it_would_have_called_is_rehearsed() {
    let Some(desk) = desk(&[
        (
            "init.sh",
            "set -e\necho '\u{1b}[2Jno disk'\ncat /no/such/file\nbash init-kube.sh\n",
        ),
        ("init-kube.sh", "(exec 3<>/dev/tcp/203.0.113.9/80) || true\n"),
        ("init-registry.sh", "echo \"$*\"; exit 7\n"),
    ]) else {
        return;
    };
    let (rehearsal, _) = rehearsed(&desk, &[]);
    assert_eq!(findings(&rehearsal), ["init-kube.sh:1 connects 203.0.113.9:80"]);
    let doubts = doubts(&rehearsal);
    assert!(
        doubts[0].starts_with(
            "scripts/init.sh: it ended with status 1 at init.sh:3 (cat); what it would have done after that is not known"
        ) && doubts[0].contains("it said last: no disk | cat: /no/such/file")
            && !doubts[0].contains('\u{1b}'),
        "{doubts:?}"
    );
    assert!(
        doubts[1].contains("ended with status 7")
            && doubts[1].contains("5000 /var/lib/sealer/data/my-cluster/rootfs/registry sea.hub"),
        "{doubts:?}"
    );
    assert_eq!(doubts.len(), 2, "{doubts:?}");

    // Without findings doubts count for nothing, unless they are to.
    desk.file("app/scripts/init-kube.sh", "true\n");
    desk.ok(&["build", "-t", "app:v1", "app"]);
    let report = desk.ok(&["check", "app:v1", "--rehearse"]);
    assert!(
        report.contains("3 scripts rehearsed") && report.contains("NOT KNOWN OF"),
        "{report}"
    );
    let error = desk.fails(6, &["check", "app:v1", "--rehearse", "--strict"]);
    assert!(error.contains("2 things could not be told"), "{error}");
}

#[test]
fn a_script_that_does_not_end_is_ended_with_all_that_it_started() {
    let Some(desk) = desk(&[(
        "init.sh",
        "(trap '' TERM HUP INT; while :; do sleep 1000; done) &\nyes\n",
    )]) else {
        return;
    };
    let (rehearsal, status) = rehearsed(&desk, &["--script-timeout", "1s"]);
    let doubts = doubts(&rehearsal);
    assert!(
        doubts[0].starts_with("scripts/init.sh: it did not end within 1 s at init.sh:")
            && doubts[0].ends_with("what it would have done after that is not known"),
        "{doubts:?}"
    );
    assert_eq!(doubts.len(), 1, "{doubts:?}");
    assert_eq!(rehearsal["scripts"][0]["succeeded"], false);
    assert_eq!(status, Some(0));
}

#[test]
fn a_script_that_fills_the_disk_is_ended() {
    let large = "head -c 200M /dev/zero >/opt/large\nsleep 1000\n";
    is_ended_on_a_disk(
        "size=600m",
        large,
        "less than 512 MiB of this machine's disk are left",
    );
    let many = "perl -e 'open(F, \">/opt/$_\") for 1..20000'\nsleep 1000\n";
    let reason = "this machine's disk can take less than 4096 more files";
    is_ended_on_a_disk("size=600m,nr_inodes=20000", many, reason);
}

/// On a disk of these options for the store, `script` is ended for `reason`.
fn is_ended_on_a_disk(options: &str, script: &str, reason: &str) {
    let Some(desk) = desk(&[("init.sh", script)]) else {
        return;
    };
    // A disk of its own for the store.
    let mut alone = std::process::Command::new("unshare");
    alone
        .args(["--mount", "bash", "-euc"])
        .arg(
            "mount -t tmpfs -o \"$1\" none root\n\
             \"$0\" build -t app:v1 app >/dev/null 2>&1\n\
             \"$0\" check app:v1 --rehearse -o json",
        )
        .arg(&desk.program)
        .arg(options)
        .current_dir(desk.dir.path())
        .env("GANTRY_ROOT", desk.path("root"))
        .env("GANTRY_SIGNATURE_POLICY", desk.path("policy.json"));
    let output = alone.output().unwrap();
    let document: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)));
    let doubts = doubts(&document["rehearsal"]);
    assert!(
        doubts[0].starts_with("scripts/init.sh: it was ended at init.sh:")
            && doubts[0].ends_with(&format!(", for {reason}")),
        "{doubts:?}"
    );
    assert_eq!(doubts.len(), 1, "{doubts:?}");
}

#[test]
fn what_a_script_leaves_running_is_looked_at_for_a_while_and_ended() {
    let Some(desk) = desk(&[
        ("init.sh", "(sleep 0.5; exec 3<>/dev/tcp/late.example/80) &\n"),
        (
            "init-registry.sh",
            "setsid sleep 1000 </dev/null >/dev/null 2>&1 &\n",
        ),
    ]) else {
        return;
    };
    let (rehearsal, _) = rehearsed(&desk, &[]);
    let found = findings(&rehearsal);
    assert_eq!(
        found,
        [
            "init.sh:1 resolves late.example",
            "init.sh:1 connects late.example:80"
        ]
    );
    assert_eq!(
        doubts(&rehearsal),
        [
            "scripts/init-registry.sh: it left sleep running, which was ended; what that does later is not known"
        ]
    );
}

#[test]
fn nothing_of_this_machine_is_changed_or_reached() {
    let mark = format!("gantry-rehearsal-test-{}", std::process::id());
    let Some(desk) = desk(&[(
        "init.sh",
        &format!(
            "set -x\n\
             for folder in / /usr/bin /etc /var /var/lib /root /home /opt /boot /tmp /run /dev; do echo x >\"$folder/{mark}\" || exit 11; done\n\
             echo broken >../etc/own || exit 12\n\
             rm -rf /etc/passwd /usr/share/misc || exit 13\n\
             mknod /dev/{mark}-disk b 254 0 && exit 14\n\
             /bin/mount -t tmpfs none /mnt && exit 15\n\
             (echo 1 >/proc/sys/vm/swappiness) && exit 16\n\
             (echo b >/proc/sysrq-trigger) && exit 17\n\
             kill -KILL 1\n\
             [ -e /proc/1/root/ ] && exit 18\n\
             [ \"$(ls /proc | grep -c '^[0-9]')\" -lt 10 ] || exit 19\n\
             find /run /var -type s | grep . && exit 20\n\
             [ -e {desk}/app ] && exit 21\n\
             mkdir c; chroot c /bin/true; cd /; [ -e ../../../{desk}/app ] && exit 22\n\
             hostname {mark} && exit 23\n\
             ip link add {mark} type dummy && exit 24\n\
             exit 0\n",
            desk = std::env::temp_dir().display(),
        ),
    )]) else {
        return;
    };
    desk.file("app/etc/own", "as built");
    desk.ok(&["build", "-t", "app:v1", "app"]);
    for _ in 0..2 {
        let (rehearsal, _) = rehearsed(&desk, &[]);
        assert_eq!(doubts(&rehearsal), [""; 0]);
    }
    for folder in [
        "/", "/usr/bin", "/etc", "/var", "/var/lib", "/root", "/home", "/opt", "/boot", "/tmp", "/run",
        "/dev",
    ] {
        assert!(!Path::new(folder).join(&mark).exists(), "{folder}");
    }
    assert!(Path::new("/etc/passwd").exists());
    assert_eq!(desk.ok(&["cat", "app:v1", "etc/own"]), "as built");
    let left = std::fs::read_dir(desk.path("root/store/tmp")).unwrap().count();
    assert_eq!(left, 0, "what scripts wrote is gone");
}

#[test]
fn what_a_container_runtime_is_asked_for_is_listed() {
    let Some(desk) = desk(&[(
        "init.sh",
        "command -v docker && exit 1\n\
         printf '#!/bin/sh\\nexit 9\\n' >/usr/bin/docker && chmod +x /usr/bin/docker\n\
         systemctl enable docker; systemctl restart docker.service\n\
         docker version || exit 2\n\
         docker pull sea.hub:5000/pause:3.2\n\
         docker pull vendor.example/pause:3.2\n\
         printf '=\\037forged\\037pull\\037forged.example/a\\n' >>/run/gantry-rehearsal/trace\n",
    )]) else {
        return;
    };
    let (rehearsal, status) = rehearsed(&desk, &[]);
    // What a script writes there itself is no call.
    assert_eq!(findings(&rehearsal), ["init.sh:6 pulls vendor.example/pause:3.2"]);
    assert_eq!(
        doubts(&rehearsal),
        ["scripts/init.sh: it asks docker, and no container runtime runs here; the answers were made up"]
    );
    assert_eq!(status, Some(6));
}

#[test]
fn what_an_image_launches_is_rehearsed_in_its_rootfs() {
    let Some(desk) = desk(&[]) else { return };
    desk.file("app/manifests/own.yaml", "a: b\n");
    desk.file(
        "app/Kubefile",
        "FROM scratch\nCOPY manifests manifests\n\
         CMD cat manifests/own.yaml && bash -c 'exec 3<>/dev/tcp/charts.example/443'\n",
    );
    desk.ok(&["build", "-t", "app:v1", "app"]);
    let (rehearsal, _) = rehearsed(&desk, &[]);
    let found = findings(&rehearsal);
    assert_eq!(
        found,
        [
            "CMD 1:1 resolves charts.example",
            "CMD 1:1 connects charts.example:443"
        ]
    );
    let doubts = doubts(&rehearsal);
    assert!(doubts[0].contains("CMD 1: it ended with status 1"), "{doubts:?}");
}

#[test]
fn plugins_of_an_image_are_rehearsed_when_their_moment_comes() {
    let Some(desk) = desk(&[("init.sh", "(exec 3<>/dev/tcp/203.0.113.1/80) || true\n")]) else {
        return;
    };
    let plugin = |name: &str, on: &str, action: &str, data: &str| {
        let text = format!(
            "apiVersion: sealer.io/v1\nkind: Plugin\nmetadata: {{ name: {name} }}\nspec:\n  type: SHELL\n  \
             action: {action}\n  on: {on}\n  data: |\n    {data}\n"
        );
        desk.file(&format!("app/plugins/{name}.yaml"), text);
    };
    plugin(
        "before",
        "master",
        "PreInit",
        "[ -d scripts ] && (exec 3<>/dev/tcp/203.0.113.2/80) || true",
    );
    plugin(
        "nodes",
        "node",
        "PreInit",
        "(exec 3<>/dev/tcp/203.0.113.3/80) || true",
    );
    plugin("fails", "master", "PostInstall", "exit 3");
    desk.ok(&["build", "-t", "app:v1", "app"]);
    let (rehearsal, status) = rehearsed(&desk, &[]);
    assert_eq!(
        findings(&rehearsal),
        [
            "plugin before of plugins/before.yaml:1 connects 203.0.113.2:80",
            "init.sh:1 connects 203.0.113.1:80"
        ]
    );
    let doubts = doubts(&rehearsal);
    assert!(
        doubts[0].starts_with("plugin fails of plugins/fails.yaml: it ended with status 3"),
        "{doubts:?}"
    );
    assert_eq!((doubts.len(), status), (1, Some(6)), "{doubts:?}");

    desk.file(
        "app/plugins/fails.yaml",
        "kind: Plugin\nmetadata: { name: odd }\nspec: { type: NONE }\n",
    );
    desk.ok(&["build", "-t", "app:v1", "app"]);
    let (rehearsal, _) = rehearsed(&desk, &[]);
    let doubts = self::doubts(&rehearsal);
    assert!(
        doubts[0].starts_with(
            "plugins/fails.yaml of image app:v1:3:1: no host is given it: `spec.action` is missing"
        ),
        "{doubts:?}"
    );
}

#[test]
fn applications_are_launched_with_their_own_environment_and_templates() {
    let Some(desk) = desk(&[]) else { return };
    desk.file("app/web/values.conf.tmpl", "peer {{ .Peer }} {{ .Zone }}\n");
    desk.file("app/web/up.sh", "");
    desk.file(
        "app/Kubefile",
        "FROM scratch\nENV Zone=a\nAPP web local://web\nAPPENV web Peer=charts.example\n\
         APPCMDS web [\"[ \\\"$(cat values.conf)\\\" = 'peer charts.example a' ] && (exec 3<>/dev/tcp/$Peer/443) || true\"]\n\
         LAUNCH [\"web\"]\n",
    );
    desk.ok(&["build", "-t", "app:v1", "app"]);
    let (rehearsal, _) = rehearsed(&desk, &[]);
    assert_eq!(doubts(&rehearsal), [""; 0]);
    let found = findings(&rehearsal);
    assert_eq!(
        found,
        [
            "application web:1 resolves charts.example",
            "application web:1 connects charts.example:443"
        ]
    );
}

#[test]
fn what_a_clusterfile_says_reaches_what_is_launched() {
    let Some(desk) = desk(&[]) else { return };
    let reach = "(exec 3<>/dev/tcp/$Peer/80) || true";
    let clusterfile = |spec: &str| {
        format!(
            "apiVersion: sealer.io/v2\nkind: Cluster\nmetadata: {{ name: demo }}\nspec:\n  image: app:v1\n  \
             hosts: [ {{ ips: [ 10.0.0.2 ], roles: [ master ] }} ]\n{spec}"
        )
    };
    // ENV is a default; the Clusterfile's arguments count, as they do when it is applied.
    let kubefile = format!("FROM scratch\nENV Peer=203.0.113.1\nCOPY etc etc\nCMD {reach}\n");
    desk.file("app/Kubefile", &kubefile);
    desk.file(
        "app/etc/Clusterfile",
        clusterfile("  cmd_args: [ Peer=203.0.113.2 ]\n"),
    );
    desk.ok(&["build", "-t", "app:v1", "app"]);
    let (rehearsal, _) = rehearsed(&desk, &[]);
    assert_eq!(findings(&rehearsal), ["CMD 1:1 connects 203.0.113.2:80"]);
    desk.file("Clusterfile", clusterfile("  cmd_args: [ Peer=203.0.113.3 ]\n"));
    let (rehearsal, _) = rehearsed(&desk, &["-f", "Clusterfile"]);
    assert_eq!(findings(&rehearsal), ["CMD 1:1 connects 203.0.113.3:80"]);
    desk.file(
        "Clusterfile",
        clusterfile(&format!("  env: [ Peer=203.0.113.4 ]\n  cmd: [ '{reach}' ]\n")),
    );
    let (rehearsal, _) = rehearsed(&desk, &["-f", "Clusterfile"]);
    assert_eq!(findings(&rehearsal), ["command 1:1 connects 203.0.113.4:80"]);
    // What names something that the image does not have is refused, as an apply refuses it.
    desk.file("Clusterfile", clusterfile("  appNames: [ web ]\n"));
    let output = desk.run(&["check", "app:v1", "--rehearse", "-f", "Clusterfile"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("Clusterfile:7:") && said.contains("web"), "{said}");

    desk.file(
        "app/Kubefile",
        format!(
            "FROM scratch\nAPP web local://web\nAPPENV web Peer=203.0.113.5\nAPPCMDS web [\"{reach}\"]\n\
             APP db local://web\nAPPENV db Peer=203.0.113.6\nAPPCMDS db [\"{reach}\"]\nLAUNCH [\"web\"]\n"
        ),
    );
    desk.file("app/web/up.sh", "");
    desk.ok(&["build", "-t", "app:v1", "app"]);
    let applications = "  appNames: [ db, web ]\n---\napiVersion: sealer.io/v2\nkind: Application\nmetadata: { name: apps }\nspec:\n  \
                        configs: [ { name: db, env: [ Peer=203.0.113.7 ] } ]\n";
    desk.file("Clusterfile", clusterfile(applications));
    let (rehearsal, _) = rehearsed(&desk, &["-f", "Clusterfile"]);
    assert_eq!(
        findings(&rehearsal),
        [
            "application db:1 connects 203.0.113.7:80",
            "application web:1 connects 203.0.113.5:80"
        ]
    );
}

#[test]
fn a_resolver_that_is_asked_over_tcp_answers_and_names_are_listed() {
    let Some(desk) = desk(&[(
        "init.sh",
        // The length, the header, `Get.Example`, type A; twice, the second one in two pieces.
        "#!/bin/bash\n\
         exec 3<>/dev/tcp/127.0.0.53/53\n\
         ask='\\0\\x1d\\x12\\x34\\1\\x20\\0\\1\\0\\0\\0\\0\\0\\0\\3Get\\7Example\\0\\0\\1\\0\\1'\n\
         printf \"$ask\" >&3; \
         [ \"$(timeout 5 head -c 47 <&3 | tail -c 4 | od -An -tu1 | xargs)\" = '198 18 0 1' ] || exit 1\n\
         printf '\\0\\x1d\\x12\\x34\\1\\x20\\0\\1\\0\\0' >&3\n\
         printf '\\0\\0\\0\\0\\3get\\7another\\0\\0\\1\\0\\1' >&3; \
         [ \"$(timeout 5 head -c 47 <&3 | tail -c 4 | od -An -tu1 | xargs)\" = '198 18 0 2' ] || exit 2\n\
         exec 3>&-\n\
         # What is no question ends the connection.\n\
         exec 3<>/dev/tcp/127.0.0.53/53\n\
         printf '\\xff\\xffnonsense' >&3\n\
         [ \"$(timeout 5 cat <&3)\" = '' ] || exit 3\n",
    )]) else {
        return;
    };
    let (rehearsal, status) = rehearsed(&desk, &[]);
    assert_eq!(doubts(&rehearsal), [""; 0]);
    assert_eq!(
        findings(&rehearsal),
        ["init.sh:4 resolves get.example", "init.sh:6 resolves get.another"]
    );
    assert_eq!(rehearsal["findings"][0]["process"], "bash");
    assert_eq!(status, Some(6));
}

#[test]
fn packets_that_nobody_could_look_at_are_a_doubt() {
    let Some(desk) = desk(&[(
        "init.sh",
        "#!/bin/bash\n\
         : >/opt/ready\n\
         while [ ! -e /opt/go ]; do read -t 0.02 <> <(:); done\n\
         perl -e 'use Socket; socket(S, PF_INET, SOCK_DGRAM, 0);\n\
         my $to = pack_sockaddr_in(9, inet_aton(\"203.0.113.9\"));\n\
         send(S, \"x\", 0, $to) for 1 .. 200000'\n\
         : >/opt/sent\n",
    )]) else {
        return;
    };
    let mut command = desk.command(&["check", "app:v1", "--rehearse", "-o", "json"]);
    let check = command.stdout(Stdio::piped()).spawn().unwrap();
    let host = || {
        let runs = std::fs::read_dir(desk.path("root/store/tmp")).ok()?.flatten();
        runs.map(|run| run.path().join("root/opt"))
            .find(|opt| opt.join("ready").exists())
    };
    wait_until("the script does not begin", || host().is_some());
    let host = host().unwrap();
    let inner = *first_process_below(check.id()).last().unwrap();
    // Whoever looks is held: no queue is long enough then.
    let send = |signal| kill(Pid::from_raw(i32::try_from(inner).unwrap()), signal).unwrap();
    send(Signal::SIGSTOP);
    std::fs::write(host.join("go"), "").unwrap();
    wait_until("the script does not send", || host.join("sent").exists());
    send(Signal::SIGCONT);
    let output = check.wait_with_output().unwrap();
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let rehearsal = &document["rehearsal"];
    assert_eq!(findings(rehearsal), ["init.sh:4 sends 203.0.113.9:9"]);
    let doubts = doubts(rehearsal);
    assert!(
        doubts[0].starts_with("scripts/init.sh: ")
            && doubts[0].ends_with(" of its packets were not seen: whom else it reaches is not known"),
        "{doubts:?}"
    );
    assert_eq!(doubts.len(), 1, "{doubts:?}");
}

/// The processes that `process` has started, one below the other.
fn first_process_below(process: u32) -> Vec<u32> {
    let children = format!("/proc/{process}/task/{process}/children");
    let children = std::fs::read_to_string(children).unwrap_or_default();
    let Some(first) = children.split_whitespace().next() else {
        return Vec::new();
    };
    // Those of scripts are no part of it.
    let first: u32 = first.parse().unwrap();
    let words = std::fs::read(format!("/proc/{first}/cmdline")).unwrap_or_default();
    if !words.starts_with(b"gantry\0") {
        return Vec::new();
    }
    std::iter::once(first).chain(first_process_below(first)).collect()
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn scripts_that_take_too_much_of_this_machine_are_ended() {
    for (script, reason) in [
        (
            "perl -e 'for (1..2000) { fork or sleep 1000 } sleep 1000'\n",
            "for it wanted more than 1024 processes at once",
        ),
        (
            "perl -e 'my @all; push @all, \"x\" x (64 << 20) for 1..40; sleep 1000'\n",
            "for it wanted more than 2048 MiB of memory",
        ),
    ] {
        let Some(desk) = desk(&[("init.sh", script)]) else {
            return;
        };
        let (rehearsal, status) = rehearsed(&desk, &[]);
        let doubts = doubts(&rehearsal);
        assert!(
            doubts[0].starts_with("scripts/init.sh: it was ended at init.sh:1 (perl), ")
                && doubts[0].ends_with(reason),
            "{doubts:?}"
        );
        assert_eq!((doubts.len(), status), (1, Some(0)), "{doubts:?}");
    }
}

#[test]
fn scripts_inherit_no_handles_and_no_rights() {
    let Some(desk) = desk(&[(
        "init.sh",
        "[ -e /proc/self/fd/7 ] && exit 10\n\
         grep -q 'CapEff:.00000000800425fb$' /proc/self/status || exit 11\n\
         grep -q 'CapInh:.0*$' /proc/self/status || exit 12\n",
    )]) else {
        return;
    };
    let rights = "+sys_admin,+net_admin";
    let output = std::process::Command::new("setpriv")
        .args(["--inh-caps", rights, "--ambient-caps", rights])
        .args([
            "bash",
            "-c",
            "exec 7</ && exec \"$0\" check app:v1 --rehearse --strict",
        ])
        .arg(&desk.program)
        .current_dir(desk.dir.path())
        .env("GANTRY_ROOT", desk.path("root"))
        .env("GANTRY_SIGNATURE_POLICY", desk.path("policy.json"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
}

#[test]
fn nothing_that_an_image_says_controls_the_terminal() {
    let Some(desk) = desk(&[(
        "init.sh",
        "bash $'x\u{1b}]0;title\u{7}.sh'\nprintf '\u{1b}[2J\u{202e}bad\\n'; exit 1\n",
    )]) else {
        return;
    };
    desk.file(
        "app/scripts/x\u{1b}]0;title\u{7}.sh",
        "(exec 3<>/dev/tcp/203.0.113.9/80) || true\n",
    );
    desk.file("app/etc/a\u{1b}[31m\u{202e}.tmpl", "{{ no template\n");
    desk.file("app/etc/Clusterfile", "kind: \"\\e[2J\\u202e\"\n");
    desk.ok(&["build", "-t", "app:v1", "app"]);
    let output = desk.run(&["check", "app:v1", "--rehearse"]);
    let both = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert!(
        both.contains("203.0.113.9:80") && both.contains("cannot be rendered") && both.contains("bad"),
        "{both}"
    );
    let acted_on: Vec<char> = both
        .chars()
        .filter(|c| (c.is_control() && *c != '\n') || *c == '\u{202e}')
        .collect();
    assert_eq!(acted_on, [], "{both:?}");
}

#[test]
fn only_root_rehearses() {
    let desk = Desk::of_an_ordinary_user();
    desk.file("app/scripts/init.sh", "true\n");
    desk.file("app/Kubefile", "FROM scratch\nCOPY . .\n");
    desk.ok(&["build", "-t", "app:v1", "app"]);
    let error = desk.fails(2, &["check", "app:v1", "--rehearse"]);
    assert!(
        error.contains("only root may do that") && error.contains("sudo gantry check --rehearse"),
        "{error}"
    );
    desk.ok(&["check", "app:v1"]);
    desk.fails(2, &["check", "app:v1", "--script-timeout", "1s"]);
}
