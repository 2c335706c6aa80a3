//! Where plans look whether scripts of an image did what they are there for.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod planning;

use gantry::clusterfile::Clusterfile;
use gantry::plan::{Plan, PlanImage, PlannedStep, render};
use gantry_model::{Digest, ScriptEffect, StepAction, StepOutcome};

use planning::*;

/// A cluster of Kubernetes whose image brings docker, kubelet and a registry to run in it.
fn complete(masters: u8, nodes: u8) -> (Clusterfile, PlanImage) {
    let (clusterfile, mut image) = kubernetes(masters, nodes, "");
    image.runtimes = ["docker".to_owned()].into();
    image.registry = true;
    let kubernetes = image.kubernetes.as_mut().unwrap();
    kubernetes.programs.insert("kubelet".into());
    (clusterfile, image)
}

/// What is looked for on a host, in order: which script was to do what.
fn looked_for(plan: &Plan, host: &str) -> Vec<(String, Vec<ScriptEffect>)> {
    let steps = plan.steps().filter(|step| step.host.to_string() == host);
    let checks = steps.filter_map(|step| match &step.step.action {
        StepAction::CheckScriptEffect(check) => Some((check.script.clone(), check.effects.clone())),
        _ => None,
    });
    checks.collect()
}

fn checks_to_do(plan: &Plan) -> Vec<&PlannedStep> {
    let to_do = plan.steps().filter(|step| step.is_to_do());
    to_do
        .filter(|step| matches!(step.step.action, StepAction::CheckScriptEffect(_)))
        .collect()
}

fn registry() -> ScriptEffect {
    ScriptEffect::RegistryServes {
        domain: "sea.hub".into(),
        port: 5000,
    }
}

#[test]
fn what_the_image_brings_is_looked_for_once_behind_its_script() {
    let (clusterfile, image) = complete(1, 1);
    let mut inventory = fresh(&clusterfile);
    let first = plan(&clusterfile, &image, &inventory);
    expect("script-effects", &render::render(&first));
    let of_init = (
        "scripts/init.sh".to_owned(),
        vec![ScriptEffect::DockerAnswers, ScriptEffect::KubeletIsEnabled],
    );
    let of_registry = ("scripts/init-registry.sh".to_owned(), vec![registry()]);
    assert_eq!(looked_for(&first, "10.0.0.2"), [of_init.clone(), of_registry]);
    assert_eq!(looked_for(&first, "10.0.0.3"), [of_init]);
    execute(&first, &mut inventory, well);
    assert_eq!(plan(&clusterfile, &image, &inventory).to_do(), 0);
}

#[test]
fn an_image_that_brings_nothing_of_the_kind_is_not_looked_at() {
    let clusterfile = clusterfile("kubernetes:v1.19.8", 1);
    let first = plan(&clusterfile, &first_image(), &fresh(&clusterfile));
    assert!(checks_to_do(&first).is_empty());
    // Kubernetes without a kubelet of its own, and a script of a registry without images.
    let (clusterfile, image) = kubernetes(1, 0, "");
    assert!(checks_to_do(&plan(&clusterfile, &image, &fresh(&clusterfile))).is_empty());
}

#[test]
fn each_script_has_its_own_effects_and_the_label_counts_as_bringing() {
    let (clusterfile, mut image) = complete(1, 0);
    image.scripts = ["containerd.sh", "init-kube.sh"].map(str::to_owned).into();
    image.runtimes = [].into();
    image.runtime = Some("containerd".into());
    let found = looked_for(&plan(&clusterfile, &image, &fresh(&clusterfile)), "10.0.0.2");
    let containerd = (
        "scripts/containerd.sh".to_owned(),
        vec![ScriptEffect::ContainerdAnswers],
    );
    let kubelet = (
        "scripts/init-kube.sh".to_owned(),
        vec![ScriptEffect::KubeletIsEnabled],
    );
    // Agents serve registry/ themselves, and look at that as they always do.
    assert_eq!(found, [containerd, kubelet]);

    // docker.sh of later base images calls init-kube.sh itself, or the image has none.
    image.scripts = ["docker.sh".to_owned()].into();
    image.runtime = Some("docker".into());
    let found = looked_for(&plan(&clusterfile, &image, &fresh(&clusterfile)), "10.0.0.2");
    let both = vec![ScriptEffect::DockerAnswers, ScriptEffect::KubeletIsEnabled];
    assert_eq!(found, [("scripts/docker.sh".to_owned(), both)]);
}

#[test]
fn where_init_sh_may_install_either_the_clusterfile_decides_among_what_is_there() {
    let (mut clusterfile, mut image) = complete(1, 0);
    let runtime = |clusterfile: &Clusterfile, image: &PlanImage| {
        let found = looked_for(&plan(clusterfile, image, &fresh(clusterfile)), "10.0.0.2");
        found[0].1[0].clone()
    };
    image.runtimes = ["containerd", "docker"].map(str::to_owned).into();
    assert_eq!(runtime(&clusterfile, &image), ScriptEffect::DockerAnswers);
    clusterfile.runtime = Some("containerd".into());
    assert_eq!(runtime(&clusterfile, &image), ScriptEffect::ContainerdAnswers);
    image.runtimes = ["docker".to_owned()].into();
    assert_eq!(runtime(&clusterfile, &image), ScriptEffect::DockerAnswers);
}

#[test]
fn a_check_that_failed_or_was_cut_off_is_made_again_and_the_script_is_not_run_again() {
    let (clusterfile, image) = complete(1, 1);
    let mut inventory = fresh(&clusterfile);
    let mut begun = plan(&clusterfile, &image, &inventory);
    let init = begun.waves.iter().position(|wave| wave.title == "init").unwrap();
    begun.waves.truncate(init + 1);
    // Gantry was killed on one host right behind the script.
    let cut_off = |step: &PlannedStep| step.host.to_string() == "10.0.0.3" && step.title == "check init.sh";
    begun.waves[init].steps.retain(|step| !cut_off(step));
    execute(&begun, &mut inventory, |host, title| {
        let fails = host == "10.0.0.2" && title == "check init.sh";
        fails.then(|| StepOutcome::Failed("there is no kubelet.service".into()))
    });
    let next = plan(&clusterfile, &image, &inventory);
    assert!(!to_run(&next).contains(&"init.sh".to_owned()));
    let reasons: Vec<&str> = checks_to_do(&next)
        .into_iter()
        .filter(|step| step.title == "check init.sh")
        .map(|step| step.reason.as_str())
        .collect();
    assert_eq!(
        reasons,
        [
            "again: there is no kubelet.service",
            "docker answers, kubelet is enabled"
        ]
    );
}

#[test]
fn clusters_that_run_since_before_anybody_looked_are_left_alone() {
    let (clusterfile, image) = complete(1, 2);
    let mut inventory = fresh(&clusterfile);
    let mut before = plan(&clusterfile, &image, &inventory);
    for wave in &mut before.waves {
        wave.steps.retain(|step| !step.title.starts_with("check "));
    }
    execute(&before, &mut inventory, well);
    let next = plan(&clusterfile, &image, &inventory);
    assert_eq!(next.to_do(), 0, "{:?}", to_run(&next));
}

#[test]
fn members_whose_scripts_run_again_are_looked_at_and_nobody_else_moves_for_a_check() {
    let (clusterfile, image) = complete(1, 1);
    let mut inventory = fresh(&clusterfile);
    execute(&plan(&clusterfile, &image, &inventory), &mut inventory, well);
    let next = PlanImage {
        digest: Digest::of(b"next"),
        ..image
    };
    let again = plan(&clusterfile, &next, &inventory);
    for host in ["10.0.0.2", "10.0.0.3"] {
        let steps = again
            .steps()
            .filter(|step| step.host.to_string() == host && step.is_to_do());
        let titles: Vec<&str> = steps.map(|step| step.title.as_str()).collect();
        let at = |title: &str| titles.iter().position(|found| *found == title).unwrap();
        assert_eq!(at("check init.sh"), at("init.sh") + 1, "{titles:?}");
        assert!(at("check init.sh") < at("restart kubelet"), "{titles:?}");
    }
    // The check alone is lacking: no pod moves for it.
    execute(&again, &mut inventory, well);
    for host in ["10.0.0.2", "10.0.0.3"] {
        let steps = &mut on(&mut inventory, host).inventory.steps;
        steps.retain(|record| record.title != "restart kubelet");
        let last = steps.iter().rposition(|record| record.title == "check init.sh");
        steps[last.unwrap()].outcome = Some(StepOutcome::Unknown);
    }
    let looks = plan(&clusterfile, &next, &inventory);
    assert!(
        !to_run(&looks).iter().any(|title| title.starts_with("drain")),
        "{:?}",
        to_run(&looks)
    );
    assert_eq!(checks_to_do(&looks).len(), 2);
}
