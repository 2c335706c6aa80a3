//! `gantry run` as far as it goes without hosts: the Clusterfile that it makes, and what it refuses.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod desk;
mod planning;

use std::fs;

use desk::{Desk, text};
use gantry::clusterfile::Clusterfile;

/// The default Clusterfile of an image: its hosts are an example.
const DEFAULT: &str = "\
# Example
apiVersion: sealer.io/v2
kind: Cluster
metadata: { name: shop }
spec:
  image: somebody-else:v1
  env: [ PodCIDR=100.64.0.0/10, Zone=a ]
  hosts:
    - { ips: [ 10.9.9.1 ], roles: [ master ] }
    - { ips: [ 10.9.9.2 ], roles: [ node ], labels: { disk: ssd } }
---
apiVersion: sealer.io/v1
kind: Config
metadata: { name: docker }
spec: { path: etc/daemon.json, data: \"{}\" }
";

fn desk(clusterfile: Option<&str>) -> Desk {
    let desk = Desk::new();
    desk.base_context();
    if let Some(clusterfile) = clusterfile {
        desk.file("base/etc/Clusterfile", clusterfile);
    }
    desk.ok(&["build", "-t", "demo:v1", "base"]);
    desk
}

/// What `gantry run … --print` prints, and what it means.
fn printed(desk: &Desk, words: &[&str]) -> (String, Clusterfile) {
    let words = [&["run", "--print"][..], words].concat();
    let text = desk.ok(&words);
    let clusterfile = Clusterfile::parse("Clusterfile", &text).unwrap().0;
    (text, clusterfile)
}

fn hosts(clusterfile: &Clusterfile) -> Vec<String> {
    let hosts = clusterfile.hosts.iter();
    hosts
        .map(|host| format!("{} {:?}", host.address, host.role))
        .collect()
}

#[test]
fn an_image_without_a_clusterfile_gets_a_plain_one() {
    let desk = desk(None);
    let (text, clusterfile) = printed(
        &desk,
        &[
            "demo:v1",
            "-m",
            "10.0.0.9,10.0.0.2",
            "-n",
            "10.0.0.3-10.0.0.4",
            "-e",
            "A=x y",
        ],
    );
    assert_eq!(
        hosts(&clusterfile),
        [
            "10.0.0.9 Master",
            "10.0.0.2 Master",
            "10.0.0.3 Node",
            "10.0.0.4 Node"
        ],
        "the first master is the one that was named first: {text}"
    );
    assert_eq!(clusterfile.name.as_str(), "my-cluster");
    assert_eq!(clusterfile.image.to_string(), "demo:v1");
    assert_eq!(clusterfile.env["A"], "x y");
    // What is printed is a Clusterfile like any other.
    desk.file("Clusterfile", &text);
    assert_eq!(desk.ok(&["run", "-f", "Clusterfile", "--print"]), text);
    let named = printed(&desk, &["demo:v1", "-m", "10.0.0.2", "--name", "other"]).1;
    assert_eq!(named.name.as_str(), "other");
}

#[test]
fn the_images_own_clusterfile_is_the_default_and_its_hosts_are_an_example() {
    let desk = desk(Some(DEFAULT));
    let (text, clusterfile) = printed(
        &desk,
        &["demo:v1", "-m", "10.0.0.2", "-n", "10.0.0.3", "-e", "Zone=b"],
    );
    assert_eq!(
        hosts(&clusterfile),
        ["10.0.0.2 Master", "10.0.0.3 Node"],
        "{text}"
    );
    assert_eq!(
        (clusterfile.name.as_str(), clusterfile.configs.len()),
        ("shop", 1)
    );
    assert_eq!(clusterfile.image.to_string(), "demo:v1");
    assert_eq!(clusterfile.env["Zone"], "b");
    assert_eq!(clusterfile.env["PodCIDR"], "100.64.0.0/10");
    assert!(text.contains("disk: ssd") && !text.contains("10.9.9"), "{text}");

    let said = desk.fails(2, &["run", "demo:v1", "-n", "10.0.0.3", "--print"]);
    assert!(said.contains("--masters"), "{said}");
    let said = desk.fails(2, &["run", "demo:v1", "-m", "", "--print"]);
    assert!(said.contains("no master is named"), "{said}");
}

#[test]
fn a_clusterfile_that_is_a_template_gets_its_own_variables_and_those_given() {
    let template = DEFAULT.replace("name: shop", "name: {{ .Name }}-{{ .Zone }}");
    let desk = desk(Some(&template));
    let words = ["demo:v1", "-m", "10.0.0.2", "-e", "Name=shop"];
    let (text, clusterfile) = printed(&desk, &words);
    assert_eq!(clusterfile.name.as_str(), "shop-a", "{text}");
    let said = desk.fails(2, &["run", "demo:v1", "-m", "10.0.0.2", "--print"]);
    assert!(
        said.contains("line 4 of what it gives names a variable that has no value"),
        "{said}"
    );
    let mistaken = DEFAULT.replace("roles: [ node ]", "roles: [ node, master ]");
    desk.file("base/etc/Clusterfile", mistaken);
    desk.ok(&["build", "-t", "demo:v2", "base"]);
    let said = desk.fails(
        2,
        &["run", "demo:v2", "-m", "10.0.0.2", "-n", "10.0.0.3", "--print"],
    );
    assert!(
        said.contains("etc/Clusterfile of demo:v2 with this command line:"),
        "{said}"
    );
}

#[test]
fn applications_and_commands_are_chosen() {
    let desk = desk(None);
    let (text, clusterfile) = printed(
        &desk,
        &[
            "demo:v1",
            "-m",
            "10.0.0.2",
            "--apps",
            "web,db",
            "--app-env",
            "web:R=3",
        ],
    );
    let launched = clusterfile.applications.launched.unwrap();
    assert_eq!(launched, ["web", "db"], "{text}");
    assert_eq!(clusterfile.applications.settings["web"].env["R"], "3");
    let none = printed(&desk, &["demo:v1", "-m", "10.0.0.2", "--apps", ""]).1;
    assert_eq!(none.applications.launched, Some(Vec::new()));
    let commands = printed(
        &desk,
        &[
            "demo:v1",
            "-m",
            "10.0.0.2",
            "--cmds",
            "echo a, b",
            "--cmd-args",
            "V=1",
        ],
    );
    assert_eq!(commands.1.commands[0].text, "echo a, b");
    assert_eq!(commands.1.command_arguments["V"], "1");
    for wrong in ["web", "web:R", "R=1:2"] {
        let said = desk.fails(2, &["run", "demo:v1", "-m", "10.0.0.2", "--app-env", wrong]);
        assert!(said.contains("APP:NAME=VALUE"), "{said}");
    }
    // The image has neither.
    let said = desk.fails(2, &["run", "-y", "demo:v1", "-m", "10.0.0.2", "--apps", "web"]);
    assert!(said.contains("web"), "{said}");
}

#[test]
fn flags_of_sealer_are_told_what_holds_instead() {
    let desk = desk(None);
    let run =
        |words: &[&str]| desk.run(&[&["run", "--print", "demo:v1", "-m", "10.0.0.2"][..], words].concat());
    let output = run(&[
        "-u",
        "root",
        "-p",
        "hunter2",
        "--port",
        "22",
        "--podcidr",
        "10.1.0.0/16",
    ]);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{err}");
    assert!(
        err.contains("--user, --passwd, --port are not used: agents are enrolled"),
        "{err}"
    );
    assert!(!format!("{out}{err}").contains("hunter2"), "{out}{err}");
    assert!(out.contains("PodCIDR=10.1.0.0/16"), "{out}");
    for (words, said) in [
        (["--provider", "ALI_CLOUD"], "hosts are not created"),
        (["--mode", "loadImage"], "gantry stage -f Clusterfile"),
        (["-n", "3"], "hosts are not created, name each by its address"),
        (["-n", "10.0.0.3:2222"], "has a port"),
    ] {
        let output = run(&words);
        let err = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {err}");
        assert!(err.contains(said), "{words:?}: {err}");
    }
    let said = desk.fails(2, &["run", "demo:v7", "-m", "10.0.0.2"]);
    assert!(
        said.contains("demo:v7 is not in the store") && said.contains("gantry pull demo:v7"),
        "{said}"
    );
}

#[test]
fn a_cluster_that_has_other_hosts_or_another_image_is_not_changed() {
    let desk = desk(None);
    // As the last apply left it.
    let (clusterfile, image) = planning::kubernetes(1, 1, "");
    let inventory = planning::fresh(&clusterfile);
    let plan = planning::plan(&clusterfile, &image, &inventory);
    let mut plan = serde_json::to_value(&plan).unwrap();
    plan["image"]["reference"] = "demo:v1".into();
    let kept = desk.path("root/orchestrator/clusters/demo");
    fs::create_dir_all(&kept).unwrap();
    fs::write(kept.join("plan.json"), plan.to_string()).unwrap();

    let run = |words: &[&str]| desk.fails(2, &[&["run", "-y", "--name", "demo"][..], words].concat());
    let said = run(&["demo:v1", "-m", "10.0.0.2", "-n", "10.0.0.4"]);
    assert!(
        said.contains("10.0.0.4 is not in it, 10.0.0.3 is in it, too; nothing was changed")
            && said.contains("--print >Clusterfile")
            && said.contains("gantry apply -f Clusterfile"),
        "{said}"
    );
    let said = run(&["demo:v1", "-m", "10.0.0.3", "-n", "10.0.0.2"]);
    assert!(said.contains("10.0.0.2 is a master of it"), "{said}");
    desk.ok(&["tag", "demo:v1", "demo:v2"]);
    let said = run(&["demo:v2", "-m", "10.0.0.2", "-n", "10.0.0.3"]);
    assert!(
        said.contains("with image demo:v1") && said.contains("to upgrade it, write the file"),
        "{said}"
    );
    // The copy in the state is without Configs: nobody is led to apply it.
    assert!(!said.contains("clusters/demo"), "{said}");
    // The same one is applied again, which here ends for want of enrolled hosts.
    let said = run(&["demo:v1", "-m", "10.0.0.2", "-n", "10.0.0.3"]);
    assert!(said.contains("gantry token create"), "{said}");
}
