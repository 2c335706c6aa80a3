//! Plans for Clusterfiles with documents of kind Config.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod planning;

use std::num::NonZeroUsize;

use gantry::clusterfile::Clusterfile;
use gantry::plan::{ImageCommands, ImageFile, Plan, PlanImage, planner, render};
use gantry_model::{StepAction, StepOutcome};

use planning::*;

fn with_configs(documents: &str) -> Clusterfile {
    let text = format!(
        "apiVersion: sealer.io/v2\nkind: Cluster\nmetadata: {{ name: demo }}\nspec:\n  image: kubernetes:v1.20.2\n  \
         env: [ Pool=one ]\n  hosts:\n    - {{ ips: [ 10.0.0.2 ], roles: [ master ] }}\n    \
         - {{ ips: [ 10.0.0.3 ], roles: [ node ], env: [ Pool=two ] }}\n{documents}"
    );
    Clusterfile::parse("Clusterfile", &text).unwrap().0
}

fn config(path: &str, data: &str, more: &str) -> String {
    format!(
        "---\napiVersion: sealer.io/v1\nkind: Config\nmetadata: {{ name: x }}\nspec: {{ path: {path}, data: {data:?}, {more} }}\n"
    )
}

fn image_with(files: &[(&str, ImageFile)]) -> PlanImage {
    let files = files
        .iter()
        .map(|(path, file)| ((*path).to_owned(), file.clone()));
    PlanImage {
        files: files.collect(),
        templates: ["etc/pool.yml.tmpl".to_owned()].into(),
        ..image("kubernetes:v1.20.2", &["base"], &["init.sh"])
    }
}

fn demo_image() -> PlanImage {
    image_with(&[
        ("etc/daemon.json", ImageFile::Text("{}".into())),
        (
            "etc/pool.yml",
            ImageFile::Template("pool: {{ .Pool }}\nmode: 0644\n".into()),
        ),
        (
            "manifests/db.yaml",
            ImageFile::Text("kind: Secret\ndata: {}\n".into()),
        ),
    ])
}

/// `HOST PATH CONTENT` of every file of the plan.
fn files(plan: &Plan) -> Vec<String> {
    let mut found = Vec::new();
    for step in plan.steps() {
        if let StepAction::WriteConfigs { files, .. } = &step.step.action {
            let line =
                |file: &gantry_model::ConfigFile| format!("{} {} {:?}", step.host, file.path, file.content);
            found.extend(files.iter().map(line));
        }
    }
    found
}

#[test]
fn every_host_is_given_whole_files_made_of_its_own_values() {
    let clusterfile = with_configs(
        &[
            config("etc/daemon.json", "{\"debug\": true}", ""),
            config("etc/pool.yml", "size: 3", "strategy: merge"),
            config("etc/pool.yml", "size: 4", "strategy: merge"),
            config("manifests/db.yaml", "user: root", "process: toSecret"),
        ]
        .concat(),
    );
    let planned = plan(&clusterfile, &demo_image(), &fresh(&clusterfile));
    let of = |host: &str, pool: &str| {
        [
            format!("{host} etc/daemon.json \"{{\\\"debug\\\": true}}\""),
            format!("{host} etc/pool.yml \"pool: {pool}\\nmode: 0644\\nsize: 4\\n\""),
            format!("{host} manifests/db.yaml \"kind: Secret\\ndata:\\n  user: \\\"cm9vdA==\\\"\\n\""),
        ]
    };
    assert_eq!(
        files(&planned),
        [of("10.0.0.2", "one"), of("10.0.0.3", "two")].concat()
    );
    expect("configs", &render::render(&planned));
}

#[test]
fn what_an_applications_template_makes_has_that_applications_values() {
    let path = "application/apps/web/values.yaml";
    let template = ImageFile::Template("replicas: {{ .Replicas }}\npool: {{ .Pool }}\n".into());
    let application = gantry_store::Application {
        env: [
            ("Replicas".to_owned(), "1".to_owned()),
            ("Pool".into(), "its".into()),
        ]
        .into(),
        ..gantry_store::Application::new("web")
    };
    let image = PlanImage {
        commands: Some(ImageCommands {
            applications: vec![application],
            ..ImageCommands::default()
        }),
        ..image_with(&[(path, template)])
    };
    let settings = "---\nkind: Application\nspec: { configs: [ { name: web, env: [ Replicas=3 ] } ] }\n";
    let merged = config(path, "size: 4", "strategy: merge");
    let clusterfile = with_configs(&format!("{merged}{settings}"));
    let planned = plan(&clusterfile, &image, &fresh(&clusterfile));
    let content = "\"replicas: 3\\npool: its\\nsize: 4\\n\"";
    assert_eq!(
        files(&planned),
        [
            format!("10.0.0.2 {path} {content}"),
            format!("10.0.0.3 {path} {content}")
        ]
    );
}

#[test]
fn what_changes_restarts_what_follows_and_nothing_else() {
    let (none, one, two) = (
        with_configs(""),
        with_configs(&config("etc/daemon.json", "1", "")),
        with_configs(&config("etc/daemon.json", "2", "")),
    );
    let image = demo_image();
    let mut inventory = fresh(&none);
    let first = plan(&none, &image, &inventory);
    assert!(!to_run(&first).contains(&"configs".to_owned()));
    execute(&first, &mut inventory, well);
    assert_eq!(plan(&none, &image, &inventory).to_do(), 0);
    // Without a Config, and back to it, there and back again: what is written now counts.
    for clusterfile in [&one, &two, &one, &none, &two, &none] {
        let changed = plan(clusterfile, &image, &inventory);
        assert_eq!(to_run(&changed), ["configs", "init.sh"]);
        if clusterfile == &none {
            expect("configs-that-go", &render::render(&changed));
        }
        execute(&changed, &mut inventory, well);
        assert_eq!(plan(clusterfile, &image, &inventory).to_do(), 0);
    }
    assert_eq!(files(&plan(&none, &image, &inventory)), Vec::<String>::new());

    execute(&plan(&one, &image, &inventory), &mut inventory, well);
    on(&mut inventory, "10.0.0.3")
        .drift
        .push("configs: etc/daemon.json was changed by hand".into());
    let mend = plan(&one, &image, &inventory);
    assert_eq!(to_run(&mend), ["configs"]);
    expect("drifted-configs", &render::render(&mend));
}

#[test]
fn commands_of_the_image_run_again_when_files_of_the_first_master_change() {
    let commands = ImageCommands {
        lines: vec!["kubectl apply -f manifests".into()],
        manifest: "{}".into(),
        config: "{}".into(),
        ..ImageCommands::default()
    };
    let image = PlanImage {
        commands: Some(commands),
        ..demo_image()
    };
    let with = |data: &str| with_configs(&config("etc/daemon.json", data, ""));
    let mut inventory = fresh(&with("1"));
    execute(&plan(&with("1"), &image, &inventory), &mut inventory, well);
    let changed = plan(&with("2"), &image, &inventory);
    assert_eq!(to_run(&changed), ["configs", "init.sh", "CMD 1"]);
    execute(&changed, &mut inventory, well);
    assert_eq!(plan(&with("2"), &image, &inventory).to_do(), 0);
}

#[test]
fn templates_that_change_are_followed_by_what_is_merged_into_them() {
    let clusterfile = with_configs(&config("etc/pool.yml", "size: 3", "strategy: merge"));
    let image = demo_image();
    let mut inventory = fresh(&clusterfile);
    execute(&plan(&clusterfile, &image, &inventory), &mut inventory, well);
    let mut changed = clusterfile.clone();
    changed.hosts[1].env.insert("Pool".into(), "three".into());
    let planned = plan(&changed, &image, &inventory);
    assert!(
        planned
            .steps()
            .filter(|step| step.is_to_do())
            .all(|step| step.host == changed.hosts[1].address)
    );
    assert_eq!(to_run(&planned), ["templates", "configs", "init.sh"]);
    // Cut off between the two.
    execute(&planned, &mut inventory, |_, title| {
        (title != "templates").then_some(StepOutcome::Unknown)
    });
    assert_eq!(
        to_run(&plan(&changed, &image, &inventory)),
        ["configs", "init.sh"]
    );
}

#[test]
fn what_does_not_fit_the_image_is_named_before_anything_is_done() {
    let merge = |path: &str| config(path, "a: 1", "strategy: merge");
    let clusterfile = with_configs(
        &[
            merge("etc/none.yaml"),
            merge("etc/demon.json"),
            merge("etc/broken.yml"),
            merge("etc/list.yml"),
            merge("etc/binary"),
            config("etc/link", "x", ""),
            config("etc/new/a", "x", ""),
            config("etc/new/a/b", "x", ""),
            config("etc/binary2", "x", ""),
            config("etc/daemon.json", "a: b", "process: toSecret"),
        ]
        .concat(),
    );
    let missing = |closest: Option<&str>| ImageFile::Missing {
        closest: closest.map(str::to_owned),
    };
    let image = image_with(&[
        ("etc/none.yaml", missing(None)),
        ("etc/demon.json", missing(Some("etc/daemon.json"))),
        ("etc/broken.yml", ImageFile::Text("a: 1\nb: [\n".into())),
        (
            "etc/list.yml",
            ImageFile::Template("a: 1\n---\n- {{ .Pool }}\n".into()),
        ),
        ("etc/binary", ImageFile::NoText("not UTF-8 text".into())),
        ("etc/binary2", ImageFile::NoText("not UTF-8 text".into())),
        ("etc/link", ImageFile::NoFile("a link".into())),
        ("etc/daemon.json", ImageFile::Text("{}".into())),
    ]);
    let refused =
        planner::plan(&clusterfile, &image, &fresh(&clusterfile), &[], NonZeroUsize::MIN).unwrap_err();
    expect("configs-that-do-not-fit", &format!("{refused}\n"));
}
