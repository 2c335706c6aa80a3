//! Plans with commands that come when hosts go to another image, and back. See `plans.rs`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod planning;

use gantry::clusterfile::Clusterfile;
use gantry::plan::{Plan, PlanImage, render};
use gantry_model::StepOutcome;

use planning::*;

fn plugin(name: &str, action: &str) -> String {
    format!(
        "---\nkind: Plugin\nmetadata: {{ name: {name} }}\nspec: {{ type: SHELL, action: \"{action}\", data: echo {name} }}\n"
    )
}

fn documents() -> String {
    plugin("host", "upgrade-host")
        + &plugin("always", "pre-init-host|upgrade-host")
        + &plugin("up", "upgrade")
        + &plugin("down", "rollback")
}

/// The images of a cluster without Kubernetes, by their number.
fn image_of(number: u8) -> PlanImage {
    let name = format!("demo:v{number}");
    image(&name, &["base", &name], &["init.sh"])
}

/// `HOST TITLE` of the steps of plugins to run.
fn commands(plan: &Plan) -> Vec<String> {
    let steps = plan.steps().filter(|step| step.is_to_do());
    steps
        .filter(|step| step.title.starts_with("plugin"))
        .map(|step| format!("{} {}", step.host, step.title))
        .collect()
}

#[test]
fn commands_come_with_every_way_to_another_image_once() {
    let text = format!(
        "apiVersion: sealer.io/v2\nkind: Cluster\nmetadata: {{ name: demo }}\nspec:\n  image: demo:v1\n  hosts:\n    \
         - {{ ips: [ 10.0.0.2 ], roles: [ master ] }}\n    - {{ ips: [ 10.0.0.3 ], roles: [ node ] }}\n{}",
        documents()
    );
    let clusterfile = Clusterfile::parse("Clusterfile", &text).unwrap().0;
    let mut inventory = fresh(&clusterfile);
    let always = ["10.0.0.2 plugin always", "10.0.0.3 plugin always"];
    let host = ["10.0.0.2 plugin host", "10.0.0.3 plugin host"];
    let up = ["10.0.0.2 plugin up"];
    let down = ["10.0.0.2 plugin down"];
    for (image, expected) in [
        (1, always.to_vec()),
        (2, [&always[..], &host, &up].concat()),
        (1, [&always[..], &down].concat()),
        (2, [&always[..], &host, &up].concat()),
        (3, [&always[..], &host, &up].concat()),
        (2, [&always[..], &down].concat()),
    ] {
        let image = image_of(image);
        // Cut off, it goes on; afterwards nothing is left to do.
        let first = plan(&clusterfile, &image, &inventory);
        assert_eq!(commands(&first), expected, "to {}", image.reference);
        let mut begun = first.clone();
        begun
            .waves
            .retain(|wave| wave.title != "before upgrade" && !wave.title.starts_with("after"));
        execute(&begun, &mut inventory, |_, title| {
            (title == "init.sh").then(|| StepOutcome::Failed("it did not work".into()))
        });
        let left: Vec<String> = expected
            .iter()
            .filter(|command| !command.ends_with("always"))
            .map(|command| (*command).to_owned())
            .collect();
        let rest = plan(&clusterfile, &image, &inventory);
        assert_eq!(commands(&rest), left, "to {}", image.reference);
        execute(&rest, &mut inventory, well);
        assert_eq!(plan(&clusterfile, &image, &inventory).to_do(), 0);
    }
}

#[test]
fn commands_of_the_way_do_not_come_again_when_the_file_changes_later() {
    let text = |env: &str, more: &str| {
        let documents = plugin("host", "upgrade-host")
            + &plugin("both", "upgrade|rollback")
            + &plugin("down", "rollback");
        format!(
            "apiVersion: sealer.io/v2\nkind: Cluster\nmetadata: {{ name: demo }}\nspec:\n  image: demo:v1\n  env: [ {env} ]\n  \
             hosts:\n    - {{ ips: [ 10.0.0.2 ], roles: [ master ] }}\n{documents}{more}"
        )
    };
    let config = "---\nkind: Config\nmetadata: { name: x }\nspec: { path: etc/x, data: later }\n";
    let file = |text: String| Clusterfile::parse("Clusterfile", &text).unwrap().0;
    let before = file(text("A=1", ""));
    let mut inventory = fresh(&before);
    for number in [1, 2] {
        execute(
            &plan(&before, &image_of(number), &inventory),
            &mut inventory,
            well,
        );
    }
    for later in [text("A=2", ""), text("A=2", config)] {
        let changed = plan(&file(later), &image_of(2), &inventory);
        assert!(to_run(&changed).contains(&"init.sh".to_owned()));
        assert_eq!(commands(&changed), [""; 0]);
        execute(&changed, &mut inventory, well);
    }
    let back = plan(&file(text("A=2", config)), &image_of(1), &inventory);
    assert_eq!(commands(&back), ["10.0.0.2 plugin both", "10.0.0.2 plugin down"]);
}

#[test]
fn of_two_commands_with_one_name_the_one_that_did_not_run_runs() {
    let text = format!(
        "apiVersion: sealer.io/v2\nkind: Cluster\nmetadata: {{ name: demo }}\nspec:\n  image: demo:v1\n  hosts:\n    \
         - {{ ips: [ 10.0.0.2 ], roles: [ master ] }}\n{}{}",
        plugin("up", "upgrade"),
        plugin("up", "upgrade").replace("echo", "printf")
    );
    let clusterfile = Clusterfile::parse("Clusterfile", &text).unwrap().0;
    let mut inventory = fresh(&clusterfile);
    execute(
        &plan(&clusterfile, &image_of(1), &inventory),
        &mut inventory,
        well,
    );
    let mut upgrade = plan(&clusterfile, &image_of(2), &inventory);
    assert_eq!(commands(&upgrade).len(), 2);
    for wave in &mut upgrade.waves {
        let mut first = true;
        wave.steps
            .retain(|step| step.title != "plugin up" || std::mem::take(&mut first));
    }
    execute(&upgrade, &mut inventory, well);
    let rest = plan(&clusterfile, &image_of(2), &inventory);
    assert_eq!(commands(&rest), ["10.0.0.2 plugin up"]);
}

#[test]
fn members_of_a_cluster_run_them_when_it_is_their_turn() {
    let (clusterfile, image) = kubernetes(1, 1, &documents());
    let mut inventory = fresh(&clusterfile);
    for host in &clusterfile.hosts {
        let report = on(&mut inventory, &host.address.to_string());
        report.inventory.facts.allow_exec = true;
    }
    execute(&plan(&clusterfile, &image, &inventory), &mut inventory, well);
    let next = PlanImage {
        kubernetes: image.kubernetes,
        ..second_image()
    };
    let upgrade = plan(&clusterfile, &next, &inventory);
    expect("upgrade-commands", &render::render(&upgrade));
    execute(&upgrade, &mut inventory, well);
    assert_eq!(plan(&clusterfile, &next, &inventory).to_do(), 0);
}
