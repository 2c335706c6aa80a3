//! Plans with plugins that the image brings. See `plans.rs`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod planning;

use gantry::clusterfile::Clusterfile;
use gantry::plan::{ImageFile, PlanImage, planner, preflight, render, reset};
use gantry_model::StepAction;

use planning::*;

fn cluster(documents: &str) -> Clusterfile {
    let text = format!(
        "apiVersion: sealer.io/v2\nkind: Cluster\nmetadata: {{ name: demo }}\nspec:\n  image: kubernetes:v1.20.2\n  hosts:\n    \
         - {{ ips: [ 10.0.0.2 ], roles: [ master ] }}\n    - {{ ips: [ 10.0.0.3 ], roles: [ node ] }}\n{documents}"
    );
    Clusterfile::parse("Clusterfile", &text).unwrap().0
}

fn plugin(name: &str, kind: &str, action: &str, data: &str) -> String {
    let data: String = data.lines().map(|line| format!("    {line}\n")).collect();
    format!(
        "---\napiVersion: sealer.io/v1\nkind: Plugin\nmetadata: {{ name: {name} }}\nspec:\n  type: {kind}\n  action: {action}\n  \
         data: |\n{data}"
    )
}

fn image_with(files: &[(&str, String)]) -> PlanImage {
    let file = |(name, text): &(&str, String)| (format!("plugins/{name}"), ImageFile::Text(text.clone()));
    PlanImage {
        plugins: files.iter().map(file).collect(),
        ..kubernetes(1, 1, "").1
    }
}

/// Titles of the steps that run commands of plugins, and whether hosts have to allow them.
fn commands(clusterfile: &Clusterfile, image: &PlanImage) -> Vec<(String, bool)> {
    let plan = plan(clusterfile, image, &fresh(clusterfile));
    let steps = plan.steps().filter(|step| step.host.to_string() == "10.0.0.2");
    let command = |step: &gantry::plan::PlannedStep| match &step.step.action {
        StepAction::RunShellCommand(_) => Some((step.title.clone(), true)),
        StepAction::RunImagePlugin(_) => Some((step.title.clone(), false)),
        _ => None,
    };
    steps.filter_map(command).collect()
}

#[test]
fn plugins_of_the_image_act_like_those_of_the_file_and_hosts_need_not_allow_them() {
    let image = image_with(&[
        (
            "dns.yaml",
            plugin(
                "20-dns",
                "SHELL",
                "pre-init-host",
                "echo a >/etc/resolv.conf\nsync",
            ),
        ),
        (
            "marks.yml",
            plugin("marks", "LABEL", "PreGuest", "10.0.0.3 disk=ssd")
                + &plugin("bye", "SHELL", "PreClean", "echo bye"),
        ),
    ]);
    let clusterfile = cluster("");
    let mut inventory = fresh(&clusterfile);
    let first = plan(&clusterfile, &image, &inventory);
    expect("image-plugins", &render::render(&first));
    assert_eq!(preflight::preflight(&first, &image, &inventory, &[]), []);
    execute(&first, &mut inventory, well);
    assert_eq!(plan(&clusterfile, &image, &inventory).to_do(), 0);

    let taken_down = reset::plan(&clusterfile, &[], &inventory, |_| Some(image.clone()));
    let bye = taken_down.steps().filter(|step| step.title == "plugin bye");
    assert_eq!(bye.count(), 2);
    assert_eq!(preflight::allow_exec(&taken_down, &inventory), []);
    // What is proved by a file of another image would not run.
    let other = PlanImage {
        digest: gantry_model::Digest::of(b"another"),
        ..image
    };
    let taken_down = reset::plan(&clusterfile, &[], &inventory, |_| Some(other.clone()));
    assert!(taken_down.steps().all(|step| step.title != "plugin bye"));
}

#[test]
fn the_files_own_plugin_counts_where_both_have_one_of_a_name() {
    let of_image = [
        plugin("20-dns", "SHELL", "pre-init-host", "echo image"),
        plugin("30-disk", "SHELL", "pre-init-host", "echo image"),
        plugin("old", "SHELL", "PreInit", "echo image"),
    ];
    let image = image_with(&[("all.yaml", of_image.concat())]);
    let clusterfile = cluster(
        &(plugin("20-dns", "SHELL", "pre-init-host", "echo file")
            + &plugin("10-early", "SHELL", "pre-init-host", "echo file")
            + &plugin("late", "SHELL", "PreInit", "echo file")),
    );
    let expected = [
        ("plugin old", false),
        ("plugin late", true),
        ("plugin 10-early", true),
        ("plugin 20-dns", true),
        ("plugin 30-disk", false),
    ];
    assert_eq!(
        commands(&clusterfile, &image),
        expected.map(|(title, allowed)| (title.to_owned(), allowed))
    );
    let notes = image.with_plugins(&clusterfile).notes;
    assert_eq!(
        notes,
        [
            "plugin 20-dns of the file stands for that of plugins/all.yaml of image kubernetes:v1.19.8",
            "plugin 30-disk comes from plugins/all.yaml of image kubernetes:v1.19.8",
            "plugin old comes from plugins/all.yaml of image kubernetes:v1.19.8",
        ]
    );
}

#[test]
fn what_cannot_be_proved_by_its_lines_is_for_hosts_to_allow() {
    let text =
        "kind: Plugin\nmetadata: { name: dns }\nspec: { type: SHELL, action: PreInit, data: \"echo a\" }\n";
    let image = image_with(&[
        ("dns.yaml", text.into()),
        ("other.yaml", "kind: ConfigMap\n".into()),
    ]);
    let clusterfile = cluster("");
    assert_eq!(commands(&clusterfile, &image), [("plugin dns".to_owned(), true)]);
    let notes = image.with_plugins(&clusterfile).notes.join("\n");
    assert!(
        notes
            .contains("plugin dns of plugins/dns.yaml of image kubernetes:v1.19.8 is not written as a block"),
        "{notes}"
    );
    assert!(
        notes.contains("plugins/other.yaml of image kubernetes:v1.19.8: a document that is no Plugin"),
        "{notes}"
    );
}

#[test]
fn mistakes_name_the_image_the_file_and_the_line() {
    let wrong =
        plugin("dns", "SHELL", "pre-init-hosts", "echo a") + &plugin("backup", "ETCD", "PostInstall", "x");
    let mut image = image_with(&[
        ("dns.yaml", wrong),
        ("marks.yaml", plugin("m", "LABEL", "PreGuest", "10.0.0.9 a=b")),
    ]);
    let odd = ImageFile::NoText("not UTF-8 text".into());
    image.plugins.insert("plugins/odd.yaml".into(), odd);
    let clusterfile = cluster("");
    let mistakes = image.with_plugins(&clusterfile).mistakes;
    let shown: String = mistakes
        .iter()
        .map(|file| format!("{}{file}\n\n", file.render(false)))
        .collect();
    expect("image-plugins-with-mistakes", &shown);
    let refused = planner::plan(
        &clusterfile,
        &image,
        &fresh(&clusterfile),
        &[],
        std::num::NonZeroUsize::MIN,
    );
    assert_eq!(
        refused.unwrap_err().to_string(),
        "plugins/dns.yaml of image kubernetes:v1.19.8 has 2 mistakes"
    );
    // The operator's word is the way out.
    let clusterfile = cluster(
        &(plugin("dns", "SHELL", "PreInit", "true")
            + &plugin("backup", "SHELL", "PostInstall", "true")
            + &plugin("m", "SHELL", "PreInit", "true")),
    );
    image.plugins.remove("plugins/odd.yaml");
    assert_eq!(commands(&clusterfile, &image).len(), 3);
}
