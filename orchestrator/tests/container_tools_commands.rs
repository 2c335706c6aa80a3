//! What a user of docker, podman, buildah or skopeo types has its effect, or is told what does here.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod desk;

use std::io::Write as _;
use std::process::Stdio;

use desk::{Desk, text};

/// A desk with an image `demo:v1`.
fn desk() -> Desk {
    let desk = Desk::new();
    desk.file("demo/Kubefile", "FROM scratch\nCOPY Kubefile etc/\n");
    desk.ok(&["build", "-t", "demo:v1", "--build-mode", "lite", "demo"]);
    desk
}

#[test]
fn a_name_with_its_transport_leads_to_the_registry() {
    let desk = desk();
    // Nobody listens there.
    let there = "docker://127.0.0.1:1/team/demo:v1";
    desk.ok(&["manifest", "create", "all:v1", "demo:v1"]);
    for words in [
        &["pull", there][..],
        &["push", "demo:v1", there],
        &["manifest", "push", "all:v1", there],
        &["search", there],
    ] {
        let said = desk.fails(7, &[words, &["--retries", "0"]].concat());
        assert!(
            said.contains("cannot reach registry 127.0.0.1:1"),
            "{words:?}: {said}"
        );
    }
    for (words, said) in [
        (&["pull", "oci-archive:demo.tar"][..], "`gantry load FILE`"),
        (&["pull", "containers-storage:demo:v1"], "podman save"),
        (
            &["push", "demo:v1", "docker-archive:demo.tar"],
            "`gantry save --format docker-archive",
        ),
        (&["push", "demo:v1", "oci:out"], "`gantry save --format oci-dir"),
        (
            &["inspect", "docker://hub.lab/demo:v1"],
            "`gantry pull hub.lab/demo:v1`",
        ),
        (
            &["tag", "demo:v1", "docker://hub.lab/demo:v1"],
            "leave out \"://\"",
        ),
    ] {
        let error = desk.fails(2, words);
        assert!(error.contains(said), "{words:?}: {error}");
        assert!(!error.contains("port"), "{words:?}: {error}");
    }
}

#[test]
fn a_kubefile_comes_from_standard_input() {
    let desk = desk();
    let build = |kubefile: &str| {
        let mut command = desk.command(&[
            "build",
            "-t",
            "piped:v1",
            "--build-mode",
            "lite",
            "-f",
            "-",
            "demo",
        ]);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(kubefile.as_bytes())
            .unwrap();
        child.wait_with_output().unwrap()
    };
    let built = build("FROM scratch\nCOPY Kubefile opt/\n");
    assert!(built.status.success(), "{}", text(&built.stderr));
    assert_eq!(
        desk.ok(&["cat", "piped:v1", "opt/Kubefile"]),
        "FROM scratch\nCOPY Kubefile etc/\n"
    );
    let wrong = build("FROM scratch\nCOPPY a b\n");
    assert_eq!(wrong.status.code(), Some(2));
    let said = text(&wrong.stderr);
    assert!(said.contains("standard input:2:1"), "{said}");
}

#[test]
fn an_image_is_built_under_several_names_and_listed_by_one() {
    let desk = desk();
    let built = desk.ok(&[
        "build",
        "-t",
        "a:v1",
        "-t",
        "a:latest",
        "-t",
        "hub.lab/b:v1",
        "--build-mode",
        "lite",
        "demo",
    ]);
    let lines: Vec<_> = built.lines().map(|line| line.split_once('@').unwrap()).collect();
    let names: Vec<_> = lines.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["a:v1", "a:latest", "hub.lab/b:v1"]);
    assert!(lines.iter().all(|(_, digest)| *digest == lines[0].1), "{built}");
    desk.file("ours.pub", desk.ok(&["keys", "show"]));
    assert_eq!(
        desk.ok(&["inspect", "-f", "{{.SignedAs}}", "a:v1"]).trim(),
        "[a demo hub.lab/b]",
        "as each name"
    );
    let listed = |name: &str| desk.ok(&["images", "-q", name]).lines().count();
    assert_eq!(
        (
            listed("a"),
            listed("a:v1"),
            listed("hub.lab/b"),
            listed("nothing")
        ),
        (2, 1, 1, 0)
    );
    assert!(desk.ok(&["images", "a"]).contains("latest"));
}

#[test]
fn what_is_called_otherwise_is_told_how() {
    let desk = desk();
    for (line, said) in [
        ("pull --creds ops:geheim hub.lab/demo:v1", "`gantry login"),
        ("push --creds=ops:geheim demo:v1 hub.lab/demo:v1", "`gantry login"),
        ("images --filter reference=demo", "`gantry images NAME`"),
        ("rmi -a", "`gantry rmi $(gantry images -q)`"),
        ("history -q demo:v1", "-o json"),
        ("manifest annotate demo:v1 demo:v1 --arch arm64", "--platform"),
        ("manifest rm demo:v1", "`gantry rmi NAME`"),
        ("copy docker://hub.lab/a:v1 oci:out", "`gantry pull`"),
        ("build --target base -t x:v1 demo", "-f"),
    ] {
        let error = desk.fails(2, &line.split(' ').collect::<Vec<_>>());
        assert!(
            error.contains(said) && !error.contains("geheim"),
            "{line}: {error}"
        );
    }
}
