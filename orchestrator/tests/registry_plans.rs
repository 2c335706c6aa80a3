//! Who serves a cluster's container images, by image and Clusterfile.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod planning;

use std::num::NonZeroUsize;

use gantry::clusterfile::{Clusterfile, RegistryMode};
use gantry::plan::{PlanImage, planner, render, reset};
use gantry_model::StepAction;

use planning::*;

/// An image whose registry nothing of its own serves.
fn without_script() -> PlanImage {
    PlanImage {
        registry: true,
        ..image("kubernetes:v1.22", &["base"], &["containerd.sh", "init-kube.sh"])
    }
}

fn with_mode(mode: RegistryMode) -> Clusterfile {
    let mut clusterfile = clusterfile("kubernetes:v1.22", 1);
    clusterfile.registry.mode = Some(mode);
    clusterfile
}

#[test]
fn where_the_image_has_no_script_every_agent_serves_its_own_host() {
    let clusterfile = clusterfile("kubernetes:v1.22", 1);
    let image = without_script();
    let mut inventory = fresh(&clusterfile);
    let first = plan(&clusterfile, &image, &inventory);
    expect("registry-of-agents", &render::render(&first));
    assert!(first.hosts.iter().all(|host| host.ports.contains(&5000)));
    for step in first.steps() {
        if let StepAction::WriteHostsEntries { entries, .. } = &step.step.action {
            assert_eq!(entries[0].address, std::net::Ipv4Addr::LOCALHOST);
        }
    }
    execute(&first, &mut inventory, well);
    assert_eq!(plan(&clusterfile, &image, &inventory).to_do(), 0);

    // Another generation is served by the process that runs.
    let mut next = without_script();
    next.digest = gantry_model::Digest::of(b"next");
    assert!(!to_run(&plan(&clusterfile, &next, &inventory)).contains(&"registry".to_owned()));

    let down = reset::plan(&clusterfile, &[], &inventory, |_| Some(image.clone()));
    expect("registry-of-agents-reset", &render::render(&down));
}

#[test]
fn the_clusterfile_decides_and_may_change_its_mind() {
    let image = PlanImage {
        registry: true,
        ..first_image()
    };
    let (agents, script) = (with_mode(RegistryMode::Agent), with_mode(RegistryMode::Image));
    let mut inventory = fresh(&agents);
    let ours = ["registry", "init-registry.sh", "remove registry"];
    for (clusterfile, expected) in [
        (&agents, vec!["registry"]),
        (&script, vec!["remove registry", "init-registry.sh"]),
        (&agents, vec!["registry"]),
        (&script, vec!["remove registry"]),
    ] {
        let plan = plan(clusterfile, &image, &inventory);
        let mut found = to_run(&plan);
        found.retain(|title| ours.contains(&title.as_str()));
        found.sort_by_key(|title| ours.iter().rev().position(|one| one == title));
        found.dedup();
        assert_eq!(found, expected);
        execute(&plan, &mut inventory, well);
        assert_eq!(planning::plan(clusterfile, &image, &inventory).to_do(), 0);
    }
}

#[test]
fn a_mode_that_the_image_cannot_serve_is_refused() {
    let empty = image("kubernetes:v1.22", &["base"], &["init.sh"]);
    for (mode, lacks) in [
        (RegistryMode::Agent, "registry/docker/registry/v2/repositories/"),
        (RegistryMode::Image, "scripts/init-registry.sh"),
    ] {
        let clusterfile = with_mode(mode);
        let error =
            planner::plan(&clusterfile, &empty, &fresh(&clusterfile), &[], NonZeroUsize::MIN).unwrap_err();
        let error = format!("{error:#}");
        assert!(
            error.contains(lacks) && error.contains("spec.registry.mode"),
            "{error}"
        );
    }
    // Nobody asked, and there is nothing to serve.
    let clusterfile = clusterfile("kubernetes:v1.22", 1);
    let plan = plan(&clusterfile, &empty, &fresh(&clusterfile));
    assert!(!to_run(&plan).contains(&"registry".to_owned()));
}
