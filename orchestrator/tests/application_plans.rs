//! Plans for Clusterfiles that say which applications of their image are launched, and how. See `plans.rs`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod planning;

use std::num::NonZeroUsize;

use gantry::clusterfile::{Clusterfile, Mistakes, image_check};
use gantry::plan::{ImageCommands, ImageFile, Plan, PlanImage, planner, preflight, render};
use gantry_model::{ScriptOutcome, StepAction, StepOutcome};
use gantry_store::Application;

use planning::*;

fn text(spec: &str, documents: &str) -> String {
    format!(
        "apiVersion: sealer.io/v2\nkind: Cluster\nmetadata: {{ name: demo }}\nspec:\n  image: kubernetes:v1.20.2\n{spec}  \
         hosts:\n    - {{ ips: [ 10.0.0.2 ], roles: [ master ], env: [ Pool=one ] }}\n    \
         - {{ ips: [ 10.0.0.3 ], roles: [ node ] }}\n{documents}"
    )
}

fn cluster(spec: &str, documents: &str) -> Clusterfile {
    Clusterfile::parse("Clusterfile", &text(spec, documents))
        .unwrap()
        .0
}

/// The document of kind Application with this spec.
fn applications(spec: &str) -> String {
    format!("---\napiVersion: sealer.io/v2\nkind: Application\nmetadata: {{ name: apps }}\nspec:\n{spec}")
}

/// An image with four applications, which launches two of them.
fn image_with_applications() -> PlanImage {
    let application = |name: &str, kind: &str, file: &str| Application {
        kind: kind.into(),
        files: vec![file.into()],
        env: [
            ("Replicas".to_owned(), "1".to_owned()),
            ("not a name".to_owned(), "x".to_owned()),
        ]
        .into(),
        ..Application::new(name)
    };
    let commands = ImageCommands {
        launched: vec!["web".into(), "db".into()],
        applications: vec![
            application("web", "kube", "web.yaml"),
            application("db", "helm", "Chart.yaml"),
            application("batch", "shell", "up.sh"),
            application("odd", "", "x"),
        ],
        manifest: "{}".into(),
        ..ImageCommands::default()
    };
    PlanImage {
        commands: Some(commands),
        ..image("kubernetes:v1.20.2", &["base"], &["init.sh"])
    }
}

/// What is launched: titles, and the value of a variable.
fn launched(plan: &Plan, variable: &str) -> Vec<String> {
    let steps = plan.waves.iter().filter(|wave| wave.title == "commands");
    let steps = steps.flat_map(|wave| &wave.steps);
    let of = |step: &gantry::plan::PlannedStep| {
        let env = match &step.step.action {
            StepAction::LaunchApplication(launch) => &launch.env,
            StepAction::RunShellCommand(command) => &command.env,
            StepAction::RunImageCommand(command) => &command.env,
            other => panic!("{other:?}"),
        };
        format!("{} {}", step.title, env.get(variable).map_or("-", String::as_str))
    };
    steps.map(of).collect()
}

#[test]
fn the_file_says_which_applications_are_launched_and_how() {
    let image = image_with_applications();
    let clusterfile = cluster(
        "",
        &applications(
            "  launchApps: [ batch, web, odd ]\n  configs:\n    - name: web\n      env: [ Replicas=3, Mode=fast ]\n    \
             - { name: odd, launch: { cmds: [ ./prepare, ./up ] } }\n",
        ),
    );
    let mut inventory = fresh(&clusterfile);
    let first = plan(&clusterfile, &image, &inventory);
    expect("applications", &render::render(&first));
    assert_eq!(
        launched(&first, "Replicas"),
        ["application batch 1", "application web 3", "application odd 1"]
    );
    assert_eq!(launched(&first, "Pool")[1], "application web one");
    assert_eq!(launched(&first, "not a name")[1], "application web -");
    // What the file says itself is for hosts to allow; what the image says is proved.
    let findings = preflight::preflight(&first, &image, &inventory, &[]);
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(
        findings[0].message.starts_with("application odd would run there"),
        "{findings:?}"
    );
    execute(&first, &mut inventory, well);
    assert_eq!(plan(&clusterfile, &image, &inventory).to_do(), 0);
}

#[test]
fn another_choice_launches_what_is_new_and_nothing_twice() {
    let image = image_with_applications();
    let by_the_image = cluster("", "");
    let mut inventory = fresh(&by_the_image);
    let first = plan(&by_the_image, &image, &inventory);
    assert_eq!(
        launched(&first, "Replicas"),
        ["application web 1", "application db 1"]
    );
    execute(&first, &mut inventory, well);

    let more = cluster("  appNames: [ batch, db ]\n", "");
    assert_eq!(to_run(&plan(&more, &image, &inventory)), ["application batch"]);
    let none = cluster("  appNames: [ \"\" ]\n", "");
    assert_eq!(launched(&plan(&none, &image, &inventory), ""), [""; 0]);
    // As sealer has it: the one empty list says nothing, the other that nothing is launched.
    let nothing_said = cluster("  appNames: []\n", "");
    assert_eq!(launched(&plan(&nothing_said, &image, &inventory), "").len(), 2);
    let none = cluster("", &applications("  launchApps: []\n"));
    assert_eq!(launched(&plan(&none, &image, &inventory), ""), [""; 0]);
    // The Cluster's word counts.
    let both = cluster("  appNames: [ db ]\n", &applications("  launchApps: [ batch ]\n"));
    assert_eq!(plan(&both, &image, &inventory).to_do(), 0);
    let settings = applications("  configs:\n    - { name: db, env: [ Replicas=2 ] }\n");
    assert_eq!(
        to_run(&plan(&cluster("", &settings), &image, &inventory)),
        ["application db"]
    );
}

#[test]
fn an_application_is_launched_again_for_its_own_files_and_not_for_those_of_others() {
    let image = image_with_applications();
    let config = |app: &str, path: &str, data: &str| {
        format!("---\nkind: Config\nspec: {{ {app} path: {path}, data: \"{data}\" }}\n")
    };
    let of = |documents: &str| cluster("", documents);
    let first = of("");
    let mut inventory = fresh(&first);
    execute(&plan(&first, &image, &inventory), &mut inventory, well);
    let launches = |wanted: &Clusterfile, inventory: &_| -> Vec<String> {
        let titles = to_run(&plan(wanted, &image, inventory)).into_iter();
        titles.filter(|title| title.starts_with("application")).collect()
    };

    let elsewhere = of(&config("", "etc/daemon.json", "{}"));
    assert_eq!(launches(&elsewhere, &inventory), [""; 0]);
    execute(&plan(&elsewhere, &image, &inventory), &mut inventory, well);
    let values = |data: &str| of(&config("appName: db,", "values.yaml", data));
    // There, to something else, and back again: the last one counts.
    for data in ["a: 1", "a: 2", "a: 1"] {
        let changed = values(data);
        assert_eq!(launches(&changed, &inventory), ["application db"], "{data}");
        execute(&plan(&changed, &image, &inventory), &mut inventory, well);
        assert_eq!(plan(&changed, &image, &inventory).to_do(), 0);
    }
    // What did not begin changed nothing; what began and failed may be half done.
    let broken = values("a: [");
    for (outcome, back) in [
        (StepOutcome::Failed("a template has a mistake".into()), vec![]),
        (
            StepOutcome::Script(ScriptOutcome::Exited(1)),
            vec!["application db".to_owned()],
        ),
    ] {
        execute(&plan(&broken, &image, &inventory), &mut inventory, |_, title| {
            (title == "application db").then(|| outcome.clone())
        });
        assert_eq!(launches(&broken, &inventory), ["application db"]);
        assert_eq!(launches(&values("a: 1"), &inventory), back);
    }
}

#[test]
fn files_of_the_first_master_count_whichever_host_comes_first() {
    let image = PlanImage {
        files: [(
            "application/apps/db/values.yaml".to_owned(),
            ImageFile::Template("ip: {{ .HostIP }}\n".into()),
        )]
        .into(),
        ..image_with_applications()
    };
    let of = |nodes: &str| {
        let text = format!(
            "apiVersion: sealer.io/v2\nkind: Cluster\nmetadata: {{ name: demo }}\nspec:\n  image: kubernetes:v1.20.2\n  hosts:\n    \
             - {{ ips: [ {nodes} ], roles: [ node ] }}\n    - {{ ips: [ 10.0.0.2 ], roles: [ master ] }}\n\
             ---\nkind: Config\nspec: {{ appName: db, path: values.yaml, strategy: merge, data: \"a: 1\" }}\n"
        );
        Clusterfile::parse("Clusterfile", &text).unwrap().0
    };
    let (two, one) = (of("10.0.0.3, 10.0.0.4"), of("10.0.0.4"));
    let mut inventory = fresh(&two);
    execute(&plan(&two, &image, &inventory), &mut inventory, well);
    let without = to_run(&plan(&one, &image, &inventory));
    assert!(!without.contains(&"application db".to_owned()), "{without:?}");
}

#[test]
fn mistakes_in_templates_of_applications_that_are_not_launched_are_no_matter() {
    let image = PlanImage {
        template_mistakes: vec!["application/apps/batch/x.tmpl:1:3: what".into()],
        ..image_with_applications()
    };
    let by_the_image = cluster("", "");
    plan(&by_the_image, &image, &fresh(&by_the_image));
    let chosen = cluster("  appNames: [ batch ]\n", "");
    let refused = planner::plan(&chosen, &image, &fresh(&chosen), &[], NonZeroUsize::MIN);
    assert!(refused.unwrap_err().to_string().contains("batch/x.tmpl:1:3"));
}

#[test]
fn arguments_are_for_the_commands_alone() {
    let commands = ImageCommands {
        lines: vec!["echo ${Pool} $Size".into()],
        manifest: "{}".into(),
        ..ImageCommands::default()
    };
    let image = PlanImage {
        commands: Some(commands),
        ..image("kubernetes:v1.20.2", &["base"], &["init.sh"])
    };
    let clusterfile = cluster("  cmd_args: [ Pool=two ]\n", "");
    let first = plan(&clusterfile, &image, &fresh(&clusterfile));
    assert_eq!(launched(&first, "Pool"), ["CMD 1 two"]);
    let script = first.steps().find_map(|step| match &step.step.action {
        StepAction::RunScript(script) => script.env.get("Pool").cloned(),
        _ => None,
    });
    assert_eq!(script.unwrap(), "one");
    let listed = cluster("  cmd_args: [ Pool=two ]\n  cmd: [ \"echo $Pool\" ]\n", "");
    assert_eq!(
        launched(&plan(&listed, &image, &fresh(&listed)), "Pool"),
        ["command 1 two"]
    );
}

#[test]
fn what_the_image_does_not_have_is_named_with_its_place() {
    let with_applications = text(
        "  cmd_args: [ Pol=two ]\n  appNames: [ wbe, batch, odd ]\n",
        &(applications("  launchApps: [ monitoring ]\n  configs:\n    - { name: webb, env: [ A=1 ] }\n")
            + "---\nkind: Config\nspec: { appName: dbb, path: values.yaml, data: \"a: 1\" }\n"),
    );
    let mut image = image_with_applications();
    image.commands.as_mut().unwrap().lines = vec!["echo ${Pool} $Size".into()];
    let mistakes = |text: &str, image: &PlanImage| {
        let (clusterfile, _) = Clusterfile::parse("Clusterfile", text).unwrap();
        let found = image_check::mistakes(text, &clusterfile, &image.offer());
        Mistakes::new("Clusterfile", text, found).render(false)
    };
    expect(
        "applications-that-are-not-there",
        &mistakes(&with_applications, &image),
    );
    let arguments = text("  cmd_args: [ Pol=two, Size=3, Other=x ]\n", "");
    expect("arguments-that-nothing-names", &mistakes(&arguments, &image));
    image.commands = None;
    let none = mistakes(&with_applications, &image);
    assert!(
        none.contains("it has no applications at all: `APP` in its Kubefile makes one"),
        "{none}"
    );
}
