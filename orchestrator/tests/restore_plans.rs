//! Plans that put etcd back to a snapshot, as text. See `plans.rs`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod planning;

use std::net::IpAddr;

use gantry::clusterfile::Clusterfile;
use gantry::exit::Failure;
use gantry::inventory::{ClusterInventory, HostState};
use gantry::plan::restore::Restore;
use gantry::plan::{Plan, PlannedStep, check, render};
use gantry_model::{
    CertificateKeeper, CertificateRecord, ClusterCa, Digest, ExitCode, KeptSnapshot, SnapshotName,
    StepAction, StepOutcome,
};

use planning::*;

/// A cluster that runs, with its hosts.
fn running(masters: u8, nodes: u8) -> (ClusterInventory, Vec<IpAddr>) {
    let (clusterfile, image) = kubernetes(masters, nodes, "");
    let mut inventory = fresh(&clusterfile);
    execute(&plan(&clusterfile, &image, &inventory), &mut inventory, well);
    let hosts: Vec<IpAddr> = clusterfile.hosts.iter().map(|host| host.address).collect();
    for host in &hosts[..masters.into()] {
        let found = &mut on(&mut inventory, &host.to_string()).inventory;
        found.cluster_cas.trusted = vec![ClusterCa {
            pem: "a CA\n".into(),
            fingerprint: Digest::of(b"a CA"),
            not_before: 0,
            not_after: 1 << 40,
        }];
        found.certificates.push(CertificateRecord {
            file: "/etc/kubernetes/pki/apiserver.crt".into(),
            subject: "kube-apiserver".into(),
            not_after: 1 << 40,
            keeper: CertificateKeeper::Kubeadm,
        });
    }
    (inventory, hosts)
}

fn restore(inventory: &ClusterInventory, hosts: &[IpAddr], snapshot: SnapshotName) -> anyhow::Result<Plan> {
    let masters: Vec<IpAddr> = hosts.iter().copied().take(3).collect();
    let plan = Restore::new(&"demo".parse().unwrap(), hosts, &masters, inventory, snapshot)?.plan(inventory);
    check::check(&plan).unwrap();
    Ok(plan)
}

fn given() -> SnapshotName {
    SnapshotName::Given(Digest::of(b"a database"))
}

#[test]
fn every_api_server_stops_before_one_control_plane_restores() {
    let (inventory, hosts) = running(3, 1);
    let plan = restore(&inventory, &hosts, given()).unwrap();
    expect("restore", &render::render(&plan));
}

#[test]
fn a_restore_that_stopped_goes_on_and_one_that_ended_is_done_anew_next_time() {
    let (start, hosts) = running(3, 1);
    let whole = restore(&start, &hosts, given()).unwrap();
    let ids = |plan: &Plan| plan.steps().map(|step| step.id).collect::<Vec<_>>();
    for wave in &whole.waves {
        for failing in &wave.steps {
            let mut inventory = start.clone();
            let mut begun = whole.clone();
            let at = begun.waves.iter().position(|other| other == wave).unwrap();
            begun.waves.truncate(at + 1);
            execute(&begun, &mut inventory, |host, title| {
                (host == failing.host.to_string() && title == failing.title)
                    .then(|| StepOutcome::Failed("it did not work".into()))
            });
            let rest = restore(&inventory, &hosts, given()).unwrap();
            let to_do: Vec<_> = rest
                .steps()
                .filter(|step| step.is_to_do())
                .map(|step| (step.host, step.title.clone()))
                .collect();
            let place = (failing.host, failing.title.clone());
            assert!(to_do.contains(&place), "{} is tried again", failing.title);
            let same = ids(&rest).iter().all(|id| ids(&whole).contains(id));
            // Until etcd is changed, what it holds is kept anew: it may be something else by now.
            let begun = at
                >= whole
                    .waves
                    .iter()
                    .position(|wave| wave.title == "restore")
                    .unwrap();
            let kept = whole.waves[..at].iter().any(|wave| wave.title == "etcd snapshot");
            assert_eq!(same, begun || !kept, "after {} failed", failing.title);
        }
    }
    let mut inventory = start;
    execute(&whole, &mut inventory, well);
    let again = restore(&inventory, &hosts, given()).unwrap();
    assert!(
        again
            .steps()
            .all(|step| step.is_to_do() && !ids(&whole).contains(&step.id))
    );
}

/// A snapshot may be from before the cluster's CA was replaced, however long ago that was.
#[test]
fn what_a_restored_cluster_says_of_its_cas_becomes_what_its_hosts_trust() {
    let (mut inventory, hosts) = running(3, 1);
    let told = |plan: &Plan| {
        let last = plan.waves.last().unwrap().steps.last().unwrap();
        match &last.step.action {
            StepAction::PublishClusterCas { authorities, .. } => (last.host, last.id, authorities.clone()),
            other => panic!("{other:?}"),
        }
    };
    let first = restore(&inventory, &hosts, given()).unwrap();
    let (host, id, authorities) = told(&first);
    assert_eq!((host, authorities), (hosts[0], vec!["a CA\n".to_owned()]));
    execute(&first, &mut inventory, well);
    let again = restore(&inventory, &hosts, given()).unwrap();
    assert_ne!(told(&again).1, id, "another restore brings back other words");
}

/// The command was killed between two steps.
#[test]
fn a_restore_that_was_cut_off_before_it_told_the_cluster_its_cas_only_has_that_to_do() {
    let (start, hosts) = running(3, 1);
    let whole = restore(&start, &hosts, given()).unwrap();
    let at = whole
        .waves
        .iter()
        .position(|wave| wave.title == "cluster")
        .unwrap();
    let mut inventory = start;
    let mut begun = whole.clone();
    begun.waves.truncate(at);
    execute(&begun, &mut inventory, well);
    let rest = |inventory: &ClusterInventory| {
        let plan = restore(inventory, &hosts, given()).unwrap();
        let mut titles = to_run(&plan);
        titles.retain(|title| title != "start API server");
        (plan, titles)
    };
    assert_eq!(rest(&inventory).1, ["publish CA"]);
    // A CA may take the place of another meanwhile.
    for host in &hosts[..3] {
        let found = &mut on(&mut inventory, &host.to_string()).inventory.cluster_cas;
        found.trusted[0].pem = "another CA\n".into();
    }
    let (plan, titles) = rest(&inventory);
    assert_eq!(titles, ["publish CA"]);
    execute(&plan, &mut inventory, well);
    let again = restore(&inventory, &hosts, given()).unwrap();
    assert!(again.steps().all(PlannedStep::is_to_do), "it came to its end");
    // And yet another one since: what was told then is no part of it any more.
    for host in &hosts[..3] {
        let found = &mut on(&mut inventory, &host.to_string()).inventory.cluster_cas;
        found.trusted[0].pem = "a third CA\n".into();
    }
    let again = restore(&inventory, &hosts, given()).unwrap();
    assert!(again.steps().all(PlannedStep::is_to_do), "it came to its end");
}

fn other() -> SnapshotName {
    SnapshotName::Given(Digest::of(b"another database"))
}

/// API servers run by then: what comes after is another time, and what etcd holds by then is kept.
#[test]
fn a_restore_that_did_not_tell_the_cluster_its_cas_keeps_no_other_from_beginning_anew() {
    let (mut inventory, hosts) = running(3, 1);
    let untold = |_: &str, title: &str| {
        let failed = || StepOutcome::Failed("a pod does not come again".into());
        (title == "publish CA").then(failed)
    };
    let first = restore(&inventory, &hosts, given()).unwrap();
    execute(&first, &mut inventory, untold);
    // The same one only has that to do.
    let same = restore(&inventory, &hosts, given()).unwrap();
    let titles = |plan: &Plan| {
        to_run(plan)
            .into_iter()
            .filter(|title| title != "start API server")
            .collect::<Vec<_>>()
    };
    assert_eq!(titles(&same), ["publish CA"]);

    let mut before = first;
    for snapshot in [other(), given(), other()] {
        let plan = restore(&inventory, &hosts, snapshot.clone()).unwrap();
        assert!(
            plan.steps()
                .all(|step| step.is_to_do() && before.steps().all(|other| other.id != step.id)),
            "{snapshot}"
        );
        execute(&plan, &mut inventory, untold);
        before = plan;
    }
    let last = restore(&inventory, &hosts, other()).unwrap();
    execute(&last, &mut inventory, well);
    let again = restore(&inventory, &hosts, other()).unwrap();
    assert!(again.steps().all(PlannedStep::is_to_do), "it came to its end");
}

/// Each of them was cut off when etcd held what it restored: the journal has the first as done, and etcd holds something else.
#[test]
fn a_snapshot_that_was_restored_before_another_one_is_restored_again() {
    let (mut inventory, hosts) = running(3, 1);
    for snapshot in [given(), other(), given(), other()] {
        let mut plan = restore(&inventory, &hosts, snapshot).unwrap();
        let restores = |step: &&PlannedStep| step.title.starts_with("restore etcd");
        assert!(plan.steps().find(restores).unwrap().is_to_do());
        let at = plan
            .waves
            .iter()
            .position(|wave| wave.title == "restore")
            .unwrap();
        plan.waves.truncate(at + 1);
        execute(&plan, &mut inventory, well);
    }
    let on = restore(&inventory, &hosts, other()).unwrap();
    let restores = |step: &&PlannedStep| step.title.starts_with("restore etcd");
    assert!(!on.steps().find(restores).unwrap().is_to_do(), "it goes on");
}

#[test]
fn nodes_are_marked_again_after_a_restore_and_once() {
    let (_, image) = kubernetes(3, 1, "");
    let text = "apiVersion: sealer.io/v2\nkind: Cluster\nmetadata: { name: demo }\nspec:\n  image: kubernetes:v1.20.2\n  \
                env: [ PodCIDR=100.64.0.0/10, SvcCIDR=10.96.0.0/22, \"CertSANs=api.example.test\" ]\n  hosts:\n    \
                - { ips: [ 10.0.0.2, 10.0.0.3, 10.0.0.4 ], roles: [ master ] }\n    \
                - { ips: [ 10.0.0.5 ], roles: [ node ], labels: { disk: ssd } }\n";
    let clusterfile = Clusterfile::parse("Clusterfile", text).unwrap().0;
    let (mut inventory, hosts) = running(3, 1);
    execute(&plan(&clusterfile, &image, &inventory), &mut inventory, well);
    assert_eq!(plan(&clusterfile, &image, &inventory).to_do(), 0);

    // Whatever became of it: etcd may hold something else.
    for fails in [true, false] {
        let restored = restore(&inventory, &hosts, given()).unwrap();
        execute(&restored, &mut inventory, |_, title| {
            let failed = fails && title.starts_with("restore etcd");
            failed.then_some(StepOutcome::Unknown)
        });
        let again = plan(&clusterfile, &image, &inventory);
        if fails {
            assert!(to_run(&again).contains(&"labels and taints".to_owned()));
            continue;
        }
        assert_eq!(to_run(&again), ["labels and taints"]);
        let step = again.steps().find(|step| step.is_to_do()).unwrap();
        assert_eq!(step.reason, "etcd was restored since");
        execute(&again, &mut inventory, well);
        assert_eq!(plan(&clusterfile, &image, &inventory).to_do(), 0);
    }
    // What was never marked is not marked now.
    let (clusterfile, _) = kubernetes(3, 1, "");
    let (mut inventory, hosts) = running(3, 1);
    let restored = restore(&inventory, &hosts, given()).unwrap();
    execute(&restored, &mut inventory, well);
    assert_eq!(plan(&clusterfile, &image, &inventory).to_do(), 0);
}

#[test]
fn a_kept_snapshot_is_restored_where_it_is() {
    let (mut inventory, hosts) = running(3, 0);
    let kept = |before: &str| SnapshotName::Before(before.into());
    on(&mut inventory, "10.0.0.3")
        .inventory
        .etcd_snapshots
        .push(KeptSnapshot {
            cluster: "demo".parse().unwrap(),
            before: "v1.20.3".into(),
            at: 0,
            len: 1,
        });
    let cluster = "demo".parse().unwrap();
    let found = Restore::new(&cluster, &hosts, &hosts, &inventory, kept("v1.20.3")).unwrap();
    assert_eq!(found.on().to_string(), "10.0.0.3");
    let absent = restore(&inventory, &hosts, kept("v1.20.4")).unwrap_err();
    assert!(
        absent
            .to_string()
            .contains("keeps a snapshot from before v1.20.4"),
        "{absent}"
    );
    let failure = absent.downcast_ref::<Failure>().unwrap();
    assert!(
        failure.hint().unwrap().contains("kept are: v1.20.3"),
        "{failure:?}"
    );
}

#[test]
fn a_control_plane_that_does_not_answer_stops_it_and_a_worker_does_not() {
    let (mut inventory, hosts) = running(3, 1);
    let away = || HostState::Unreachable("no route to host".into());
    inventory.hosts.insert(hosts[3], away());
    let without = restore(&inventory, &hosts, given()).unwrap();
    assert!(without.steps().all(|step| step.host != hosts[3]));
    inventory.hosts.insert(hosts[1], away());
    let refused = restore(&inventory, &hosts, given()).unwrap_err();
    let failure = refused.downcast_ref::<Failure>().unwrap();
    assert_eq!(failure.code(), ExitCode::Unreachable);
    assert!(
        refused
            .to_string()
            .contains("control plane 10.0.0.3 does not answer"),
        "{refused}"
    );
    let (inventory, hosts) = running(1, 1);
    let nobody = restore(&inventory, &hosts[1..], given()).unwrap_err();
    assert!(
        nobody
            .to_string()
            .contains("no host that answers is a control plane"),
        "{nobody}"
    );
}
