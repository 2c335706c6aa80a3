//! Plans that take a cluster to another version of Kubernetes, as text. See `plans.rs`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod planning;

use std::num::NonZeroUsize;

use gantry::clusterfile::Clusterfile;
use gantry::inventory::ClusterInventory;
use gantry::plan::planner::Back;
use gantry::plan::{Leaving, Plan, PlanImage, PlannedStep, Wave, check, planner, render, reset};
use gantry_model::{
    CertificateKeeper, CertificateRecord, Digest, KeptSnapshot, KubeadmAct, StepAction, StepOutcome,
};

use planning::*;

/// A cluster that runs, and the image it is to run next.
fn running(masters: u8, nodes: u8, next: &str) -> (Clusterfile, ClusterInventory, PlanImage) {
    let (clusterfile, image) = kubernetes(masters, nodes, "");
    let mut inventory = fresh(&clusterfile);
    execute(&plan(&clusterfile, &image, &inventory), &mut inventory, well);
    assert_eq!(plan(&clusterfile, &image, &inventory).to_do(), 0);
    (clusterfile, inventory, of_version(image, next))
}

fn of_version(image: PlanImage, version: &str) -> PlanImage {
    let kubernetes = image.kubernetes.map(|mut kubernetes| {
        version.clone_into(&mut kubernetes.version);
        kubernetes
    });
    let base = second_image();
    PlanImage { kubernetes, ..base }
}

fn with_unavailable(
    clusterfile: &Clusterfile,
    image: &PlanImage,
    inventory: &ClusterInventory,
    max: usize,
) -> Plan {
    let max = NonZeroUsize::new(max).unwrap();
    let plan = planner::plan(clusterfile, image, inventory, &[], max).unwrap();
    check::check(&plan).unwrap();
    plan
}

/// Executes `plan` as far as the first step with this title on this host, which fails.
fn execute_until(plan: &Plan, inventory: &mut ClusterInventory, host: &str, title: &str) {
    let mut begun = plan.clone();
    let last = begun.waves.iter().position(|wave| {
        let mut steps = wave.steps.iter().filter(|step| step.is_to_do());
        steps.any(|step| step.host.to_string() == host && step.title == title)
    });
    begun.waves.truncate(last.unwrap() + 1);
    execute(&begun, inventory, |at, what| {
        (at == host && what == title).then(|| StepOutcome::Failed("it did not work".into()))
    });
}

#[test]
fn control_planes_are_upgraded_one_at_a_time_and_workers_some_at_a_time() {
    let (clusterfile, mut inventory, next) = running(3, 3, "v1.20.3");
    let upgrade = with_unavailable(&clusterfile, &next, &inventory, 2);
    expect("kubernetes-upgrade", &render::render(&upgrade));
    let firsts = upgrade.steps().filter(|step| {
        let StepAction::Kubeadm(spec) = &step.step.action else {
            return false;
        };
        spec.act == KubeadmAct::Upgrade { first: true }
    });
    assert_eq!(firsts.count(), 1, "one host takes the cluster with it");
    execute(&upgrade, &mut inventory, well);
    assert_eq!(plan(&clusterfile, &next, &inventory).to_do(), 0);
}

#[test]
fn one_host_alone_has_nowhere_to_move_its_pods() {
    let (clusterfile, mut inventory, next) = running(1, 0, "v1.21.0");
    let upgrade = plan(&clusterfile, &next, &inventory);
    expect("kubernetes-upgrade-one-host", &render::render(&upgrade));
    execute(&upgrade, &mut inventory, well);
    assert_eq!(plan(&clusterfile, &next, &inventory).to_do(), 0);
}

#[test]
fn an_upgrade_that_stopped_goes_on_where_it_stopped() {
    let (clusterfile, start, next) = running(3, 2, "v1.20.3");
    goes_on_wherever_it_stopped(&clusterfile, &next, &start);
}

#[test]
fn members_whose_scripts_run_again_are_taken_one_after_the_other() {
    let (clusterfile, start, rebuilt) = running(3, 2, "v1.20.2");
    let again = plan(&clusterfile, &rebuilt, &start);
    expect("kubernetes-scripts-again", &render::render(&again));
    goes_on_wherever_it_stopped(&clusterfile, &rebuilt, &start);
    // What is changed once more is another time.
    let mut inventory = start;
    execute(&again, &mut inventory, well);
    let mut changed = clusterfile.clone();
    changed.env.insert("Pool".into(), "three".into());
    let moved = |plan: &Plan| {
        let mut steps = plan.steps().filter(|step| step.is_to_do());
        steps.any(|step| step.title == "drain host-10.0.0.5")
    };
    let plan_again = plan(&changed, &rebuilt, &inventory);
    assert!(moved(&plan_again), "{}", render::render(&plan_again));
    goes_on_wherever_it_stopped(&changed, &rebuilt, &inventory);
}

/// Stops the plan at each of its steps and makes it anew.
fn goes_on_wherever_it_stopped(clusterfile: &Clusterfile, next: &PlanImage, start: &ClusterInventory) {
    let whole = plan(clusterfile, next, start);
    for (at, wave) in whole.waves.iter().enumerate() {
        for step in wave.steps.iter().filter(|step| step.is_to_do()) {
            let mut inventory = start.clone();
            execute_until(&whole, &mut inventory, &step.host.to_string(), &step.title);
            let rest = plan(clusterfile, next, &inventory);
            let again = |step: &PlannedStep| {
                let mut steps = rest.steps().filter(|step| step.is_to_do());
                steps.any(|other| (other.host, &other.title) == (step.host, &step.title))
            };
            assert!(again(step), "{} on {} is tried again", step.title, step.host);
            let later = whole.waves[at + 1..].iter().flat_map(|wave| &wave.steps);
            for left in later.filter(|step| step.is_to_do()) {
                assert!(again(left), "{} fails: {} is left to do", step.title, left.title);
            }
            execute(&rest, &mut inventory, well);
            assert_eq!(
                plan(clusterfile, next, &inventory).to_do(),
                0,
                "after {}",
                step.title
            );
        }
    }
}

#[test]
fn a_host_that_joins_during_an_upgrade_joins_after_it() {
    let (_, inventory, next) = running(1, 1, "v1.20.3");
    let (larger, _) = kubernetes(1, 2, "");
    let mut both = fresh(&larger);
    both.hosts.extend(inventory.hosts);
    let upgrade = plan(&larger, &next, &both);
    expect("kubernetes-upgrade-and-join", &render::render(&upgrade));
    execute(&upgrade, &mut both, well);
    assert_eq!(plan(&larger, &next, &both).to_do(), 0);
}

/// The cluster after an upgrade before which etcd was kept on its first control plane, and its image before.
fn upgraded(masters: u8, nodes: u8) -> (Clusterfile, ClusterInventory, PlanImage) {
    let (clusterfile, before) = kubernetes(masters, nodes, "");
    let (_, mut inventory, next) = running(masters, nodes, "v1.20.3");
    execute(&plan(&clusterfile, &next, &inventory), &mut inventory, well);
    for host in &clusterfile.hosts[..masters.into()] {
        let host = on(&mut inventory, &host.address.to_string());
        host.inventory.certificates.push(CertificateRecord {
            file: "/etc/kubernetes/pki/apiserver.crt".into(),
            subject: "kube-apiserver".into(),
            not_after: 1 << 40,
            keeper: CertificateKeeper::Kubeadm,
        });
    }
    let first = on(&mut inventory, "10.0.0.2");
    let kept = first
        .inventory
        .steps
        .iter()
        .find(|record| record.title == "etcd snapshot");
    let kept = KeptSnapshot {
        cluster: clusterfile.name.clone(),
        before: "v1.20.3".into(),
        at: kept.unwrap().started_at,
        len: 4 << 20,
    };
    first.inventory.etcd_snapshots.push(kept);
    (clusterfile, inventory, before)
}

fn back_to(clusterfile: &Clusterfile, image: &PlanImage, inventory: &ClusterInventory, kept: &str) -> Plan {
    let back = Back {
        kept: Some(kept.to_owned()).filter(|kept| !kept.is_empty()),
    };
    let plan = planner::roll_back(clusterfile, image, inventory, &[], NonZeroUsize::MIN, &back).unwrap();
    check::check(&plan).unwrap();
    plan
}

#[test]
fn a_cluster_goes_back_as_it_came_and_its_etcd_before_it() {
    let (clusterfile, mut inventory, before) = upgraded(1, 1);
    let back = back_to(&clusterfile, &before, &inventory, "v1.20.3");
    expect("kubernetes-rollback", &render::render(&back));
    execute(&back, &mut inventory, well);
    // It made room for newer ones meanwhile.
    on(&mut inventory, "10.0.0.2").inventory.etcd_snapshots.clear();
    assert_eq!(back_to(&clusterfile, &before, &inventory, "v1.20.3").to_do(), 0);
    assert_eq!(plan(&clusterfile, &before, &inventory).to_do(), 0);
}

#[test]
fn a_rollback_that_stopped_goes_on_and_restores_once() {
    let (clusterfile, start, before) = upgraded(3, 1);
    let whole = back_to(&clusterfile, &before, &start, "v1.20.3");
    for wave in &whole.waves {
        for failing in wave.steps.iter().filter(|step| step.is_to_do()) {
            let mut inventory = start.clone();
            execute_until(&whole, &mut inventory, &failing.host.to_string(), &failing.title);
            let rest = back_to(&clusterfile, &before, &inventory, "v1.20.3");
            let mut again = rest.steps().filter(|step| step.is_to_do());
            assert!(
                again.any(|step| (step.host, &step.title) == (failing.host, &failing.title)),
                "{} is tried again",
                failing.title
            );
            let restored = |plan: &Plan| {
                let mut steps = plan.steps().filter(|step| step.is_to_do());
                steps.any(|step| step.title.starts_with("restore etcd"))
            };
            let at = whole.waves.iter().position(|other| other == wave).unwrap();
            let is_restore = |wave: &Wave| wave.title == "restore";
            let over = whole.waves[..at].iter().any(is_restore);
            assert_eq!(restored(&rest), !over, "after {} failed", failing.title);
            execute(&rest, &mut inventory, well);
            let left = back_to(&clusterfile, &before, &inventory, "v1.20.3");
            assert_eq!(left.to_do(), 0, "after {}: {left:?}", failing.title);
        }
    }
}

/// Whether `plan` keeps what etcd holds now.
fn takes_a_snapshot(plan: &Plan) -> bool {
    to_run(plan).contains(&"etcd snapshot".to_owned())
}

/// A worker that has another history than the others is what is left to upgrade.
#[test]
fn what_etcd_held_before_an_upgrade_is_kept_once_whoever_is_left_to_upgrade() {
    let (clusterfile, before) = kubernetes(1, 1, "");
    let (_, mut inventory, next) = running(1, 1, "v1.20.3");
    let first = plan(&clusterfile, &next, &inventory);
    assert!(takes_a_snapshot(&first));
    execute(&first, &mut inventory, well);
    execute(
        &back_to(&clusterfile, &before, &inventory, ""),
        &mut inventory,
        well,
    );
    let (larger, _) = kubernetes(1, 2, "");
    let mut all = fresh(&larger);
    all.hosts.extend(inventory.hosts);
    execute(&plan(&larger, &before, &all), &mut all, well);
    // Another time: what was kept before the first one is old by now.
    let again = plan(&larger, &next, &all);
    assert!(takes_a_snapshot(&again), "{}", render::render(&again));
    for title in ["drain host-10.0.0.3", "drain host-10.0.0.4"] {
        let mut inventory = all.clone();
        execute_until(&again, &mut inventory, "10.0.0.2", title);
        let rest = plan(&larger, &next, &inventory);
        assert!(
            rest.to_do() > 0 && !takes_a_snapshot(&rest),
            "{}",
            render::render(&rest)
        );
        // An image that is built again meanwhile brings the same version.
        let mut rebuilt = next.clone();
        rebuilt.digest = Digest::of(b"rebuilt");
        let rest = plan(&larger, &rebuilt, &inventory);
        assert!(
            rest.to_do() > 0 && !takes_a_snapshot(&rest),
            "{}",
            render::render(&rest)
        );
        execute(&rest, &mut inventory, well);
        assert_eq!(plan(&larger, &rebuilt, &inventory).to_do(), 0);
    }
}

#[test]
fn etcd_is_not_kept_again_once_a_control_plane_may_have_changed_it() {
    let (clusterfile, start, mut next) = running(3, 1, "v1.20.3");
    let upgrade = plan(&clusterfile, &next, &start);
    next.digest = Digest::of(b"rebuilt");
    let ended_in = |outcome: &StepOutcome| {
        let mut inventory = start.clone();
        let mut begun = upgrade.clone();
        let at = begun.waves.iter().position(|wave| wave.title == "upgrade");
        begun.waves.truncate(at.unwrap() + 1);
        execute(&begun, &mut inventory, |_, title| {
            (title == "kubeadm upgrade").then(|| outcome.clone())
        });
        takes_a_snapshot(&plan(&clusterfile, &next, &inventory))
    };
    assert!(ended_in(&StepOutcome::Failed("it was not begun".into())));
    assert!(!ended_in(&StepOutcome::Unknown));
}

#[test]
fn a_control_plane_that_leaves_says_which_snapshots_go_with_it() {
    let (clusterfile, inventory, _) = upgraded(3, 0);
    let (_, _, image) = running(3, 0, "v1.20.3");
    let applied = plan(&clusterfile, &image, &inventory);
    let mut smaller = clusterfile.clone();
    smaller.hosts.remove(0);
    let leaving = Leaving {
        host: applied.hosts[0].clone(),
        given_up: false,
    };
    let leaves = planner::plan(&smaller, &image, &inventory, &[leaving], NonZeroUsize::MIN).unwrap();
    let text = render::render(&leaves);
    assert!(
        text.contains("etcd's snapshots from before v1.20.3 go, too") && text.contains("`gantry backup`"),
        "{text}"
    );
    let rootfs: Vec<&str> = leaves
        .steps()
        .filter(|step| step.title == "remove rootfs")
        .map(|step| step.reason.as_str())
        .collect();
    assert!(
        matches!(rootfs[..], [one] if one.starts_with("generations: 2; etcd's")),
        "{rootfs:?}"
    );
}

#[test]
fn an_upgrade_that_kubernetes_does_not_bear_is_refused() {
    for (next, why) in [
        ("v1.20.1", "apply takes no control plane back"),
        ("v1.19.8", "no control plane goes back to another minor version"),
        ("v1.22.0", "no minor version is left out"),
        ("newest", "one of them is no version of Kubernetes"),
    ] {
        let (clusterfile, inventory, next) = running(1, 1, next);
        let refused = planner::plan(&clusterfile, &next, &inventory, &[], NonZeroUsize::MIN).unwrap_err();
        let text = format!("{refused:#}");
        assert!(
            text.contains("10.0.0.2 runs Kubernetes v1.20.2") && text.contains(why),
            "{text}"
        );
    }
}

#[test]
fn a_rebuilt_image_of_the_same_version_is_no_upgrade() {
    let (clusterfile, inventory, next) = running(1, 1, "v1.20.2");
    let rebuilt = plan(&clusterfile, &next, &inventory);
    assert!(rebuilt.to_do() > 0);
    assert!(
        to_run(&rebuilt)
            .iter()
            .all(|title| !title.contains("kubeadm") && !title.contains("snapshot"))
    );
}

#[test]
fn checks_that_the_documents_ignore_are_ignored_when_upgrading_too() {
    let document =
        "---\nkind: JoinConfiguration\nnodeRegistration: { ignorePreflightErrors: [ SystemVerification ] }\n";
    let (clusterfile, image) = kubernetes(1, 1, document);
    let mut inventory = fresh(&clusterfile);
    execute(&plan(&clusterfile, &image, &inventory), &mut inventory, well);
    let upgrade = plan(&clusterfile, &of_version(image, "v1.20.3"), &inventory);
    let upgrades: Vec<_> = upgrade
        .steps()
        .filter_map(|step| match &step.step.action {
            StepAction::Kubeadm(spec) if spec.kubernetes == "v1.20.3" && step.title == "kubeadm upgrade" => {
                Some(&spec.ignored_checks)
            }
            _ => None,
        })
        .collect();
    assert_eq!(upgrades.len(), 2);
    assert!(
        upgrades
            .iter()
            .all(|checks| checks.contains(&"SystemVerification".to_owned()))
    );
}

/// The member is only away meanwhile, and those that come back are counted on.
#[test]
fn etcd_is_asked_whether_it_bears_that_a_control_plane_stops_not_that_it_leaves() {
    let (clusterfile, inventory, next) = running(3, 0, "v1.20.3");
    let upgrade = with_unavailable(&clusterfile, &next, &inventory, 1);
    let asked = upgrade
        .steps()
        .filter(|step| step.title.starts_with("etcd quorum without"));
    let asked: Vec<&StepAction> = asked.map(|step| &step.step.action).collect();
    assert_eq!(asked.len(), 3);
    for action in asked {
        assert!(
            matches!(action, StepAction::CheckQuorumMeanwhile { .. }),
            "{action:?}"
        );
    }
}

#[test]
fn a_cluster_is_known_after_more_upgrades_than_its_control_plane_has_room_for() {
    const ROOM: usize = 200;
    let (clusterfile, mut inventory, next) = running(1, 30, "v1.20.3");
    let mut image = next;
    for version in ["v1.20.3", "v1.20.4", "v1.20.5", "v1.20.6", "v1.20.7"] {
        image.kubernetes.as_mut().unwrap().version = version.into();
        image.digest = Digest::of(version.as_bytes());
        let upgrade = plan(&clusterfile, &image, &inventory);
        let drained = to_run(&upgrade)
            .iter()
            .filter(|title| title.starts_with("drain"))
            .count();
        assert_eq!(drained, 31, "{version}");
        execute(&upgrade, &mut inventory, well);
        forget_what_is_needed_least(&mut inventory, ROOM);
        assert_eq!(plan(&clusterfile, &image, &inventory).to_do(), 0, "{version}");
    }
    assert_eq!(on(&mut inventory, "10.0.0.2").inventory.steps.len(), ROOM);
    let (larger, _) = kubernetes(1, 31, "");
    let mut all = fresh(&larger);
    all.hosts.extend(inventory.hosts.clone());
    let joins = to_run(&plan(&larger, &image, &all));
    assert!(
        joins.contains(&"kubeadm join".to_owned()) && !joins.contains(&"kubeadm init".to_owned()),
        "{joins:?}"
    );
    let reset = reset::plan(&clusterfile, &[], &inventory, |_| None);
    let resets = reset.steps().filter(|step| step.title == "kubeadm reset");
    assert_eq!(resets.count(), clusterfile.hosts.len());
}
