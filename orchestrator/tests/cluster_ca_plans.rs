//! Plans that replace the CA of a Kubernetes cluster, as text. See `plans.rs`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod planning;

use std::net::IpAddr;
use std::num::NonZeroUsize;

use gantry::exit::Failure;
use gantry::inventory::{ClusterInventory, HostState};
use gantry::plan::cluster_ca::{Replacement, Stage, changes_hosts, makes_ca};
use gantry::plan::{Plan, check, planner, render};
use gantry::state::State;
use gantry_model::{
    CertificateKeeper, CertificateRecord, ClusterCa, ClusterName, Digest, ExitCode, NodeHealth, StepAction,
    StepOutcome,
};

use planning::*;

fn ca(name: &str, not_before: i64) -> ClusterCa {
    ClusterCa {
        pem: format!("{name}\n"),
        fingerprint: Digest::of(name.as_bytes()),
        not_before,
        not_after: not_before + 1000,
    }
}

fn old() -> ClusterCa {
    ca("old", 100)
}

fn new() -> ClusterCa {
    ca("new", 200)
}

/// The one that is made when that was taken out again.
fn newer() -> ClusterCa {
    ca("newer", 300)
}

/// A cluster that runs, with two control planes and two workers.
fn running() -> (ClusterInventory, Vec<IpAddr>) {
    let (clusterfile, image) = kubernetes(2, 2, "");
    let mut inventory = fresh(&clusterfile);
    execute(&plan(&clusterfile, &image, &inventory), &mut inventory, well);
    let hosts: Vec<IpAddr> = clusterfile.hosts.iter().map(|host| host.address).collect();
    for (index, host) in hosts.iter().enumerate() {
        let found = &mut on(&mut inventory, &host.to_string()).inventory;
        found.cluster_cas.trusted = vec![old()];
        if index < 2 {
            found.certificates.push(CertificateRecord {
                file: "/etc/kubernetes/pki/apiserver.crt".into(),
                subject: "kube-apiserver".into(),
                not_after: 1 << 40,
                keeper: CertificateKeeper::Kubeadm,
            });
        }
    }
    (inventory, hosts)
}

fn stage(inventory: &ClusterInventory, hosts: &[IpAddr]) -> anyhow::Result<Stage> {
    let cluster: ClusterName = "demo".parse()?;
    Replacement::new(&cluster, hosts, &hosts[..2], inventory, NonZeroUsize::MIN)?.stage()
}

/// What the hosts have after `plan` was executed; a step for which `fails` gives an outcome ends so.
fn replace(plan: &Plan, inventory: &mut ClusterInventory, fails: impl Fn(&str, &str) -> Option<StepOutcome>) {
    check::check(plan).unwrap();
    for step in plan.steps().filter(|step| step.is_to_do()) {
        let host = step.host.to_string();
        if fails(&host, &step.title).is_some() {
            break;
        }
        let found = &mut on(inventory, &host).inventory;
        let again = found.steps.iter().any(|record| record.title == "withdraw new CA");
        let cas = &mut found.cluster_cas;
        match &step.step.action {
            StepAction::MakeClusterCa { .. } => cas.next = Some(if again { newer() } else { new() }),
            StepAction::TrustClusterCas { authorities, .. } => {
                let wanted = |ca: &ClusterCa| authorities.contains(&ca.pem);
                let first = cas.trusted[0].clone();
                let others = [old(), new(), newer()].into_iter().filter(|ca| *ca != first);
                cas.trusted = std::iter::once(first.clone())
                    .chain(others)
                    .filter(wanted)
                    .collect();
            }
            StepAction::WithdrawClusterCa { authorities, .. } => {
                cas.next = None;
                cas.trusted.retain(|ca| authorities.contains(&ca.pem));
            }
            StepAction::SignByClusterCa { .. } => {
                cas.next = None;
                cas.trusted.rotate_left(1);
            }
            _ => {}
        }
    }
    execute(plan, inventory, fails);
}

fn withdrawal(
    inventory: &ClusterInventory,
    hosts: &[IpAddr],
    masters: &[IpAddr],
) -> anyhow::Result<Option<Plan>> {
    let cluster: ClusterName = "demo".parse()?;
    Replacement::new(&cluster, hosts, masters, inventory, NonZeroUsize::MIN)?.withdrawal()
}

/// What there is to be taken back; none where nothing is.
fn back(inventory: &ClusterInventory, hosts: &[IpAddr]) -> Option<Plan> {
    withdrawal(inventory, hosts, &hosts[..2]).unwrap()
}

/// A cluster whose replacement was done so far.
fn after(stages: &[&str]) -> (ClusterInventory, Vec<IpAddr>) {
    let (mut inventory, hosts) = running();
    for stage in stages {
        let (name, plan) = next(&inventory, &hosts).unwrap();
        assert_eq!(name, *stage);
        replace(&plan, &mut inventory, well);
    }
    (inventory, hosts)
}

fn is_as_before(inventory: &ClusterInventory) -> bool {
    inventory.reached().all(|(_, report)| {
        let cas = &report.inventory.cluster_cas;
        cas.trusted == [old()] && cas.next.is_none()
    })
}

/// The plan of a stage, and its name.
fn next(inventory: &ClusterInventory, hosts: &[IpAddr]) -> Option<(&'static str, Plan)> {
    match stage(inventory, hosts).unwrap() {
        Stage::Make(plan) => Some(("make", plan)),
        Stage::Trust(plan) => Some(("trust", plan)),
        Stage::Sign { plan, .. } => Some(("sign", plan)),
        Stage::Drop(plan) => Some(("drop", plan)),
        Stage::Wait | Stage::Replaced { .. } => None,
    }
}

#[test]
fn a_ca_is_replaced_in_four_plans_and_the_old_one_goes_last() {
    let (mut inventory, hosts) = running();
    let mut text = String::new();
    let mut names = Vec::new();
    while let Some((name, plan)) = next(&inventory, &hosts) {
        text.push_str(&render::render(&plan));
        names.push(name);
        replace(&plan, &mut inventory, well);
    }
    assert_eq!(names, ["make", "trust", "sign", "drop"]);
    expect("cluster-ca", &text);
    let ended = stage(&inventory, &hosts).unwrap();
    assert!(matches!(ended, Stage::Replaced { .. }), "{ended:?}");
    // Nothing that is secret is in a plan.
    assert!(!text.contains("key"), "{text}");
}

#[test]
fn wherever_it_is_cut_off_it_goes_on_and_ends_the_same() {
    let (start, hosts) = running();
    let mut whole = start.clone();
    let mut steps = Vec::new();
    while let Some((_, plan)) = next(&whole, &hosts) {
        steps.extend(
            plan.steps()
                .map(|step| (step.host.to_string(), step.title.clone())),
        );
        replace(&plan, &mut whole, well);
    }
    assert!(steps.len() > 15, "{steps:?}");
    let cas = |inventory: &ClusterInventory| -> Vec<_> {
        inventory
            .reached()
            .map(|(_, report)| report.inventory.cluster_cas.clone())
            .collect()
    };
    for (at_host, at_title) in &steps {
        let mut inventory = start.clone();
        let mut failed = false;
        for _ in 0..10 {
            let Some((_, plan)) = next(&inventory, &hosts) else {
                break;
            };
            let is_here = plan.steps().any(|step| {
                step.is_to_do() && (step.host.to_string(), &step.title) == (at_host.clone(), at_title)
            });
            if is_here && !failed {
                failed = true;
                // What comes after the one that failed is not run.
                let mut begun = plan.clone();
                let here = |step: &gantry::plan::PlannedStep| {
                    step.host.to_string() == *at_host && step.title == *at_title
                };
                let at = begun
                    .waves
                    .iter()
                    .position(|wave| wave.steps.iter().any(here))
                    .unwrap();
                begun.waves.truncate(at + 1);
                replace(&begun, &mut inventory, |host, title| {
                    (host == at_host && title == at_title)
                        .then(|| StepOutcome::Failed("it was cut off".into()))
                });
            } else {
                replace(&plan, &mut inventory, well);
            }
        }
        assert!(failed, "{at_title} on {at_host}");
        assert_eq!(cas(&inventory), cas(&whole), "{at_title} on {at_host}");
        assert!(next(&inventory, &hosts).is_none(), "{at_title} on {at_host}");
    }
}

#[test]
fn while_a_worker_is_off_both_are_trusted_and_its_return_ends_it() {
    let (start, hosts) = running();
    let off = hosts[3];
    let mut inventory = start.clone();
    inventory
        .hosts
        .insert(off, HostState::Unreachable("no route to host".into()));
    let mut names = Vec::new();
    while let Some((name, plan)) = next(&inventory, &hosts) {
        assert!(plan.steps().all(|step| step.host != off));
        names.push(name);
        replace(&plan, &mut inventory, well);
    }
    assert_eq!(names, ["make", "trust"], "what the new one signs it would refuse");
    assert_eq!(stage(&inventory, &hosts).unwrap(), Stage::Wait);

    inventory.hosts.insert(off, start.hosts[&off].clone());
    let (_, back) = next(&inventory, &hosts).unwrap();
    expect("cluster-ca-worker-back", &render::render(&back));
    let mut names = Vec::new();
    while let Some((name, plan)) = next(&inventory, &hosts) {
        names.push(name);
        replace(&plan, &mut inventory, well);
    }
    assert_eq!(names, ["trust", "sign", "drop"]);
}

#[test]
fn a_worker_that_goes_off_while_the_new_one_signs_is_waited_for_before_the_old_one_goes() {
    let (mut inventory, hosts) = running();
    for name in ["make", "trust"] {
        let (found, plan) = next(&inventory, &hosts).unwrap();
        assert_eq!(found, name);
        replace(&plan, &mut inventory, well);
    }
    let (_, mut sign) = next(&inventory, &hosts).unwrap();
    sign.waves.truncate(1);
    replace(&sign, &mut inventory, well);
    let back = inventory.hosts[&hosts[3]].clone();
    inventory
        .hosts
        .insert(hosts[3], HostState::Unreachable("no route to host".into()));
    let (name, sign) = next(&inventory, &hosts).unwrap();
    assert_eq!(name, "sign", "the other control plane must not stay behind");
    replace(&sign, &mut inventory, well);
    assert_eq!(stage(&inventory, &hosts).unwrap(), Stage::Wait);
    inventory.hosts.insert(hosts[3], back);
    assert_eq!(next(&inventory, &hosts).unwrap().0, "sign");
}

#[test]
fn a_host_whose_join_did_not_end_is_named_and_nothing_begins() {
    let (mut inventory, hosts) = running();
    let half = &mut on(&mut inventory, &hosts[2].to_string()).inventory;
    let join = half
        .steps
        .iter_mut()
        .rfind(|record| record.title.starts_with("kubeadm join"));
    join.unwrap().outcome = Some(StepOutcome::Unknown);
    let error = stage(&inventory, &hosts).unwrap_err();
    assert_eq!(
        error.downcast_ref::<Failure>().unwrap().code(),
        ExitCode::Preflight
    );
    assert!(error.to_string().contains("is half a member"), "{error}");
}

#[test]
fn every_control_plane_has_to_answer() {
    let (mut inventory, hosts) = running();
    inventory
        .hosts
        .insert(hosts[1], HostState::Unreachable("no route to host".into()));
    let error = stage(&inventory, &hosts).unwrap_err();
    assert_eq!(
        error.downcast_ref::<Failure>().unwrap().code(),
        ExitCode::Unreachable
    );
}

#[test]
fn cas_that_somebody_else_put_there_are_left_alone() {
    let (mut inventory, hosts) = running();
    for host in &hosts {
        on(&mut inventory, &host.to_string())
            .inventory
            .cluster_cas
            .trusted = vec![old(), ca("theirs", 300)];
    }
    let error = stage(&inventory, &hosts).unwrap_err().to_string();
    assert!(error.contains("trust several CAs"), "{error}");
}

#[test]
fn nobody_joins_while_the_ca_is_replaced() {
    let (mut inventory, hosts) = running();
    let (_, make) = next(&inventory, &hosts).unwrap();
    replace(&make, &mut inventory, well);
    let planned = |nodes: u8, inventory: &ClusterInventory| {
        let (clusterfile, image) = kubernetes(2, nodes, "");
        planner::plan(&clusterfile, &image, inventory, &[], NonZeroUsize::MIN)
    };
    assert_eq!(planned(2, &inventory).unwrap().to_do(), 0);
    let late: IpAddr = "10.0.0.6".parse().unwrap();
    inventory
        .hosts
        .insert(late, HostState::Reached(Box::new(report(late))));
    let error = planned(3, &inventory).unwrap_err().to_string();
    assert!(error.contains("kubeadm join of 10.0.0.6 has to wait"), "{error}");
}

#[test]
fn until_the_new_one_signs_it_is_taken_out_again_and_another_one_can_be_made() {
    let (mut inventory, hosts) = after(&["make", "trust"]);
    let plan = back(&inventory, &hosts).unwrap();
    expect("cluster-ca-withdrawn", &render::render(&plan));
    replace(&plan, &mut inventory, well);
    assert!(is_as_before(&inventory));
    assert!(back(&inventory, &hosts).is_none());
    // As if nothing had been: no day has to pass, and everybody trusts both anew.
    let mut names = Vec::new();
    while let Some((name, plan)) = next(&inventory, &hosts) {
        names.push(name);
        assert!(
            plan.steps()
                .all(|step| step.is_to_do() || step.title == "nodes ready")
        );
        replace(&plan, &mut inventory, well);
    }
    assert_eq!(names, ["make", "trust", "sign", "drop"]);
}

#[test]
fn a_ca_that_was_only_made_is_taken_out_where_it_is_and_nothing_else_starts_anew() {
    let (mut inventory, hosts) = after(&["make"]);
    let plan = back(&inventory, &hosts).unwrap();
    let withdrawn: Vec<_> = plan
        .steps()
        .filter(|step| step.title == "withdraw new CA")
        .map(|step| step.host)
        .collect();
    assert_eq!(withdrawn, [hosts[0]]);
    replace(&plan, &mut inventory, well);
    assert!(is_as_before(&inventory) && back(&inventory, &hosts).is_none());
    assert_eq!(next(&inventory, &hosts).unwrap().0, "make");
    let (inventory, hosts) = running();
    assert!(back(&inventory, &hosts).is_none(), "nothing was begun");
}

#[test]
fn wherever_it_is_cut_off_a_withdrawal_goes_on_and_a_replacement_does_not() {
    for stages in [&["make"][..], &["make", "trust"]] {
        let (start, hosts) = after(stages);
        let whole = back(&start, &hosts).unwrap();
        for cut in 0..whole.waves.len() {
            let mut inventory = start.clone();
            let mut begun = whole.clone();
            begun.waves.truncate(cut);
            replace(&begun, &mut inventory, well);
            if cut > 0 && !is_as_before(&inventory) {
                let error = stage(&inventory, &hosts).unwrap_err();
                assert!(error.to_string().contains("is being taken out again"), "{error}");
            }
            // That nodes are ready is looked at while something else is to be done.
            if let Some(rest) = back(&inventory, &hosts) {
                replace(&rest, &mut inventory, well);
            }
            assert!(is_as_before(&inventory), "after {cut} waves");
            assert!(back(&inventory, &hosts).is_none(), "after {cut} waves");
            let published = |records: &[gantry_model::StepRecord]| {
                records.iter().any(|record| record.title == "publish CA")
            };
            let first = on(&mut inventory, &hosts[0].to_string());
            assert!(published(&first.inventory.steps), "after {cut} waves");
        }
    }
}

#[test]
fn once_the_new_one_signs_it_is_not_taken_back() {
    let (mut inventory, hosts) = after(&["make", "trust"]);
    let (_, mut sign) = next(&inventory, &hosts).unwrap();
    sign.waves.truncate(1);
    replace(&sign, &mut inventory, well);
    let error = withdrawal(&inventory, &hosts, &hosts[..2]).unwrap_err();
    assert_eq!(
        error.downcast_ref::<Failure>().unwrap().code(),
        ExitCode::Preflight
    );
    assert!(
        error
            .to_string()
            .contains("signs already, on control plane 10.0.0.2"),
        "{error}"
    );
    assert_eq!(next(&inventory, &hosts).unwrap().0, "sign");
}

/// Its key is gone with it, and the others trust what nobody can sign by.
#[test]
fn when_the_control_plane_with_the_key_is_lost_the_new_one_is_taken_out_of_the_others() {
    let (mut inventory, hosts) = after(&["make", "trust"]);
    inventory.hosts.remove(&hosts[0]);
    let left = &hosts[1..];
    let cluster: ClusterName = "demo".parse().unwrap();
    let lost = Replacement::new(&cluster, left, &left[..1], &inventory, NonZeroUsize::MIN).unwrap();
    let error = lost.stage().unwrap_err();
    let hint = error
        .downcast_ref::<Failure>()
        .unwrap()
        .hint()
        .unwrap()
        .to_owned();
    assert!(hint.contains("rotate-cluster-ca --abort"), "{error}: {hint}");
    let plan = withdrawal(&inventory, left, &left[..1]).unwrap().unwrap();
    replace(&plan, &mut inventory, well);
    assert!(is_as_before(&inventory));
}

#[test]
fn a_worker_that_was_off_meanwhile_gives_the_new_one_up_when_it_is_back() {
    let (mut inventory, hosts) = after(&["make", "trust"]);
    let off = hosts[3];
    let away = HostState::Unreachable("no route to host".into());
    let was = inventory.hosts.insert(off, away).unwrap();
    let plan = back(&inventory, &hosts).unwrap();
    replace(&plan, &mut inventory, well);
    assert!(is_as_before(&inventory) && back(&inventory, &hosts).is_none());
    inventory.hosts.insert(off, was);
    let error = stage(&inventory, &hosts).unwrap_err().to_string();
    assert!(error.contains("is being taken out again"), "{error}");
    let rest = back(&inventory, &hosts).unwrap();
    assert!(
        rest.steps()
            .filter(|step| step.is_to_do() && step.title == "withdraw new CA")
            .all(|step| step.host == off)
    );
    replace(&rest, &mut inventory, well);
    assert!(is_as_before(&inventory));
}

#[test]
fn cas_of_somebody_else_are_not_taken_out() {
    let (mut inventory, hosts) = running();
    for host in &hosts {
        let found = &mut on(&mut inventory, &host.to_string()).inventory;
        found.cluster_cas.trusted = vec![old(), ca("theirs", 300)];
    }
    let error = withdrawal(&inventory, &hosts, &hosts[..2])
        .unwrap_err()
        .to_string();
    assert!(error.contains("Gantry made none of them"), "{error}");
}

#[test]
fn that_the_new_one_has_begun_to_sign_is_told() {
    let (mut inventory, hosts) = after(&["make", "trust"]);
    let Stage::Sign { plan, has_begun } = stage(&inventory, &hosts).unwrap() else {
        panic!("it is to sign");
    };
    assert!(!has_begun);
    let mut begun = plan;
    begun.waves.truncate(1);
    replace(&begun, &mut inventory, well);
    let now = stage(&inventory, &hosts).unwrap();
    assert!(matches!(now, Stage::Sign { has_begun: true, .. }), "{now:?}");
}

#[test]
fn no_new_ca_is_made_or_signs_while_a_clock_is_wrong() {
    let (mut inventory, hosts) = running();
    on(&mut inventory, &hosts[3].to_string()).skew_ms = -600_000;
    let error = stage(&inventory, &hosts).unwrap_err();
    let failure = error.downcast_ref::<Failure>().unwrap();
    assert_eq!(failure.code(), ExitCode::Preflight);
    assert!(
        error
            .to_string()
            .contains(&format!("{}: its clock is 600 s behind", hosts[3])),
        "{error}"
    );
    on(&mut inventory, &hosts[3].to_string()).skew_ms = 0;
    assert!(matches!(stage(&inventory, &hosts), Ok(Stage::Make(_))));
}

/// So that whose agent is too old is known before there is a CA that it could not give up.
#[test]
fn every_kind_of_step_that_a_replacement_may_come_to_is_known_when_it_begins() {
    let (mut inventory, hosts) = running();
    let cluster: ClusterName = "demo".parse().unwrap();
    let replacement = Replacement::new(&cluster, &hosts, &hosts[..2], &inventory, NonZeroUsize::MIN).unwrap();
    let to_come: Vec<(IpAddr, _)> = replacement
        .to_come()
        .into_iter()
        .map(|(host, step)| (host, std::mem::discriminant(&step.action)))
        .collect();
    let mut plans = Vec::new();
    while let Some((_, plan)) = next(&inventory, &hosts) {
        replace(&plan, &mut inventory, well);
        plans.extend(back(&inventory, &hosts).into_iter().chain([plan]));
        if plans.len() > 3 {
            break;
        }
    }
    while let Some((_, plan)) = next(&inventory, &hosts) {
        replace(&plan, &mut inventory, well);
        plans.push(plan);
    }
    assert!(plans.len() > 5);
    for step in plans
        .iter()
        .filter(|plan| !makes_ca(plan))
        .flat_map(Plan::steps)
        .filter(|step| step.step.action.may_be_unknown())
    {
        let kind = (step.host, std::mem::discriminant(&step.step.action));
        assert!(to_come.contains(&kind), "{} on {}", step.title, step.host);
    }
}

/// What a new CA signs is valid from then on, whoever's clock is behind.
#[test]
fn the_new_one_begins_to_sign_by_right_clocks_and_goes_on_by_any() {
    let (mut inventory, hosts) = after(&["make", "trust"]);
    let late = |inventory: &mut ClusterInventory| on(inventory, &hosts[2].to_string()).skew_ms = -600_000;
    let mut wrong = inventory.clone();
    late(&mut wrong);
    let error = stage(&wrong, &hosts).unwrap_err();
    assert_eq!(
        error.downcast_ref::<Failure>().unwrap().code(),
        ExitCode::Preflight
    );
    let (_, mut sign) = next(&inventory, &hosts).unwrap();
    sign.waves.truncate(1);
    replace(&sign, &mut inventory, well);
    late(&mut inventory);
    assert_eq!(
        next(&inventory, &hosts).unwrap().0,
        "sign",
        "there is no way back"
    );
}

#[test]
fn one_that_was_replaced_is_not_replaced_again_while_a_clock_is_wrong() {
    let (mut inventory, hosts) = after(&["make", "trust", "sign", "drop"]);
    on(&mut inventory, &hosts[1].to_string()).skew_ms = 600_000;
    assert!(
        matches!(stage(&inventory, &hosts), Ok(Stage::Replaced { .. })),
        "that it ended is told"
    );
    let cluster: ClusterName = "demo".parse().unwrap();
    let replacement = Replacement::new(&cluster, &hosts, &hosts[..2], &inventory, NonZeroUsize::MIN).unwrap();
    let error = replacement.check_clocks().unwrap_err().to_string();
    assert!(error.contains("its clock is 600 s ahead"), "{error}");
}

/// Of which day it is, each host's clock is one opinion.
#[test]
fn when_one_was_replaced_is_told_by_the_clock_of_this_machine() {
    let (mut inventory, hosts) = after(&["make", "trust", "sign", "drop"]);
    let Stage::Replaced { at, .. } = stage(&inventory, &hosts).unwrap() else {
        panic!("it was replaced");
    };
    let last = on(&mut inventory, &hosts[3].to_string());
    last.skew_ms = 1_000_000;
    let dropped = last.inventory.steps.iter_mut();
    for record in dropped.filter(|record| record.title == "drop old CA") {
        record.ended_at = record.ended_at.map(|at| at + 1000);
    }
    let Stage::Replaced { at: same, .. } = stage(&inventory, &hosts).unwrap() else {
        panic!("it was replaced");
    };
    assert_eq!(same, at);
}

/// A host that became what `other` was when the cluster began: a control plane that joined later, and trusts the new one alone.
fn joined(inventory: &mut ClusterInventory, host: IpAddr, other: IpAddr) {
    let (fresh, _) = running();
    inventory.hosts.insert(host, fresh.hosts[&other].clone());
    on(inventory, &host.to_string()).inventory.cluster_cas.trusted = vec![new()];
}

#[test]
fn that_a_replacement_came_to_its_end_is_known_whichever_control_plane_is_the_first_by_now() {
    let (ended, hosts) = after(&["make", "trust", "sign", "drop"]);
    let mut turned = hosts.clone();
    turned.swap(0, 1);
    let mut first_is_new = ended.clone();
    joined(&mut first_is_new, hosts[0], hosts[1]);
    for (inventory, hosts) in [
        (&ended, &turned),
        (&first_is_new, &hosts),
        (&first_is_new, &turned),
    ] {
        let found = stage(inventory, hosts).unwrap();
        assert!(matches!(found, Stage::Replaced { .. }), "{found:?}");
        assert!(back(inventory, hosts).is_none());
    }
    // When nobody is left who would know, another one is made.
    let mut all_are_new = first_is_new;
    joined(&mut all_are_new, hosts[1], hosts[0]);
    assert_eq!(next(&all_are_new, &hosts).unwrap().0, "make");
    assert!(back(&all_are_new, &hosts).is_none());
}

#[test]
fn what_was_left_of_a_replacement_changes_no_host_and_comes_to_its_end_first() {
    let (start, hosts) = after(&["make", "trust", "sign"]);
    let (_, drop) = next(&start, &hosts).unwrap();
    assert!(changes_hosts(&drop));
    let at = drop
        .waves
        .iter()
        .position(|wave| wave.title == "cluster")
        .unwrap();
    let mut turned = hosts.clone();
    turned.swap(0, 1);
    for hosts in [&hosts, &turned] {
        // Before the cluster was told, and while it was.
        for waves in [at, at + 1] {
            let mut inventory = start.clone();
            let mut begun = drop.clone();
            begun.waves.truncate(waves);
            replace(&begun, &mut inventory, |_, title| {
                (title == "publish CA").then_some(StepOutcome::Unknown)
            });
            let (name, rest) = next(&inventory, hosts).unwrap();
            assert_eq!(name, "drop");
            assert!(to_run(&rest).contains(&"publish CA".to_owned()));
            assert!(!changes_hosts(&rest));
            replace(&rest, &mut inventory, well);
            assert!(matches!(stage(&inventory, hosts), Ok(Stage::Replaced { .. })));
        }
        // While the nodes were waited for.
        let mut inventory = start.clone();
        replace(&drop, &mut inventory, |_, title| {
            (title == "nodes ready").then(|| StepOutcome::Failed("one is not ready".into()))
        });
        let (name, rest) = next(&inventory, hosts).unwrap();
        assert_eq!((name, to_run(&rest)), ("drop", vec!["nodes ready".to_owned()]));
        replace(&rest, &mut inventory, well);
        assert!(matches!(stage(&inventory, hosts), Ok(Stage::Replaced { .. })));
    }
}

/// Or whoever has taken a worker could let every API server believe what he signs.
#[test]
fn what_a_worker_alone_trusts_nobody_else_comes_to_trust() {
    for (stages, not_before) in [
        (&["make"][..], 150),
        (&["make", "trust"], 150),
        (&["make", "trust", "sign"], 150),
        (&["make", "trust", "sign", "drop"], 150),
        (&["make", "trust"], 50),
    ] {
        let (mut inventory, hosts) = after(stages);
        let theirs = ca("theirs", not_before);
        let worker = &mut on(&mut inventory, &hosts[3].to_string()).inventory;
        worker.cluster_cas.trusted.push(theirs.clone());
        while let Some((name, plan)) = next(&inventory, &hosts) {
            for step in plan.steps() {
                if let StepAction::TrustClusterCas { authorities, .. }
                | StepAction::PublishClusterCas { authorities, .. } = &step.step.action
                {
                    assert!(!authorities.contains(&theirs.pem), "{stages:?}: {name}");
                }
            }
            replace(&plan, &mut inventory, well);
        }
        let ended = stage(&inventory, &hosts).unwrap();
        assert!(matches!(ended, Stage::Replaced { .. }), "{ended:?}");
    }
}

#[test]
fn nodes_that_nobody_asks_are_named_before_another_ca_cuts_them_off() {
    let (inventory, hosts) = running();
    let cluster: ClusterName = "demo".parse().unwrap();
    let replacement = Replacement::new(&cluster, &hosts, &hosts[..2], &inventory, NonZeroUsize::MIN).unwrap();
    let node = |name: &str, address: &str| NodeHealth {
        name: name.into(),
        address: address.parse().ok(),
        version: "v1.20.2".into(),
        problem: None,
        cordoned: false,
    };
    let by_name = inventory.report(hosts[3]).unwrap().node();
    // A host may have another address inside the cluster than it is reached by.
    let known = [node("a", &hosts[0].to_string()), node(&by_name, "192.168.7.9")];
    replacement.refuse_unasked(&known).unwrap();
    replacement.refuse_unasked(&[]).unwrap();
    let unknown = [&known[..], &[node("left-out", "10.0.0.77"), node("odd", "")]].concat();
    let error = replacement.refuse_unasked(&unknown).unwrap_err();
    assert!(
        error.to_string().ends_with("left-out (10.0.0.77), odd"),
        "{error}"
    );
    assert_eq!(
        error.downcast_ref::<Failure>().unwrap().code(),
        ExitCode::Preflight
    );
}

#[test]
fn a_clusterfile_that_leaves_members_out_cuts_none_of_them_off() {
    let (clusterfile, image) = kubernetes(1, 2, "");
    let inventory = fresh(&clusterfile);
    let dir = tempfile::tempdir().unwrap();
    let state = State::new(&dir.path().join("root"));
    let applied = plan(&clusterfile, &image, &inventory);
    state.cluster(&clusterfile.name).save(None, &applied).unwrap();
    let less = "apiVersion: sealer.io/v2\nkind: Cluster\nmetadata: { name: demo }\nspec:\n  image: kubernetes:v1.20.2\n  \
                hosts: [ { ips: [ 10.0.0.2, 10.0.0.4 ], roles: [ master ] } ]\n";
    let file = dir.path().join("Clusterfile");
    std::fs::write(&file, less).unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_gantry"))
        .args([
            "certs",
            "rotate-cluster-ca",
            "-y",
            "--connect-timeout",
            "1s",
            "-f",
        ])
        .arg(&file)
        .env("GANTRY_ROOT", dir.path().join("root"))
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(
        said.contains("10.0.0.3 is not in the Clusterfile, and was in cluster demo"),
        "{said}"
    );
    assert!(!said.contains("10.0.0.4 is not"), "{said}");
}
