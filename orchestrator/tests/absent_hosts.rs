//! Plans that go on without hosts that do not answer.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod planning;

use std::net::IpAddr;
use std::num::NonZeroUsize;

use gantry::clusterfile::Clusterfile;
use gantry::exit::Failure;
use gantry::inventory::{ClusterInventory, HostState};
use gantry::plan::preflight::{self, Check};
use gantry::plan::{Leaving, Place, Plan, PlanImage, check, planner, render};
use gantry_model::{Digest, StepAction};

use planning::*;

const WORKER: &str = "10.0.0.4";

/// The plan without the hosts that are off, and what is still said against it.
fn skipping(
    clusterfile: &Clusterfile,
    image: &PlanImage,
    inventory: &ClusterInventory,
    applied: &Plan,
) -> (Plan, Vec<(Check, String)>) {
    let plan = plan(clusterfile, image, inventory).skipping(inventory, &applied.hosts);
    check::check(&plan).unwrap();
    let findings = preflight::preflight(&plan, image, inventory, &[]);
    let findings = findings.into_iter().map(|one| (one.check, one.host.to_string()));
    (plan, findings.collect())
}

/// The host does not answer; the answer is what it said before.
fn turn_off(inventory: &mut ClusterInventory, host: &str) -> HostState {
    let state = inventory.hosts.get_mut(&host.parse::<IpAddr>().unwrap()).unwrap();
    std::mem::replace(state, HostState::Unreachable("no answer".into()))
}

fn turn_on(inventory: &mut ClusterInventory, host: &str, state: HostState) {
    inventory.hosts.insert(host.parse().unwrap(), state);
}

fn not_waited_for(plan: &Plan) -> Vec<String> {
    let mut nodes = plan.steps().filter_map(|step| match &step.step.action {
        StepAction::WaitForNodes { except, .. } => Some(except.clone()),
        _ => None,
    });
    nodes.next().unwrap()
}

#[test]
fn a_worker_that_is_off_when_a_cluster_begins_joins_with_the_next_apply() {
    let (clusterfile, image) = kubernetes(1, 2, "");
    let mut inventory = fresh(&clusterfile);
    let whole = plan(&clusterfile, &image, &inventory);
    let state = turn_off(&mut inventory, WORKER);
    let (first, findings) = skipping(&clusterfile, &image, &inventory, &whole);
    assert_eq!(findings, []);
    expect("absent-worker", &render::render(&first));
    execute(&first, &mut inventory, well);
    let (again, _) = skipping(&clusterfile, &image, &inventory, &first);
    assert_eq!(again.to_do(), 0);

    turn_on(&mut inventory, WORKER, state);
    let rest = plan(&clusterfile, &image, &inventory);
    let others = rest
        .steps()
        .filter(|step| step.is_to_do() && step.host.to_string() != WORKER);
    let others: Vec<&str> = others.map(|step| step.title.as_str()).collect();
    assert_eq!(others, ["nodes ready"]);
    assert!(to_run(&rest).contains(&"kubeadm join".to_owned()));
    execute(&rest, &mut inventory, well);
    assert_eq!(plan(&clusterfile, &image, &inventory).to_do(), 0);
}

#[test]
fn the_node_of_a_member_that_is_off_is_not_waited_for_and_its_name_is_kept() {
    let (clusterfile, image) = kubernetes(1, 2, "");
    let mut inventory = fresh(&clusterfile);
    let first = plan(&clusterfile, &image, &inventory);
    execute(&first, &mut inventory, well);
    turn_off(&mut inventory, WORKER);
    let (without, findings) = skipping(&clusterfile, &image, &inventory, &first);
    assert_eq!((findings, without.to_do()), (vec![], 1));
    assert_eq!(not_waited_for(&without), ["host-10.0.0.4"]);
    execute(&without, &mut inventory, well);
    // What was applied last remembers it, although it was off then, too.
    let (again, _) = skipping(&clusterfile, &image, &inventory, &without);
    assert_eq!(
        (again.to_do(), not_waited_for(&again)),
        (0, vec!["host-10.0.0.4".to_owned()])
    );
}

#[test]
fn the_node_of_a_member_that_is_off_keeps_its_labels() {
    let (_, image) = kubernetes(1, 2, "");
    let text = "apiVersion: sealer.io/v2\nkind: Cluster\nmetadata: { name: demo }\nspec:\n  image: kubernetes:v1.20.2\n  \
                hosts:\n    - { ips: [ 10.0.0.2 ], roles: [ master ] }\n    \
                - { ips: [ 10.0.0.3, 10.0.0.4 ], roles: [ node ], labels: { disk: ssd } }\n";
    let clusterfile = Clusterfile::parse("Clusterfile", text).unwrap().0;
    let mut inventory = fresh(&clusterfile);
    let first = plan(&clusterfile, &image, &inventory);
    execute(&first, &mut inventory, well);
    let state = turn_off(&mut inventory, WORKER);
    let (without, _) = skipping(&clusterfile, &image, &inventory, &first);
    assert_eq!(to_run(&without), ["nodes ready"]);
    execute(&without, &mut inventory, well);
    turn_on(&mut inventory, WORKER, state);
    assert_eq!(plan(&clusterfile, &image, &inventory).to_do(), 0);
}

#[test]
fn a_worker_that_is_off_is_upgraded_later() {
    let (clusterfile, image) = kubernetes(1, 2, "");
    let mut inventory = fresh(&clusterfile);
    let first = plan(&clusterfile, &image, &inventory);
    execute(&first, &mut inventory, well);
    let kubernetes = image.kubernetes.clone().map(|mut kubernetes| {
        "v1.20.3".clone_into(&mut kubernetes.version);
        kubernetes
    });
    let next = PlanImage {
        kubernetes,
        ..second_image()
    };
    let state = turn_off(&mut inventory, WORKER);
    let (upgrade, findings) = skipping(&clusterfile, &next, &inventory, &first);
    assert_eq!(findings, []);
    assert!(!upgrade.steps().any(|step| step.title.contains("host-10.0.0.4")));
    execute(&upgrade, &mut inventory, well);
    turn_on(&mut inventory, WORKER, state);
    let rest = plan(&clusterfile, &next, &inventory);
    let titles = to_run(&rest);
    for title in ["kubeadm upgrade", "drain host-10.0.0.4", "uncordon host-10.0.0.4"] {
        assert!(titles.contains(&title.to_owned()), "{titles:?}");
    }
    assert!(!titles.contains(&"drain host-10.0.0.3".to_owned()), "{titles:?}");
    execute(&rest, &mut inventory, well);
    assert_eq!(plan(&clusterfile, &next, &inventory).to_do(), 0);
}

/// What the image brings, in another version.
fn of_version(version: &str) -> PlanImage {
    let (_, image) = kubernetes(1, 2, "");
    let kubernetes = image.kubernetes.clone().map(|mut kubernetes| {
        version.clone_into(&mut kubernetes.version);
        kubernetes
    });
    PlanImage {
        kubernetes,
        digest: Digest::of(version.as_bytes()),
        ..image
    }
}

#[test]
fn a_worker_that_was_off_for_two_minor_versions_is_named_in_time_and_joins_anew() {
    let (clusterfile, image) = kubernetes(1, 2, "");
    let mut inventory = fresh(&clusterfile);
    let mut applied = plan(&clusterfile, &image, &inventory);
    execute(&applied, &mut inventory, well);
    let state = turn_off(&mut inventory, WORKER);
    let mut last = image;
    for (version, left_behind) in [
        ("v1.20.3", vec![]),
        ("v1.21.0", vec![]),
        ("v1.22.0", vec![(WORKER.parse().unwrap(), "v1.20.2")]),
    ] {
        last = of_version(version);
        let known = applied.without_left(&[]);
        let (upgrade, findings) = skipping(&clusterfile, &last, &inventory, &known);
        assert_eq!(findings, []);
        assert_eq!(upgrade.left_behind(version), left_behind);
        execute(&upgrade, &mut inventory, well);
        applied = upgrade;
    }
    let known = applied.without_left(&[]);
    let has = |host: &str| {
        let mut hosts = known.hosts.iter();
        hosts
            .find(|one| one.address.to_string() == host)
            .unwrap()
            .kubernetes
            .clone()
    };
    assert_eq!(
        (has("10.0.0.3").unwrap(), has(WORKER).unwrap()),
        ("v1.22.0".into(), "v1.20.2".into())
    );

    turn_on(&mut inventory, WORKER, state);
    let try_plan = |image: &PlanImage| {
        let refused = planner::plan(&clusterfile, image, &inventory, &[], NonZeroUsize::MIN).unwrap_err();
        let hint = refused
            .downcast_ref::<Failure>()
            .unwrap()
            .hint()
            .unwrap_or_default()
            .to_owned();
        (format!("{refused:#}"), hint)
    };
    let (why, hint) = try_plan(&last);
    assert!(
        why.contains("10.0.0.4 runs Kubernetes v1.20.2") && why.contains("no minor version is left out"),
        "{why}"
    );
    assert!(
        hint.contains("`gantry delete -n 10.0.0.4`, then `gantry join -n 10.0.0.4`"),
        "{hint}"
    );
    // Where the control planes are in the way, too, they are named.
    let (why, hint) = try_plan(&of_version("v1.24.0"));
    assert!(
        why.contains("10.0.0.2 runs Kubernetes v1.22.0") && hint.contains("version between"),
        "{why} {hint}"
    );

    let (smaller, _) = kubernetes(1, 1, "");
    let host = known.hosts.iter().find(|host| host.address.to_string() == WORKER);
    let leaving = Leaving {
        host: host.unwrap().clone(),
        given_up: false,
    };
    let leaves = planner::plan(&smaller, &last, &inventory, &[leaving], NonZeroUsize::MIN).unwrap();
    assert!(
        to_run(&leaves).contains(&"kubeadm reset".to_owned()),
        "{}",
        render::render(&leaves)
    );
    execute(&leaves, &mut inventory, well);
    let clean = HostState::Reached(Box::new(report(WORKER.parse().unwrap())));
    turn_on(&mut inventory, WORKER, clean);
    let joins = plan(&clusterfile, &last, &inventory);
    assert!(
        to_run(&joins).contains(&"kubeadm join".to_owned()),
        "{}",
        render::render(&joins)
    );
    execute(&joins, &mut inventory, well);
    assert_eq!(plan(&clusterfile, &last, &inventory).to_do(), 0);
}

#[test]
fn a_control_plane_that_is_off_and_a_host_that_is_not_trusted_stop_it() {
    let (clusterfile, image) = kubernetes(3, 1, "");
    let mut inventory = fresh(&clusterfile);
    let whole = plan(&clusterfile, &image, &inventory);
    turn_off(&mut inventory, "10.0.0.3");
    let refused = HostState::Refused("its certificate was revoked".into());
    turn_on(&mut inventory, "10.0.0.5", refused);
    let (plan, findings) = skipping(&clusterfile, &image, &inventory, &whole);
    let expected = [
        (Check::Reachable, "10.0.0.3".to_owned()),
        (Check::Trusted, "10.0.0.5".to_owned()),
    ];
    assert_eq!(findings, expected);
    assert!(plan.hosts.iter().all(|host| host.place == Place::Stays));
}
