//! Scripts that exit 0 and did not do what they are there for are found out before anything builds on them.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::time::{Duration, Instant};

use gantry_integration::{Applied, Finished, Host, ImageTree, Operator, Testbed, image_tree::note};

/// What old images do: a function that is nowhere, in a script that goes on and ends well.
const UNDEFINED: &str = "utils_get_distribution\ndisable_selinux\nexit 0\n";
/// Exit codes of an apply.
const SOME: i32 = 4;
const ALL: i32 = 5;
/// How long a start may take that systemd says is under way; see the plan.
const SERVES_LIMIT: Duration = Duration::from_secs(30);

/// Builds `name` of a small image with these files and scripts beside the usual ones.
fn build(operator: &Operator, name: &str, files: &[&str], scripts: &[(&str, &str)]) {
    let folder = operator.desk().join(name);
    let mut tree = ImageTree::with_scripts(&folder).unwrap();
    for path in files {
        tree = tree.file(path, "not what it seems\n").unwrap();
    }
    for (script, body) in scripts {
        tree = tree.script(script, body).unwrap();
    }
    drop(tree);
    operator
        .must(&format!("build -t {name}:v1 --build-mode lite {name}"))
        .unwrap();
}

/// Asserts that an apply failed on `host`, all of its hosts or one of several, and said all this.
fn says(failed: &Finished, status: i32, host: &Host, words: &[&str]) {
    assert_eq!(failed.status, Some(status), "{failed}");
    let address = host.address().to_string();
    for words in words.iter().chain([&address.as_str()]) {
        assert!(
            failed.all_output().contains(words),
            "{words:?} is not said: {failed}"
        );
    }
}

fn runs_of(host: &Host, script: &str) -> usize {
    let ran = host.must("cat /var/log/scripts").unwrap();
    ran.lines().filter(|line| line.starts_with(script)).count()
}

#[test]
fn a_runtime_that_does_not_answer_is_named_with_the_script_and_its_unit() {
    let bed = Testbed::enrolled(1).unwrap();
    let (operator, host) = (bed.operator(), bed.host(1));
    let undefined = format!("{}{UNDEFINED}", note("init.sh"));
    build(operator, "absent", &["cri/dockerd"], &[("init.sh", &undefined)]);
    operator.clusterfile("absent:v1", &[host]).unwrap();
    let begun = Instant::now();
    let failed = operator.gantry("apply -f Clusterfile -y").unwrap();
    says(
        &failed,
        ALL,
        host,
        &[
            "check init.sh",
            "scripts/init.sh of the image exited 0, but docker does not answer on /run/docker.sock",
            "there is no docker.service",
            "build the image again",
        ],
    );
    // What nobody starts is not waited for.
    assert!(begun.elapsed() < SERVES_LIMIT, "{:?}", begun.elapsed());

    // A unit that cannot start is named with systemd's own word; where containerd is what the script is for, it is asked.
    let unit = "cat >/etc/systemd/system/containerd.service <<END\n[Service]\nExecStart=/bin/false\nEND\n\
                systemctl daemon-reload\nsystemctl start containerd.service\nexit 0\n";
    let scripts = [("init.sh", unit)];
    build(operator, "broken", &["cri/containerd-1.7.tar.gz"], &scripts);
    operator.clusterfile("broken:v1", &[host]).unwrap();
    let failed = operator.gantry("apply -f Clusterfile -y").unwrap();
    says(
        &failed,
        ALL,
        host,
        &[
            "containerd does not answer on /run/containerd/containerd.sock",
            "containerd.service is failed (failed), result exit-code",
            "journalctl -u containerd.service",
        ],
    );
}

#[test]
fn a_kubelet_that_would_not_start_with_the_host_is_named_and_goes_on_once_it_is_enabled() {
    let bed = Testbed::enrolled(1).unwrap();
    let (operator, host) = (bed.operator(), bed.host(1));
    let forgets = format!(
        "{}printf '[Service]\\nExecStart=/bin/true\\n[Install]\\nWantedBy=multi-user.target\\n' \
         >/etc/systemd/system/kubelet.service\nsystemctl_enable kubelet\nexit 0\n",
        note("init.sh")
    );
    let programs = ["bin/kubeadm", "bin/kubelet", "bin/kubectl"];
    build(operator, "forgets", &programs, &[("init.sh", &forgets)]);
    operator.clusterfile("forgets:v1", &[host]).unwrap();
    let apply = "apply -f Clusterfile -y --progress json --skip-preflight=tools,cgroups,swap,networks,commands,etcd-disk";
    let failed = operator.gantry(apply).unwrap();
    says(
        &failed,
        ALL,
        host,
        &[
            "scripts/init.sh of the image exited 0, but kubelet.service is not enabled: systemd says disabled",
            "do on this host what it left undone",
        ],
    );

    host.must("systemctl enable kubelet.service").unwrap();
    // On it goes, as far as the kubeadm that is none.
    let next = Applied::read(operator.gantry(apply).unwrap());
    let ran = next.steps_on(host);
    assert!(
        ran.contains(&"check init.sh".to_owned()),
        "{ran:?}: {}",
        next.finished
    );
    assert!(!ran.contains(&"init.sh".to_owned()), "{ran:?}");
    assert_eq!(runs_of(host, "init.sh"), 1);
}

#[test]
fn a_registry_that_does_not_serve_is_named_by_where_it_was_looked_for() {
    let bed = Testbed::enrolled(2).unwrap();
    let (operator, host) = (bed.operator(), bed.host(1));
    let tree = ["registry/docker/registry/v2/repositories/hello/_manifests/tags/1.0/current/link"];
    build(operator, "silent", &tree, &[("init-registry.sh", UNDEFINED)]);
    operator.clusterfile("silent:v1", &[host, bed.host(2)]).unwrap();
    let failed = operator.gantry("apply -f Clusterfile -y").unwrap();
    let looked = format!(
        "the registry does not serve at sea.hub:5000 ({}:5000)",
        host.address()
    );
    says(
        &failed,
        SOME,
        host,
        &[
            "check init-registry.sh",
            "scripts/init-registry.sh of the image exited 0",
            &looked,
            "refused",
        ],
    );

    // One that somebody starts meanwhile is waited for, and asked once.
    let answer = "HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\nConnection: close\\r\\n\\r\\n{}";
    host.must(&format!(
        "cat >/etc/systemd/system/answer@.service <<'END'\n[Service]\nStandardInput=socket\n\
         ExecStart=/bin/bash -c 'head -c 4 >/dev/null; printf \"{answer}\"'\nEND\n\
         cat >/etc/systemd/system/answer.socket <<'END'\n[Socket]\nListenStream=5000\nAccept=yes\nEND\n\
         systemctl daemon-reload && systemctl start answer.socket"
    ))
    .unwrap();
    let applied = operator.apply().unwrap().ok().unwrap();
    assert_eq!(
        applied.steps_on(host),
        ["check init-registry.sh"],
        "{}",
        applied.finished
    );
    let again = operator.apply().unwrap().ok().unwrap();
    assert_eq!(again.steps(), 0, "{}", again.finished);
}
