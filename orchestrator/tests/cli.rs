//! The program itself: exit codes, what goes to which stream, help, documents.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
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
    assert!(
        err(&output).contains("kubernetes:v1.19.8 is not in the store"),
        "{}",
        err(&output)
    );
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
        assert!(
            out(&gantry(dir.path(), &["completions", shell])).contains("apply"),
            "{shell}"
        );
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
    assert_eq!(code(&gantry(dir.path(), &["token", "revoke", id])), 2);
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
    assert_eq!(
        code(&gantry(dir.path(), &["operator", "revoke", "orchestrator"])),
        2,
        "not its own one"
    );
}
