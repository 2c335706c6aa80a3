//! The program itself: exit codes, what goes to which stream, help, documents.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use gantry_system::files::FileLock;

const CLUSTERFILE: &str = "apiVersion: sealer.io/v2\nkind: Cluster\nmetadata: { name: demo }\nspec:\n  \
                           image: kubernetes:v1.19.8\n  hosts: [ { ips: [ 10.0.0.2 ], roles: [ master ] } ]\n";

fn gantry(dir: &Path, words: &[&str]) -> Output {
    command(dir, words).output().unwrap()
}

fn command(dir: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gantry"));
    command
        .args(words)
        .current_dir(dir)
        .env("GANTRY_ROOT", dir.join("state"))
        .stdin(Stdio::null());
    command.env_remove("GANTRY_IDENTITY").env_remove("GANTRY_TOKEN");
    command
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn help_goes_to_standard_output_and_wrong_usage_ends_with_2() {
    let dir = tempfile::tempdir().unwrap();
    let help = gantry(dir.path(), &["--help"]);
    assert_eq!(code(&help), 0);
    for word in ["build", "apply", "Exit codes", "--root"] {
        assert!(out(&help).contains(word), "{word}");
    }
    let wrong = gantry(dir.path(), &["aply"]);
    assert_eq!((code(&wrong), out(&wrong).as_str()), (2, ""));
    assert!(err(&wrong).contains("'apply'"), "{}", err(&wrong));
    assert!(out(&gantry(dir.path(), &["--version"])).starts_with("gantry 0."));
}

#[test]
fn a_missing_file_and_a_wrong_one_are_input_errors() {
    let dir = tempfile::tempdir().unwrap();
    let missing = gantry(dir.path(), &["plan"]);
    assert_eq!(code(&missing), 2);
    assert!(err(&missing).contains("cannot read Clusterfile") && err(&missing).contains("-f"));

    fs::write(
        dir.path().join("Clusterfile"),
        CLUSTERFILE.replace("roles", "role"),
    )
    .unwrap();
    let wrong = gantry(dir.path(), &["apply", "-y"]);
    assert_eq!(code(&wrong), 2);
    assert!(
        err(&wrong).contains("Clusterfile:6:33") && err(&wrong).contains("did you mean `roles`?"),
        "{}",
        err(&wrong)
    );
    assert!(!err(&wrong).contains('\x1b'), "colours do not belong into a pipe");
    assert!(err(&wrong).ends_with("error: Clusterfile has a mistake\n"));

    fs::write(dir.path().join("Clusterfile"), "[".repeat(10 << 20)).unwrap();
    let huge = gantry(dir.path(), &["plan"]);
    assert_eq!(code(&huge), 2);
    assert!(err(&huge).contains("longer than 1024 KiB"), "{}", err(&huge));
    fs::write(dir.path().join("plan.json"), "{}").unwrap();
    assert_eq!(code(&gantry(dir.path(), &["apply", "-f", "plan.json"])), 2);
}

#[test]
fn an_image_that_is_not_there_is_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("Clusterfile"), CLUSTERFILE).unwrap();
    let output = gantry(dir.path(), &["apply", "-y"]);
    assert_eq!(code(&output), 2);
    for part in [
        "kubernetes:v1.19.8 is not in the store",
        "Clusterfile:5:10",
        "`gantry pull kubernetes:v1.19.8` or `gantry load FILE`",
    ] {
        assert!(err(&output).contains(part), "{part}: {}", err(&output));
    }
}

#[test]
fn lines_of_an_edit_that_was_not_written_are_not_said_to_be_the_files() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("Clusterfile"), CLUSTERFILE).unwrap();
    let output = gantry(dir.path(), &["join", "-y", "-n", "10.0.0.3"]);
    assert_eq!(code(&output), 2);
    assert!(
        err(&output).contains("Clusterfile as edited (the file is not changed):5:10"),
        "{}",
        err(&output)
    );
    assert_eq!(
        fs::read_to_string(dir.path().join("Clusterfile")).unwrap(),
        CLUSTERFILE
    );
}

#[test]
fn hints_name_the_flag_that_the_command_has() {
    let dir = tempfile::tempdir().unwrap();
    for words in [
        &["status", "-c", "nope"][..],
        &["kubeconfig", "-c", "nope"],
        &["logs", "10.0.0.2", "-c", "nope"],
        &["restore", "--kept", "v1.20.3", "-c", "nope"],
        &["backup", "-o", "snapshot", "-c", "nope"],
        &["logs", "10.0.0.2", "--clusterfile", "nofile"],
        &["backup", "-o", "snapshot", "--clusterfile", "nofile"],
    ] {
        let output = gantry(dir.path(), words);
        assert_eq!(code(&output), 2, "{words:?}: {}", err(&output));
        assert!(
            err(&output).contains("with --clusterfile\n"),
            "{words:?}: {}",
            err(&output)
        );
    }
    let output = gantry(dir.path(), &["certs", "renew", "-c", "nope"]);
    assert!(err(&output).contains("with -f\n"), "{}", err(&output));
}

#[test]
fn hosts_that_do_not_answer_end_with_7() {
    let dir = tempfile::tempdir().unwrap();
    let created = gantry(dir.path(), &["token", "create"]);
    assert_eq!(code(&created), 0, "{}", err(&created));
    // Nobody listens on the port that the kernel just had.
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let port = port.to_string();
    let file = CLUSTERFILE.replace("10.0.0.2", "127.0.0.1");
    fs::write(dir.path().join("Clusterfile"), file).unwrap();
    let which = [
        "--clusterfile",
        "Clusterfile",
        "--agent-port",
        &port,
        "--udp",
        "never",
    ];
    for words in [
        &["kubeconfig"][..],
        &["backup", "-o", "snapshot"],
        &["restore", "--kept", "v1.20.3"],
    ] {
        let output = gantry(dir.path(), &[words, &which].concat());
        assert_eq!(code(&output), 7, "{words:?}: {}", err(&output));
        assert!(err(&output).contains("127.0.0.1"), "{words:?}: {}", err(&output));
    }
    let enrolled = gantry(
        dir.path(),
        &["enroll", "127.0.0.1", "--agent-port", &port, "--udp", "never"],
    );
    assert_eq!(code(&enrolled), 7, "{}", err(&enrolled));
    let file = ["-f", "Clusterfile", "--agent-port", &port, "--udp", "never"];
    let renewed = gantry(dir.path(), &[&["certs", "renew", "-y"][..], &file].concat());
    assert_ne!(code(&renewed), 0);
    assert!(!err(&renewed).contains("is to be renewed"), "{}", err(&renewed));
}

#[test]
fn where_nothing_was_enrolled_there_is_nothing_to_list_or_revoke() {
    let dir = tempfile::tempdir().unwrap();
    for words in [
        &["agents", "revoke", "1.2.3.4"][..],
        &["operator", "revoke", "ann"],
        &["certs", "rotate-ca", "-y"],
    ] {
        let output = gantry(dir.path(), words);
        assert_eq!(code(&output), 2, "{words:?}: {}", err(&output));
        let said = err(&output);
        assert_eq!(
            said.matches("CA").count(),
            2,
            "{words:?}: the cause once, and the hint: {said}"
        );
        assert!(
            said.contains("hint: the CA is made by `gantry token create`"),
            "{words:?}: {said}"
        );
    }
    let listed = gantry(dir.path(), &["operator", "list", "-o", "json"]);
    assert_eq!((code(&listed), out(&listed).as_str()), (0, "[]\n"));
    assert!(out(&gantry(dir.path(), &["operator", "list"])).is_empty());
    let enrolled = gantry(dir.path(), &["enroll", "10.0.0.2"]);
    assert_eq!(code(&enrolled), 2);
    assert!(
        !dir.path().join("state/orchestrator").exists(),
        "no CA was made for that"
    );
    let added = gantry(dir.path(), &["operator", "add", "ann", "-o", "ann"]);
    assert!(err(&added).contains("this machine had no CA"), "{}", err(&added));
    let added = gantry(dir.path(), &["operator", "add", "bob", "-o", "bob"]);
    assert!(!err(&added).contains("this machine had no CA"), "{}", err(&added));
}

#[test]
fn a_folder_that_is_not_there_is_an_input_error_before_any_work() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("Clusterfile"), CLUSTERFILE).unwrap();
    for words in [
        &["plan", "-o", "absent/plan.json"][..],
        &["sbom", "demo:v1", "-o", "absent/demo.spdx.json"],
        &["kubeconfig", "-o", "absent/config"],
        &["backup", "-o", "absent/snapshot"],
        &["keys", "generate", "-o", "absent/release"],
    ] {
        let output = gantry(dir.path(), words);
        assert_eq!(code(&output), 2, "{words:?}: {}", err(&output));
        let said = err(&output);
        assert!(
            said.contains("there is no folder absent") && !said.contains(".new-"),
            "{words:?}: {said}"
        );
    }
}

#[test]
fn without_enrolled_hosts_the_next_command_is_named() {
    let dir = tempfile::tempdir().unwrap();
    for words in [
        &["status"][..],
        &["logs", "10.0.0.2", "init.sh"],
        &["enroll", "10.0.0.2"],
    ] {
        let output = gantry(dir.path(), words);
        assert_eq!(code(&output), 2, "{words:?}");
        assert!(
            err(&output).contains("gantry token create"),
            "{words:?}: {}",
            err(&output)
        );
    }
}

#[test]
fn the_schema_is_json_and_completions_and_man_pages_name_the_commands() {
    let dir = tempfile::tempdir().unwrap();
    let schema: serde_json::Value = serde_json::from_slice(&gantry(dir.path(), &["schema"]).stdout).unwrap();
    assert_eq!(
        schema["anyOf"][0]["properties"]["spec"]["required"],
        serde_json::json!(["image", "hosts"])
    );
    assert_eq!(schema["anyOf"][1]["title"], "Config");
    for shell in ["bash", "zsh", "fish"] {
        let script = out(&gantry(dir.path(), &["completions", shell]));
        for shown in [
            "apply",
            "rotate-cluster-ca",
            "scale-up",
            "clusterfile",
            "signature-policy",
        ] {
            assert!(script.contains(shown), "{shell}: {shown}");
        }
        for hidden in [
            "run-child",
            "rehearsal-child",
            "render-chart",
            "podcidr",
            "svccidr",
        ] {
            assert!(!script.contains(hidden), "{shell}: {hidden}");
        }
    }
    let pages = dir.path().join("man");
    assert_eq!(code(&gantry(dir.path(), &["man", pages.to_str().unwrap()])), 0);
    assert!(
        fs::read_to_string(pages.join("gantry-apply.1"))
            .unwrap()
            .contains("Clusterfile")
    );
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = command(dir.path(), &["schema"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((code(&output), err(&output).as_str()), (0, ""));
}

#[test]
fn a_token_is_printed_alone_and_only_its_id_is_listed() {
    let dir = tempfile::tempdir().unwrap();
    let created = gantry(dir.path(), &["token", "create", "--ttl", "1h", "--uses", "3"]);
    assert_eq!(code(&created), 0, "{}", err(&created));
    let token = out(&created);
    let secret = token.trim().rsplit('.').next().unwrap();
    let id = token.split('.').nth(2).unwrap();
    assert_eq!(token.lines().count(), 1);
    let listed = gantry(dir.path(), &["token", "list"]);
    assert!(out(&listed).contains(id) && !out(&listed).contains(secret));
    let kept = fs::read_to_string(dir.path().join("state/orchestrator/tokens.json")).unwrap();
    assert!(!kept.contains(secret), "the text of a token is not kept");
    assert_eq!(code(&gantry(dir.path(), &["token", "revoke", id])), 0);
    let again = gantry(dir.path(), &["token", "revoke", id]);
    assert_eq!(code(&again), 2);
    assert!(err(&again).contains("nothing was revoked"), "{}", err(&again));
    let ended = gantry(dir.path(), &["token", "create", "--ttl", "0s"]);
    assert_eq!((code(&ended), out(&ended).as_str()), (2, ""), "{}", err(&ended));
}

#[test]
fn nobody_is_revoked_while_the_ca_is_being_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let made = gantry(dir.path(), &["operator", "add", "ann", "-o", "ann"]);
    assert_eq!(code(&made), 0);
    let rotation = FileLock::try_exclusive(&dir.path().join("state/orchestrator/rotation.lock"));
    let rotation = rotation.unwrap().unwrap();
    for words in [["operator", "revoke", "ann"], ["agents", "revoke", "10.0.0.2"]] {
        let refused = gantry(dir.path(), &words);
        assert_eq!(code(&refused), 8, "{}", err(&refused));
        assert!(err(&refused).contains("wait until it ends"), "{}", err(&refused));
    }
    drop(rotation);
    assert_eq!(code(&gantry(dir.path(), &["operator", "revoke", "ann"])), 0);
    assert_eq!(code(&gantry(dir.path(), &["agents", "revoke", "10.0.0.2"])), 2);
}

#[test]
fn identities_are_made_listed_and_revoked() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(
        code(&gantry(dir.path(), &["operator", "add", "ann", "-o", "ann"])),
        0
    );
    assert_eq!(
        code(&gantry(dir.path(), &["operator", "add", "ann", "-o", "ann"])),
        2,
        "the folder is taken"
    );
    let listed = out(&gantry(dir.path(), &["operator", "list"]));
    assert!(
        listed.contains("ann") && listed.contains("reader") && listed.contains("valid"),
        "{listed}"
    );
    assert_eq!(code(&gantry(dir.path(), &["operator", "revoke", "ann"])), 0);
    assert!(out(&gantry(dir.path(), &["operator", "list"])).contains("revoked"));
    let listed = out(&gantry(dir.path(), &["operator", "list", "-o", "json"]));
    assert!(
        listed.contains("\"notAfter\"") && !listed.contains("not_after"),
        "{listed}"
    );
    assert_eq!(
        code(&gantry(dir.path(), &["operator", "revoke", "orchestrator"])),
        2,
        "not its own one"
    );
}
