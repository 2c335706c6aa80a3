//! Plans with plugins that run commands and name hosts, as text. See `plans.rs`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod planning;

use std::net::IpAddr;
use std::num::NonZeroUsize;

use gantry::clusterfile::Clusterfile;
use gantry::inventory::{ClusterInventory, HostState};
use gantry::plan::cluster_ca::{Replacement, Stage};
use gantry::plan::preflight;
use gantry::plan::{ImageCommands, Leaving, Plan, PlanImage, PlannedStep, planner, render, reset};
use gantry_model::{
    CertificateKeeper, CertificateRecord, ClusterCa, Digest, ScriptOutcome, StepAction, StepOutcome,
};

use planning::*;

fn plugin(name: &str, action: &str, more: &str, data: &str) -> String {
    format!(
        "---\napiVersion: sealer.io/v1\nkind: Plugin\nmetadata: {{ name: {name} }}\nspec: {{ type: SHELL, action: {action:?}, \
         {more} data: {data:?} }}\n"
    )
}

/// Two masters and two nodes, one of them for databases, with these documents beside.
fn cluster(spec: &str, documents: &str) -> Clusterfile {
    let text = format!(
        "apiVersion: sealer.io/v2\nkind: Cluster\nmetadata: {{ name: demo }}\nspec:\n  image: kubernetes:v1.20.2\n{spec}  \
         hosts:\n    - {{ ips: [ 10.0.0.2, 10.0.0.3 ], roles: [ master ] }}\n    \
         - {{ ips: [ 10.0.0.4 ], roles: [ node ] }}\n    \
         - {{ ips: [ 10.0.0.5 ], roles: [ node, db ], labels: {{ disk: ssd }} }}\n{documents}"
    );
    Clusterfile::parse("Clusterfile", &text).unwrap().0
}

fn image_of_cluster() -> PlanImage {
    let commands = ImageCommands {
        lines: vec!["kubectl apply -f manifests".into()],
        manifest: "{}".into(),
        config: "{}".into(),
        ..ImageCommands::default()
    };
    PlanImage {
        commands: Some(commands),
        ..kubernetes(2, 2, "").1
    }
}

fn allowing(clusterfile: &Clusterfile) -> ClusterInventory {
    let mut inventory = fresh(clusterfile);
    for host in &clusterfile.hosts {
        on(&mut inventory, &host.address.to_string())
            .inventory
            .facts
            .allow_exec = true;
    }
    inventory
}

/// Hosts that a plugin with this choice of hosts runs on.
fn hosts_of(more: &str) -> Vec<String> {
    let clusterfile = cluster("", &plugin("one", "PreInit", more, "true"));
    let plan = plan(&clusterfile, &image_of_cluster(), &allowing(&clusterfile));
    let steps = plan.steps().filter(|step| step.title == "plugin one");
    steps.map(|step| step.host.to_string()).collect()
}

#[test]
fn commands_run_at_their_moments_each_once() {
    let documents = [
        plugin(
            "20-dns",
            "pre-init-host|upgrade-host",
            "",
            "echo nameserver 10.0.0.1 >/etc/resolv.conf\nsync\n",
        ),
        plugin("10-early", "pre-init-host", "scope: master,", "echo early"),
        plugin("prepare", "pre-install", "", "echo prepare"),
        plugin("joined", "post-init-host", "scope: node|db,", "echo joined"),
        plugin("storage", "post-install", "", "kubectl apply -f storage"),
        plugin("old", "PreInit|PreJoin", "on: 10.0.0.4-10.0.0.5,", "echo old"),
        plugin("report", "PostInstall", "on: master0,", "kubectl get pods"),
        plugin("bye", "pre-clean-host|post-clean-host", "", "echo bye"),
    ]
    .concat();
    let clusterfile = cluster("", &documents);
    let image = image_of_cluster();
    let mut inventory = allowing(&clusterfile);
    let first = plan(&clusterfile, &image, &inventory);
    expect("shell-plugins", &render::render(&first));
    execute(&first, &mut inventory, well);
    assert_eq!(plan(&clusterfile, &image, &inventory).to_do(), 0);

    // Only what changed runs again.
    let changed = cluster("", &documents.replace("echo joined", "echo again"));
    assert_eq!(to_run(&plan(&changed, &image, &inventory)), ["plugin joined"]);

    let taken_down = reset::plan(&clusterfile, &[], &inventory, |_| Some(image.clone()));
    expect("shell-plugins-reset", &render::render(&taken_down));
}

#[test]
fn hosts_are_chosen_by_role_address_and_label() {
    let all = ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5"];
    for (more, expected) in [
        ("", &all[..]),
        ("on: '',", &all[..]),
        ("scope: 'master|node',", &all[..]),
        ("on: master,", &all[..2]),
        ("on: node,", &all[2..]),
        ("on: master0,", &all[..1]),
        (
            "on: '10.0.0.2,10.0.0.4-10.0.0.9',",
            &["10.0.0.2", "10.0.0.4", "10.0.0.5"],
        ),
        ("on: disk=ssd,", &all[3..]),
        ("scope: 'db|master0',", &["10.0.0.2", "10.0.0.5"]),
    ] {
        assert_eq!(hosts_of(more), expected, "{more}");
    }
}

#[test]
fn a_failed_command_runs_again_and_nothing_before_it_does() {
    let clusterfile = cluster("", &plugin("dns", "PreInit", "on: master,", "false"));
    let image = image_of_cluster();
    let mut inventory = allowing(&clusterfile);
    let fails = |host: &str, title: &str| {
        let failed = host == "10.0.0.3" && title == "plugin dns";
        failed.then_some(StepOutcome::Script(ScriptOutcome::Exited(1)))
    };
    execute(&plan(&clusterfile, &image, &inventory), &mut inventory, fails);
    let again = plan(&clusterfile, &image, &inventory);
    assert_eq!(to_run(&again), ["plugin dns"]);
    let step = again.steps().find(|step| step.is_to_do()).unwrap();
    assert_eq!(step.reason, "again: exit status 1: false");
}

#[test]
fn commands_of_the_file_stand_for_those_of_the_image() {
    let clusterfile = cluster(
        "  cmd: [ kubectl apply -f ours, helm install web charts/web ]\n",
        "",
    );
    let image = image_of_cluster();
    let mut inventory = allowing(&clusterfile);
    let first = plan(&clusterfile, &image, &inventory);
    assert!(!to_run(&first).contains(&"CMD 1".to_owned()));
    execute(&first, &mut inventory, well);
    let other = cluster(
        "  cmd: [ kubectl apply -f theirs, helm install web charts/web ]\n",
        "",
    );
    let changed = plan(&other, &image, &inventory);
    assert_eq!(
        to_run(&changed),
        ["command 1", "command 2"],
        "the second builds on the first"
    );
    expect("listed-commands", &render::render(&changed));
}

#[test]
fn hosts_that_allow_no_commands_are_named_before_anything_changes() {
    let documents = [
        plugin("dns", "PreInit", "", "true"),
        plugin("disk", "PreInit|PostInstall", "on: node,", "true"),
    ]
    .concat();
    let clusterfile = cluster("", &documents);
    let image = image_of_cluster();
    let mut inventory = fresh(&clusterfile);
    on(&mut inventory, "10.0.0.3").inventory.facts.allow_exec = true;
    let first = plan(&clusterfile, &image, &inventory);
    let findings = preflight::preflight(&first, &image, &inventory, &[]);
    expect("allow-exec", &preflight::render(&findings));
    // What ran while it was allowed is no matter any more.
    execute(&first, &mut inventory, well);
    let again = plan(&clusterfile, &image, &inventory);
    assert_eq!(preflight::preflight(&again, &image, &inventory, &[]), []);
    let taken_down = reset::plan(&clusterfile, &[], &inventory, |_| Some(image.clone()));
    assert_eq!(preflight::allow_exec(&taken_down, &inventory), []);
}

#[test]
fn a_host_that_leaves_runs_what_is_for_its_role() {
    let documents = [
        plugin("masters", "PreClean", "on: master,", "echo m"),
        plugin("nodes", "PreClean", "on: node,", "echo n"),
        plugin("all", "PostClean", "", "echo a"),
    ]
    .concat();
    let before = cluster("", &documents);
    let image = image_of_cluster();
    let mut inventory = allowing(&before);
    let applied = plan(&before, &image, &inventory);
    execute(&applied, &mut inventory, well);
    let mut after = before;
    after.hosts.retain(|host| host.address.to_string() != "10.0.0.5");
    let host = applied
        .hosts
        .iter()
        .find(|host| host.address.to_string() == "10.0.0.5");
    let leaving = Leaving {
        host: host.unwrap().clone(),
        given_up: false,
    };
    let plan = planner::plan(&after, &image, &inventory, &[leaving], NonZeroUsize::MIN).unwrap();
    let ran: Vec<String> = plan
        .steps()
        .filter(|step| step.is_to_do() && matches!(step.step.action, StepAction::RunShellCommand(_)))
        .map(|step| format!("{} {}", step.host, step.title))
        .collect();
    assert_eq!(ran, ["10.0.0.5 plugin nodes", "10.0.0.5 plugin all"]);
}

fn names(lines: &str) -> String {
    format!(
        "---\napiVersion: sealer.aliyun.com/v1alpha1\nkind: Plugin\nmetadata: {{ name: names }}\nspec: {{ type: HOSTNAME, \
         action: PreInit, data: {lines:?} }}\n"
    )
}

#[test]
fn hosts_get_their_names_before_scripts_and_their_nodes_have_them() {
    let clusterfile = cluster("", &names("10.0.0.2 api-1\n10.0.0.5 db-1\n"));
    let image = image_of_cluster();
    let mut inventory = fresh(&clusterfile);
    // It is called so already: nothing is set, and nothing given back.
    on(&mut inventory, "10.0.0.2").inventory.facts.hostname = "api-1".into();
    let first = plan(&clusterfile, &image, &inventory);
    expect("hostnames", &render::render(&first));
    let marked = first.steps().find_map(|step| match &step.step.action {
        StepAction::MarkNodes { groups, .. } => Some(groups.clone()),
        _ => None,
    });
    assert_eq!(marked.unwrap()[0].nodes, ["db-1"]);
    assert_eq!(preflight::preflight(&first, &image, &inventory, &[]), []);
    execute(&first, &mut inventory, well);
    on(&mut inventory, "10.0.0.5").inventory.facts.hostname = "db-1".into();
    assert_eq!(plan(&clusterfile, &image, &inventory).to_do(), 0);

    let taken_down = reset::plan(&clusterfile, &[], &inventory, |_| Some(image.clone()));
    let given_back = taken_down.steps().filter(|step| step.title == "restore hostname");
    let given_back: Vec<String> = given_back.map(|step| step.host.to_string()).collect();
    assert_eq!(given_back, ["10.0.0.5"]);

    let renamed = cluster("", &names("10.0.0.5 db-2\n"));
    let refused = planner::plan(&renamed, &image, &inventory, &[], NonZeroUsize::MIN).unwrap_err();
    assert!(refused.to_string().contains("10.0.0.5 is node db-1"), "{refused}");
}

#[test]
fn a_name_that_another_host_has_is_found_before_anything_changes() {
    let clusterfile = cluster("", &names("10.0.0.5 host-10.0.0.3\n"));
    let image = image_of_cluster();
    let inventory = fresh(&clusterfile);
    let findings = preflight::preflight(&plan(&clusterfile, &image, &inventory), &image, &inventory, &[]);
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(
        findings[0].message.contains("\"host-10.0.0.3\" of 10.0.0.3"),
        "{findings:?}"
    );
}

/// A master and this many nodes, with plugins for when there are more of them.
fn growing(nodes: u8) -> Clusterfile {
    let documents = [
        plugin("room", "pre-scaleup", "", "echo make room"),
        plugin("tell", "post-scaleup", "scope: node,", "echo they are here"),
        plugin("both", "pre-scaleup|post-scaleup", "", "echo twice"),
        plugin("joined", "post-init-host", "", "echo joined"),
    ]
    .concat();
    kubernetes(1, nodes, &documents).0
}

/// The inventory with the hosts of `clusterfile` that it lacks, as they come.
fn with_new_hosts(clusterfile: &Clusterfile, inventory: &ClusterInventory) -> ClusterInventory {
    let mut more = allowing(clusterfile);
    more.hosts.extend(inventory.hosts.clone());
    more
}

/// Titles of the plugins to run, and where.
fn plugins_of(plan: &Plan) -> Vec<String> {
    let steps = plan.steps().filter(|step| step.is_to_do());
    let plugins = steps.filter(|step| step.title.starts_with("plugin "));
    plugins
        .map(|step| format!("{} {}", step.title, step.host))
        .collect()
}

#[test]
fn what_is_for_scaling_up_runs_once_when_hosts_are_added_to_a_complete_cluster() {
    let image = image_of_cluster();
    let one = growing(1);
    let mut inventory = allowing(&one);
    let created = plan(&one, &image, &inventory);
    assert_eq!(
        plugins_of(&created),
        ["plugin joined 10.0.0.2", "plugin joined 10.0.0.3"],
        "the first hosts are not added to anything"
    );
    execute(&created, &mut inventory, well);

    let three = growing(3);
    let mut inventory = with_new_hosts(&three, &inventory);
    let grown = plan(&three, &image, &inventory);
    expect("scale-up", &render::render(&grown));
    let ids = |plan: &Plan| -> Vec<_> {
        let steps = plan.steps().filter(|step| step.title == "plugin tell");
        steps.map(|step| step.id).collect()
    };
    let whole = ids(&grown);
    assert_eq!(whole.len(), 1);
    execute(&grown, &mut inventory, well);
    assert_eq!(plan(&three, &image, &inventory).to_do(), 0);

    // Others that are added later, and fewer, are another time.
    let four = growing(4);
    let mut inventory = with_new_hosts(&four, &inventory);
    let grown = plan(&four, &image, &inventory);
    assert_ne!(ids(&grown), whole);
    assert_eq!(plugins_of(&grown).len(), 5, "{:?}", plugins_of(&grown));
    execute(&grown, &mut inventory, well);
    assert_eq!(plan(&four, &image, &inventory).to_do(), 0);
}

#[test]
fn wherever_scaling_up_is_cut_off_its_plugins_run_once_each() {
    let image = image_of_cluster();
    let (one, three) = (growing(1), growing(3));
    let mut start = allowing(&one);
    execute(&plan(&one, &image, &start), &mut start, well);
    let start = with_new_hosts(&three, &start);
    let whole = plan(&three, &image, &start);
    let ids = |plan: &Plan| -> Vec<_> {
        let own = |step: &&PlannedStep| {
            ["plugin room", "plugin tell", "plugin both"].contains(&step.title.as_str())
        };
        let steps = plan.steps().filter(|step| step.is_to_do()).filter(own);
        steps.map(|step| step.id).collect()
    };
    let all = ids(&whole);
    assert_eq!(all.len(), 4);
    for cut in 0..=whole.waves.len() {
        let mut inventory = start.clone();
        let mut begun = whole.clone();
        begun.waves.truncate(cut);
        execute(&begun, &mut inventory, well);
        let rest = plan(&three, &image, &inventory);
        assert_eq!(
            [ids(&begun), ids(&rest)].concat(),
            all,
            "cut off after {cut} waves"
        );
        execute(&rest, &mut inventory, well);
        assert_eq!(plan(&three, &image, &inventory).to_do(), 0, "after {cut} waves");
    }
}

/// Its plans wait for the nodes, too, and are no end of the one that added hosts.
#[test]
fn a_ca_that_is_replaced_meanwhile_ends_no_scaling_up() {
    let image = image_of_cluster();
    let (one, three) = (growing(1), growing(3));
    let mut start = allowing(&one);
    execute(&plan(&one, &image, &start), &mut start, well);
    let mut inventory = with_new_hosts(&three, &start);
    let mut joins = plan(&three, &image, &inventory);
    let at = joins
        .waves
        .iter()
        .position(|wave| wave.title == "workers")
        .unwrap();
    joins.waves.truncate(at + 1);
    execute(&joins, &mut inventory, well);
    let pending = plugins_of(&plan(&three, &image, &inventory));
    assert!(
        pending.iter().any(|plugin| plugin.contains("tell")),
        "{pending:?}"
    );

    let cluster = three.name.clone();
    let hosts: Vec<IpAddr> = three.hosts.iter().map(|host| host.address).collect();
    let ca = |pem: &str, not_before| ClusterCa {
        pem: pem.into(),
        fingerprint: Digest::of(pem.as_bytes()),
        not_before,
        not_after: 1 << 40,
    };
    let both = [ca("old\n", 1), ca("new\n", 2)];
    for host in &hosts {
        on(&mut inventory, &host.to_string())
            .inventory
            .cluster_cas
            .trusted = vec![both[0].clone()];
    }
    let master = &mut on(&mut inventory, &hosts[0].to_string()).inventory;
    master.certificates.push(CertificateRecord {
        file: "/etc/kubernetes/pki/apiserver.crt".into(),
        subject: "kube-apiserver".into(),
        not_after: 1 << 40,
        keeper: CertificateKeeper::Kubeadm,
    });
    let mut waited = 0;
    for _ in 0..4 {
        let stage = Replacement::new(&cluster, &hosts, &hosts[..1], &inventory, NonZeroUsize::MIN)
            .and_then(|replacement| replacement.stage())
            .unwrap();
        let (Stage::Make(next) | Stage::Trust(next) | Stage::Sign { plan: next, .. } | Stage::Drop(next)) =
            stage
        else {
            panic!("{stage:?}");
        };
        execute(&next, &mut inventory, well);
        waited += next.steps().filter(|step| step.title == "nodes ready").count();
        let is = |title: &str| next.steps().any(|step| step.title == title);
        for host in &hosts {
            let found = &mut on(&mut inventory, &host.to_string()).inventory.cluster_cas;
            if is("new cluster CA") && host == &hosts[0] {
                found.next = Some(both[1].clone());
            } else if is("trust both CAs") {
                found.trusted = both.to_vec();
            } else if is("new CA signs") {
                found.trusted = vec![both[1].clone(), both[0].clone()];
                found.next = None;
            } else if is("drop old CA") {
                found.trusted = vec![both[1].clone()];
            }
        }
        assert_eq!(plugins_of(&plan(&three, &image, &inventory)), pending);
    }
    assert_eq!(waited, 3);
}

#[test]
fn a_host_that_leaves_is_no_reason_to_scale_up() {
    let image = image_of_cluster();
    let (two, one) = (growing(2), growing(1));
    let mut inventory = allowing(&two);
    execute(&plan(&two, &image, &inventory), &mut inventory, well);
    let gone = "10.0.0.4".parse().unwrap();
    inventory.hosts.remove(&gone);
    let rest = plan(&one, &image, &inventory);
    assert_eq!(plugins_of(&rest), Vec::<String>::new());
}

#[test]
fn a_worker_that_is_off_is_no_reason_to_scale_up() {
    let image = image_of_cluster();
    let two = growing(2);
    let mut inventory = allowing(&two);
    let applied = plan(&two, &image, &inventory);
    execute(&applied, &mut inventory, well);
    let silent = HostState::Unreachable("no answer".into());
    inventory.hosts.insert("10.0.0.4".parse().unwrap(), silent);
    let rest = plan(&two, &image, &inventory).skipping(&inventory, &applied.hosts);
    assert_eq!(plugins_of(&rest), Vec::<String>::new());
}
