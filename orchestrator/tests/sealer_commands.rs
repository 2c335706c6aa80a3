//! What a user of sealer types: flags that have a meaning here have their effect, others are told what holds instead.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod desk;

use desk::{Desk, text};

/// A desk with `base:v1` and `both:v1`, which is for two platforms.
fn desk() -> Desk {
    let desk = Desk::new();
    desk.base_context();
    desk.ok(&["build", "-t", "base:v1", "base"]);
    desk.file(
        "small/Kubefile",
        "FROM scratch\nLABEL tier=kubefile zone=a\nCOPY file .\n",
    );
    desk.file("small/file", "text");
    desk
}

#[test]
fn labels_and_annotations_of_the_command_line_are_in_the_image() {
    let desk = desk();
    desk.ok(&[
        "build",
        "-m",
        "lite",
        "--kubefile",
        "small/Kubefile",
        "--imageName",
        "small:v1",
        "--label",
        "tier=flag",
        "--annotation",
        "org.example/why=a=b",
        "small",
    ]);
    let image = desk.json(&["inspect", "-f", "json", "small:v1"]);
    assert_eq!(image["Labels"]["tier"], "flag", "over the Kubefile's");
    assert_eq!(image["Labels"]["zone"], "a");
    assert_eq!(image["Annotations"]["org.example/why"], "a=b");
    let extension = image["Annotations"]["sealer.image.extension"].as_str().unwrap();
    assert!(extension.contains(r#""tier":"flag""#), "{extension}");

    for (flag, said) in [
        ("--annotation=sealer.image.extension={}", "a build itself writes"),
        ("--annotation=word", "NAME=VALUE"),
        ("--label==x", "NAME=VALUE"),
    ] {
        let error = desk.fails(2, &["build", "-t", "x:v1", flag, "small"]);
        assert!(error.contains(said), "{flag}: {error}");
    }
}

#[test]
fn the_current_folder_is_built_from_where_none_is_named() {
    let desk = desk();
    let built = desk
        .command(&["build", "-t", "small:v1"])
        .current_dir(desk.path("small"))
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", text(&built.stderr));
    assert_eq!(desk.ok(&["cat", "small:v1", "file"]), "text");
}

#[test]
fn a_base_that_is_not_here_is_asked_for_and_one_that_is_here_is_not() {
    let desk = desk();
    // Nobody answers there.
    desk.file("on/Kubefile", "ARG V=1\nFROM 127.0.0.1:1/base:v${V}\n");
    let build =
        |code, words: &[&str]| desk.fails(code, &[&["build", "-t", "x:v1", "on"][..], words].concat());
    for when in [
        &[][..],
        &["--pull"],
        &["--pull=missing"],
        &["--pull=always"],
        &["--pull=ifnewer"],
        &["--pull=true"],
    ] {
        let error = build(7, &[when, &["--retries", "0", "--build-arg", "V=7"]].concat());
        assert!(
            error.contains("image 127.0.0.1:1/base:v7 is not in the store")
                && error.contains("cannot be pulled"),
            "{when:?}: {error}"
        );
        assert!(error.contains("`gantry load FILE`"), "{when:?}: {error}");
    }
    for never in ["--pull=never", "--pull=false"] {
        let error = build(2, &[never]);
        assert!(
            error.contains("on/Kubefile:2:6") && !error.contains("connect"),
            "{error}"
        );
    }
    // No network is asked for what cannot be built anyway.
    desk.file("on/Kubefile", "FROM 127.0.0.1:1/base:v1\nCOPPY a b\n");
    let error = build(2, &[]);
    assert!(
        error.contains("did you mean COPY?") && error.contains("on/Kubefile:1:6"),
        "{error}"
    );
    // One that is here is not missing, and FROM scratch names none.
    desk.file("on/Kubefile", "FROM 127.0.0.1:1/base:v1\n");
    desk.ok(&["tag", "base:v1", "127.0.0.1:1/base:v1"]);
    desk.ok(&["build", "-t", "x:v1", "on"]);
    let error = build(7, &["--pull=always", "--retries", "0"]);
    assert!(error.contains("--pull=missing"), "{error}");
    desk.ok(&["build", "-t", "x:v2", "--pull=always", "small"]);
}

#[test]
fn a_list_of_images_has_the_forms_that_sealer_has() {
    let desk = desk();
    let digest = desk.json(&["inspect", "-f", "json", "base:v1"])["Digest"].clone();
    let digest = digest.as_str().unwrap();
    let list = desk.ok(&["images"]);
    assert!(list.starts_with("REPOSITORY") && !list.contains(digest), "{list}");
    for flag in ["--digests", "--no-trunc"] {
        let list = desk.ok(&["images", "-a", flag]);
        assert!(list.contains("DIGEST") && list.contains(digest), "{list}");
    }
    assert_eq!(desk.ok(&["images", "-q"]), format!("{digest}\n"));
    assert_eq!(desk.json(&["images", "--json"])[0]["tag"], "v1");
    let list = desk.ok(&["images", "-n"]);
    assert!(list.starts_with("base ") && list.lines().count() == 1, "{list}");
    assert_eq!(desk.ok(&["images", "--color", "never"]), desk.ok(&["images"]));
}

#[test]
fn rmi_removes_what_is_there_and_one_platform_of_several() {
    let desk = desk();
    desk.ok(&[
        "build",
        "-t",
        "both:v1",
        "--platform",
        "linux/amd64,linux/arm64",
        "small",
    ]);
    let platforms = |desk: &Desk| desk.ok(&["manifest", "inspect", "both:v1"]);
    desk.ok(&["rmi", "--platform", "linux/arm64", "both:v1"]);
    assert!(
        platforms(&desk).contains("linux/amd64") && !platforms(&desk).contains("arm64"),
        "{}",
        platforms(&desk)
    );
    let error = desk.fails(2, &["rmi", "--platform", "linux/arm64", "both:v1"]);
    assert!(error.contains("has none for linux/arm64"), "{error}");
    desk.ok(&["rmi", "--platform", "linux/amd64", "both:v1"]);
    desk.fails(2, &["rmi", "both:v1"]);
    assert_eq!(desk.ok(&["rmi", "-f", "both:v1", "base:v1"]), "base:v1\n");
    assert_eq!(desk.ok(&["images", "-q"]), "");
    assert_eq!(desk.ok(&["rmi", "-p"]), "nothing to remove\n");
}

#[test]
fn what_is_not_done_here_is_named_with_what_is() {
    let desk = desk();
    for (words, why, instead) in [
        (
            &["build", "--mode", "cloud"][..],
            "--mode cloud is not supported: a build needs no cluster",
            "--build-mode",
        ),
        (
            &["build", "--base=false", "-t", "x:v1", "small"],
            "all layers that its Kubefile names",
            "app-installer",
        ),
        (&["check", "--post"], "--post is not supported", "gantry status"),
        (
            &["upgrade", "x:v2", "--apps", "a"],
            "there is no `gantry upgrade`: an upgrade is an apply",
            "gantry plan",
        ),
        (
            &["alpha", "exec", "ls"],
            "there is no `gantry alpha exec`",
            "Plugin",
        ),
        (
            &["join", "-n", "10.0.0.3", "-e", "A=b"],
            "--env is not supported",
            "spec.env",
        ),
    ] {
        let said = desk.fails(2, words);
        assert!(
            said.contains(why) && said.contains("hint: ") && said.contains(instead),
            "{words:?}: {said}"
        );
    }
    let output = desk.run(&[
        "--debug",
        "save",
        "--tmp-dir",
        "/tmp",
        "--compress",
        "-o",
        "x.tar",
        "base:v1",
    ]);
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("--debug is not used: ")
            && said.contains("--tmp-dir is not used: ")
            && !said.contains("--compress"),
        "{said}"
    );
    assert!(desk.ok(&["version"]).starts_with("gantry 0."));
    assert!(desk.ok(&["version", "-s"]).starts_with("0."));
    // Below alpha as without.
    desk.ok(&["alpha", "manifest", "create", "list:v1", "base:v1"]);
    assert_eq!(
        desk.ok(&["alpha", "manifest", "inspect", "list:v1"])
            .lines()
            .count(),
        2
    );
    // A mistake is still clap's.
    let said = desk.fails(2, &["build", "--labels", "a=b", "-t", "x:v1", "small"]);
    assert!(said.contains("--label"), "{said}");
    let said = desk.fails(2, &["alpha", "nothing"]);
    assert!(said.contains("nothing"), "{said}");
}
