//! Plans that make hosts a Kubernetes cluster, as text, and what kubeadm is given. See `plans.rs`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod planning;

use std::net::IpAddr;
use std::num::NonZeroUsize;

use gantry::clusterfile::Clusterfile;
use gantry::clusterfile::kubernetes::KubernetesKind;
use gantry::inventory::{ClusterInventory, HostState};
use gantry::plan::preflight::{self, Check};
use gantry::plan::{
    self, ImageCommands, ImageSwap, Leaving, Plan, PlanImage, PlannedHost, check, planner, render, renew,
    reset,
};
use gantry_model::{
    CertificateKeeper, CertificateRecord, HostNetwork, ScriptOutcome, StepAction, StepOutcome,
};

use planning::*;

/// What kubeadm is given on a host.
fn kubeadm_config(plan: &Plan, host: &str) -> String {
    let on_host = plan
        .steps()
        .filter(|step| step.host == host.parse::<IpAddr>().unwrap());
    let mut configs = on_host.filter_map(|step| match &step.step.action {
        StepAction::Kubeadm(spec) => Some(spec.config.clone()),
        _ => None,
    });
    configs.next().unwrap()
}

#[test]
fn control_planes_join_one_at_a_time_and_workers_together() {
    let (clusterfile, image) = kubernetes(3, 2, "");
    let mut inventory = fresh(&clusterfile);
    let first = plan(&clusterfile, &image, &inventory);
    expect("kubernetes", &render::render(&first));
    expect("kubeadm-init", &kubeadm_config(&first, "10.0.0.2"));
    expect("kubeadm-join-control-plane", &kubeadm_config(&first, "10.0.0.3"));
    expect("kubeadm-join-worker", &kubeadm_config(&first, "10.0.0.5"));
    execute(&first, &mut inventory, well);
    assert_eq!(plan(&clusterfile, &image, &inventory).to_do(), 0);
}

#[test]
fn a_cluster_that_runs_is_not_made_again() {
    let (clusterfile, image) = kubernetes(1, 1, "");
    let mut inventory = fresh(&clusterfile);
    execute(&plan(&clusterfile, &image, &inventory), &mut inventory, well);
    let documents = "---\nkind: ClusterConfiguration\napiServer: { extraArgs: { v: '4' } }\n";
    let (changed, image) = kubernetes(1, 1, documents);
    let again = plan(&changed, &image, &inventory);
    assert!(
        to_run(&again).iter().all(|title| !title.starts_with("kubeadm")),
        "{again:?}"
    );
}

#[test]
fn a_changed_configuration_that_reaches_no_host_is_named_by_its_kind() {
    let (clusterfile, image) = kubernetes(1, 1, "");
    let mut inventory = fresh(&clusterfile);
    let applied = plan(&clusterfile, &image, &inventory);
    execute(&applied, &mut inventory, well);
    let named = |masters, documents: &str| {
        let (changed, image) = kubernetes(masters, 1, documents);
        let names = plan::unreached(&applied, &plan(&changed, &image, &inventory)).into_iter();
        names.map(KubernetesKind::name).collect::<Vec<_>>()
    };
    assert!(named(1, "").is_empty());
    assert!(named(2, "").is_empty(), "another host changes none of it");
    let of_kubelets = "---\nkind: KubeletConfiguration\nmaxPods: 200\n";
    assert!(named(1, of_kubelets).is_empty(), "kubelets are told");
    let of_proxies = "---\nkind: KubeProxyConfiguration\nmode: ipvs\n";
    assert_eq!(named(1, of_proxies), ["KubeProxyConfiguration"]);
    let names = "---\nkind: ClusterConfiguration\napiServer: { certSANs: [ api.example.test ] }\n";
    assert_eq!(named(1, names), ["ClusterConfiguration"]);
    // Before there is a cluster, everything reaches it.
    let (changed, image) = kubernetes(1, 1, of_proxies);
    let anew = plan(&changed, &image, &fresh(&clusterfile));
    assert!(plan::unreached(&applied, &anew).is_empty());
}

#[test]
fn what_kubelets_are_told_follows_the_file_one_member_after_the_other() {
    let told = |pods: u32| {
        let document = format!("---\nkind: KubeletConfiguration\nmaxPods: {pods}\n");
        kubernetes(2, 3, &document)
    };
    let (clusterfile, image) = told(100);
    let mut inventory = fresh(&clusterfile);
    let waves_of = |plan: &Plan| {
        let waves = plan
            .waves
            .iter()
            .filter(|wave| wave.title == "kubelet configuration");
        let hosts = waves.map(|wave| {
            let steps = wave.steps.iter().filter(|step| step.is_to_do());
            let steps = steps.map(|step| format!("{} {}", step.host, step.step.action.title()));
            steps.collect::<Vec<_>>()
        });
        hosts.filter(|hosts| !hosts.is_empty()).collect::<Vec<_>>()
    };
    let first = plan(&clusterfile, &image, &inventory);
    let waves = waves_of(&first);
    assert_eq!(waves[0], ["10.0.0.2 publish kubelet configuration"]);
    assert_eq!(
        (waves.len(), waves[1].len()),
        (2, 5),
        "those that join take it at once: {waves:?}"
    );
    execute(&first, &mut inventory, well);
    assert!(waves_of(&plan(&clusterfile, &image, &inventory)).is_empty());

    let (changed, _) = told(200);
    let two = NonZeroUsize::new(2).unwrap();
    let second = planner::plan(&changed, &image, &inventory, &[], two).unwrap();
    let waves = waves_of(&second);
    assert_eq!(waves[0], ["10.0.0.2 publish kubelet configuration"]);
    let sizes: Vec<_> = waves.iter().map(Vec::len).collect();
    assert_eq!(sizes, [1, 1, 1, 2, 1], "{waves:?}");
    execute(&second, &mut inventory, well);
    assert_eq!(plan(&changed, &image, &inventory).to_do(), 0);

    // The way back is a change, too.
    let third = plan(&clusterfile, &image, &inventory);
    assert_eq!(waves_of(&third).len(), 6);
    execute(&third, &mut inventory, well);
    assert_eq!(plan(&clusterfile, &image, &inventory).to_do(), 0);

    // Another version alone is no reason.
    let mut next = image.clone();
    next.kubernetes.as_mut().unwrap().version = "v1.20.3".into();
    assert!(waves_of(&plan(&clusterfile, &next, &inventory)).is_empty());
}

/// The same hosts with marks on the one worker.
fn marked(labels: &str, taints: &str) -> Clusterfile {
    let text = format!(
        "apiVersion: sealer.io/v2\nkind: Cluster\nmetadata: {{ name: demo }}\nspec:\n  image: kubernetes:v1.20.2\n  \
         hosts:\n    - {{ ips: [ 10.0.0.2 ], roles: [ master ] }}\n    \
         - {{ ips: [ 10.0.0.3 ], roles: [ node ], labels: {{ {labels} }}, taints: [ {taints} ] }}\n"
    );
    Clusterfile::parse("Clusterfile", &text).unwrap().0
}

#[test]
fn labels_and_taints_are_set_when_hosts_have_joined_and_follow_the_file() {
    let (_, image) = kubernetes(1, 1, "");
    let wishes = [
        marked("disk: ssd", "'dedicated=db:NoSchedule'"),
        marked("disk: nvme", ""),
        // The first again is a third change.
        marked("disk: ssd", "'dedicated=db:NoSchedule'"),
        marked("", ""),
    ];
    let mut inventory = fresh(&wishes[0]);
    let first = plan(&wishes[0], &image, &inventory);
    expect("labels-and-taints", &render::render(&first));
    execute(&first, &mut inventory, well);
    for wish in &wishes[1..] {
        let next = plan(wish, &image, &inventory);
        assert_eq!(to_run(&next), ["labels and taints"]);
        execute(&next, &mut inventory, well);
        assert_eq!(plan(wish, &image, &inventory).to_do(), 0);
    }
}

#[test]
fn plugins_mark_nodes_as_the_groups_of_hosts_do() {
    let (_, image) = kubernetes(1, 1, "");
    let in_groups = marked("disk: ssd, zone: a", "'dedicated=db:NoSchedule', 'old-'");
    let plugin = |kind: &str, lines: &str| {
        format!(
            "---\napiVersion: sealer.aliyun.com/v1alpha1\nkind: Plugin\nmetadata: {{ name: one }}\nspec:\n  \
             type: {kind}\n  action: PreGuest\n  data: |\n    {lines}\n"
        )
    };
    let text = format!(
        "apiVersion: sealer.io/v2\nkind: Cluster\nmetadata: {{ name: demo }}\nspec:\n  image: kubernetes:v1.20.2\n  \
         hosts:\n    - {{ ips: [ 10.0.0.2 ], roles: [ master ] }}\n    - {{ ips: [ 10.0.0.3 ], roles: [ node ] }}\n{}{}",
        plugin("LABEL", "10.0.0.3 disk=ssd,zone=a"),
        plugin("TAINT", "10.0.0.3-10.0.0.9 dedicated=db:NoSchedule,old-"),
    );
    let by_plugins = Clusterfile::parse("Clusterfile", &text).unwrap().0;
    assert_eq!(by_plugins.hosts, in_groups.hosts);
    let mut inventory = fresh(&in_groups);
    execute(&plan(&in_groups, &image, &inventory), &mut inventory, well);
    assert_eq!(plan(&by_plugins, &image, &inventory).to_do(), 0);
}

#[test]
fn marks_that_reached_some_nodes_only_are_set_again_even_where_the_file_goes_back() {
    let (_, image) = kubernetes(1, 1, "");
    let (before, after) = (marked("disk: ssd", ""), marked("disk: nvme", ""));
    let mut inventory = fresh(&before);
    execute(&plan(&before, &image, &inventory), &mut inventory, well);
    let fails =
        |_: &str, title: &str| (title == "labels and taints").then(|| StepOutcome::Failed("no node".into()));
    execute(&plan(&after, &image, &inventory), &mut inventory, fails);
    for wish in [&after, &before] {
        assert_eq!(to_run(&plan(wish, &image, &inventory)), ["labels and taints"]);
    }
}

#[test]
fn a_node_that_was_deleted_and_came_back_is_marked_again() {
    let (_, image) = kubernetes(1, 1, "");
    let with = marked("disk: ssd", "");
    let mut inventory = fresh(&with);
    let applied = plan(&with, &image, &inventory);
    execute(&applied, &mut inventory, well);
    let text = "apiVersion: sealer.io/v2\nkind: Cluster\nmetadata: { name: demo }\nspec:\n  \
                image: kubernetes:v1.20.2\n  hosts:\n    - { ips: [ 10.0.0.2 ], roles: [ master ] }\n";
    let without = Clusterfile::parse("Clusterfile", text).unwrap().0;
    let leaves = planner::plan(
        &without,
        &image,
        &inventory,
        &[leaving(&applied, "10.0.0.3", false)],
        NonZeroUsize::MIN,
    )
    .unwrap();
    execute(&leaves, &mut inventory, well);
    assert!(to_run(&plan(&with, &image, &inventory)).contains(&"labels and taints".to_owned()));
}

#[test]
fn an_image_without_kubernetes_cannot_mark_nodes() {
    let wish = marked("disk: ssd", "");
    let inventory = fresh(&wish);
    let refused = planner::plan(&wish, &first_image(), &inventory, &[], NonZeroUsize::MIN).unwrap_err();
    assert!(refused.to_string().contains("labels or taints"), "{refused}");
}

#[test]
fn a_worker_that_failed_to_join_joins_again_and_nobody_else_does() {
    let (clusterfile, image) = kubernetes(1, 2, "");
    let mut inventory = fresh(&clusterfile);
    let fails = |host: &str, title: &str| {
        (host == "10.0.0.4" && title == "kubeadm join")
            .then_some(StepOutcome::Script(ScriptOutcome::Exited(1)))
    };
    let first = plan(&clusterfile, &image, &inventory);
    execute(&first, &mut inventory, fails);
    let again = plan(&clusterfile, &image, &inventory);
    let joins: Vec<_> = again
        .steps()
        .filter(|step| step.is_to_do() && step.title == "kubeadm join")
        .collect();
    assert_eq!(joins.len(), 1);
    assert_eq!(
        (joins[0].host.to_string(), joins[0].reason.as_str()),
        ("10.0.0.4".into(), "again: exit status 1")
    );
}

#[test]
fn the_operators_documents_go_over_the_images() {
    let documents = "---\napiVersion: kubeadm.k8s.io/v1beta3\nkind: ClusterConfiguration\n\
                     apiServer: { certSANs: [ own.example.test ], extraArgs: { v: '4' } }\n\
                     ---\nkind: KubeletConfiguration\nmaxPods: 200\n\
                     ---\nkind: InitConfiguration\nnodeRegistration: { ignorePreflightErrors: [ Swap ] }\n\
                     ---\nkind: JoinConfiguration\nnodeRegistration: { kubeletExtraArgs: { node-labels: pool=a } }\n";
    let (clusterfile, image) = kubernetes(1, 1, documents);
    let plan = plan(&clusterfile, &image, &fresh(&clusterfile));
    expect("kubeadm-init-operators", &kubeadm_config(&plan, "10.0.0.2"));
    expect("kubeadm-join-operators", &kubeadm_config(&plan, "10.0.0.3"));
}

#[test]
fn a_version_that_the_image_does_not_bring_is_refused() {
    let plan_of = |version: &str| {
        let document = format!("---\nkind: ClusterConfiguration\nkubernetesVersion: {version}\n");
        let (clusterfile, image) = kubernetes(1, 0, &document);
        planner::plan(&clusterfile, &image, &fresh(&clusterfile), &[], NonZeroUsize::MIN)
    };
    for same in ["v1.20.2", "1.20.2"] {
        plan_of(same).unwrap();
    }
    for other in ["v1.19.8", "stable-1"] {
        let refused = plan_of(other).unwrap_err().to_string();
        let wanted = format!(
            "`kubernetesVersion` of ClusterConfiguration is {other}, and image kubernetes:v1.19.8 brings v1.20.2"
        );
        assert_eq!(refused, wanted);
    }
}

#[test]
fn the_cgroup_driver_of_the_environment_is_kubelets() {
    let driver = |env: &str, of_image: Option<&str>, documents: &str| {
        let (mut clusterfile, mut image) = kubernetes(1, 0, documents);
        if let Some((name, value)) = env.split_once('=') {
            clusterfile.env.insert(name.into(), value.into());
        }
        image
            .env
            .extend(of_image.map(|driver| ("CgroupDriver".to_owned(), driver.to_owned())));
        let kubernetes = image.kubernetes.as_mut().unwrap();
        kubernetes.config.as_mut().unwrap().text =
            "kind: KubeletConfiguration\ncgroupDriver: cgroupfs\n".into();
        let text = kubeadm_config(&plan(&clusterfile, &image, &fresh(&clusterfile)), "10.0.0.2");
        let line = text
            .lines()
            .find(|line| line.starts_with("cgroupDriver"))
            .unwrap();
        line.to_owned()
    };
    assert_eq!(driver("", None, ""), "cgroupDriver: cgroupfs", "the image's file");
    assert_eq!(driver("CgroupDriver=systemd", None, ""), "cgroupDriver: systemd");
    assert_eq!(driver("", Some("systemd"), ""), "cgroupDriver: systemd");
    assert_eq!(driver("", Some("/some/path"), ""), "cgroupDriver: cgroupfs");
    let own = "---\nkind: KubeletConfiguration\ncgroupDriver: cgroupfs\n";
    assert_eq!(
        driver("", Some("systemd"), own),
        "cgroupDriver: cgroupfs",
        "the operator's word"
    );
}

#[test]
fn a_cluster_check_waits_for_the_clusters_own_pods_before_commands() {
    let check = "---\nkind: Plugin\napiVersion: sealer.aliyun.com/v1alpha1\nmetadata: { name: check }\n\
                 spec: { type: CLUSTERCHECK, action: PreGuest }\n\
                 ---\nkind: Plugin\napiVersion: sealer.aliyun.com/v1alpha1\nmetadata: { name: before }\n\
                 spec: { type: SHELL, action: PreGuest, 'on': master0, data: echo }\n";
    let (clusterfile, image) = kubernetes(1, 1, check);
    let mut inventory = fresh(&clusterfile);
    let first = plan(&clusterfile, &image, &inventory);
    let waves: Vec<&str> = first.waves.iter().map(|wave| wave.title.as_str()).collect();
    let at = |title: &str| waves.iter().position(|wave| *wave == title).unwrap();
    assert!(at("workers") < at("cluster check"), "{waves:?}");
    assert!(at("cluster check") < at("before commands"), "{waves:?}");
    let wait = first
        .steps()
        .find(|step| step.title == "system pods ready")
        .unwrap();
    assert_eq!(wait.host.to_string(), "10.0.0.2");
    let StepAction::WaitForSystemPods { time_limit_s, .. } = &wait.step.action else {
        panic!("{:?}", wait.step);
    };
    assert_eq!(*time_limit_s, 900);
    // One that failed runs again, and what comes after it does then.
    let fails = |_: &str, title: &str| {
        (title == "system pods ready").then(|| StepOutcome::Failed("pods are not ready".into()))
    };
    execute(&first, &mut inventory, fails);
    let again = plan(&clusterfile, &image, &inventory);
    assert!(
        to_run(&again).contains(&"system pods ready".to_owned()),
        "{:?}",
        to_run(&again)
    );
    execute(&again, &mut inventory, well);
    assert!(to_run(&plan(&clusterfile, &image, &inventory)).is_empty());

    let without = PlanImage {
        kubernetes: None,
        ..image
    };
    let error = planner::plan(
        &clusterfile,
        &without,
        &fresh(&clusterfile),
        &[],
        NonZeroUsize::MIN,
    );
    let error = error.unwrap_err().to_string();
    assert!(error.contains("plugin check of type CLUSTERCHECK"), "{error}");
}

#[test]
fn hosts_leave_their_cluster_before_their_scripts_clean_up() {
    let (clusterfile, image) = kubernetes(1, 1, "");
    let mut inventory = fresh(&clusterfile);
    execute(&plan(&clusterfile, &image, &inventory), &mut inventory, well);
    let down = reset::plan(&clusterfile, &[], &inventory, |_| Some(image.clone()));
    expect("kubernetes-reset", &render::render(&down));
}

#[test]
fn hosts_that_are_no_longer_in_the_file_are_taken_down_with_the_others() {
    let (whole, image) = kubernetes(1, 2, "");
    let mut inventory = fresh(&whole);
    let applied = plan(&whole, &image, &inventory);
    execute(&applied, &mut inventory, well);
    let (smaller, _) = kubernetes(1, 0, "");
    let others: Vec<PlannedHost> = ["10.0.0.3", "10.0.0.4"]
        .map(|host| leaving(&applied, host, false).host)
        .into();
    // One of them does not answer yet.
    let silent = inventory.hosts.remove(&others[1].address).unwrap();
    let down = |inventory: &ClusterInventory| {
        let plan = reset::plan(&smaller, &others, inventory, |_| Some(image.clone()));
        check::check(&plan).unwrap();
        let resets = plan.steps().filter(|step| step.title == "kubeadm reset");
        let hosts: Vec<String> = resets.map(|step| step.host.to_string()).collect();
        (hosts, plan)
    };
    let (hosts, plan) = down(&inventory);
    assert_eq!(hosts, ["10.0.0.2", "10.0.0.3"]);
    assert_eq!(plan.hosts.len(), 2);
    inventory.hosts.insert(others[1].address, silent);
    let (hosts, plan) = down(&inventory);
    assert_eq!(hosts, ["10.0.0.2", "10.0.0.3", "10.0.0.4"]);
    let of = |host: IpAddr| {
        let steps = plan.steps().filter(move |step| step.host == host);
        steps.map(|step| step.title.clone()).collect::<Vec<_>>()
    };
    assert_eq!(of(others[0].address), of(others[1].address));
    for title in ["clean.sh", "remove balancer", "remove rootfs", "forget cluster"] {
        assert!(of(others[0].address).contains(&title.to_owned()), "{title}");
    }
}

#[test]
fn a_member_of_another_cluster_is_left_alone() {
    let (clusterfile, image) = kubernetes(1, 0, "");
    let mut inventory = fresh(&clusterfile);
    on(&mut inventory, "10.0.0.2").inventory.facts.kubernetes = vec!["/etc/kubernetes/admin.conf".into()];
    let plan = plan(&clusterfile, &image, &inventory);
    let findings = preflight::preflight(&plan, &image, &inventory, &[]);
    assert!(
        findings
            .iter()
            .any(|one| one.check == Check::Leftovers && one.message.contains("admin.conf"))
    );
}

#[test]
fn what_kubernetes_asks_of_its_hosts_is_asked_of_all_at_once() {
    let (clusterfile, image) = kubernetes(1, 3, "");
    let mut inventory = fresh(&clusterfile);
    let network = |range: &str, interface: &str| HostNetwork {
        range: range.parse().unwrap(),
        interface: interface.into(),
    };
    let facts = &mut on(&mut inventory, "10.0.0.2").inventory.facts;
    facts.etcd_disk.free = 2 << 30;
    facts.missing_tools = ["conntrack", "crictl", "nsenter", "tar"]
        .map(str::to_owned)
        .into();
    let facts = &mut on(&mut inventory, "10.0.0.3").inventory.facts;
    facts.swap = 4 << 30;
    facts.cgroups.retain(|name| name != "memory");
    facts.networks = vec![network("10.0.0.0/24", "eth0"), network("10.96.2.0/24", "eth1")];
    on(&mut inventory, "10.0.0.4").inventory.facts.hostname = "HOST-10.0.0.3".into();
    on(&mut inventory, "10.0.0.5").inventory.facts.hostname = "my_host".into();
    let findings = |documents: &str, inventory: &ClusterInventory| {
        let (clusterfile, _) = kubernetes(1, 3, documents);
        let plan = plan(&clusterfile, &image, inventory);
        preflight::preflight(&plan, &image, inventory, &[])
    };
    expect(
        "kubernetes-preflight",
        &preflight::render(&findings("", &inventory)),
    );

    // What an image's scripts turn off is on again after a reboot, unless they do it before each start of kubelet.
    let bears = "---\nkind: KubeletConfiguration\nfailSwapOn: false\n";
    let with_swap = |swap, documents: &str| {
        let (clusterfile, mut image) = kubernetes(1, 1, documents);
        image.kubernetes.as_mut().unwrap().swap = swap;
        let mut inventory = fresh(&clusterfile);
        on(&mut inventory, "10.0.0.3").inventory.facts.swap = 4 << 30;
        let plan = plan(&clusterfile, &image, &inventory);
        assert_eq!(preflight::warnings(&plan, &inventory, &[Check::Swap]), []);
        let found = preflight::preflight(&plan, &image, &inventory, &[]);
        let warned = preflight::warnings(&plan, &inventory, &[]);
        (found.len(), warned.len())
    };
    assert_eq!(with_swap(ImageSwap::Stays, ""), (1, 0));
    assert_eq!(with_swap(ImageSwap::OffUntilBoot, ""), (0, 1));
    assert_eq!(with_swap(ImageSwap::Off, ""), (0, 0));
    assert_eq!(with_swap(ImageSwap::OffUntilBoot, bears), (0, 0));

    // Whoever says that kubelet bears swap is heard, by kubeadm too.
    assert!(
        findings(bears, &inventory)
            .iter()
            .all(|one| one.check != Check::Swap)
    );
    let (bearing, _) = kubernetes(1, 3, bears);
    let planned = plan(&bearing, &image, &inventory);
    let ignored: Vec<_> = planned
        .steps()
        .filter_map(|step| match &step.step.action {
            StepAction::Kubeadm(spec) => Some(spec.ignored_checks.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(ignored, vec![vec!["Swap".to_owned()]; 4]);
    // A document for all of them, with ranges that hold each other.
    let overlapping = "---\nkind: ClusterConfiguration\nnetworking: { podSubnet: 10.96.0.0/11 }\n";
    let found = findings(overlapping, &fresh(&clusterfile));
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].check, Check::Networks);
    // Of a Clusterfile it is a mistake; documents of images are seen here.
    let mut wrong = kubernetes(1, 0, "").0;
    let networking = serde_json::json!({ "networking": { "podSubnet": "10.96.0.0" } });
    wrong
        .kubernetes
        .insert(KubernetesKind::ClusterConfiguration, networking);
    let refused = planner::plan(&wrong, &image, &inventory, &[], NonZeroUsize::MIN).unwrap_err();
    assert!(refused.to_string().contains("podSubnet"), "{refused}");

    // Members have all that, or run without.
    execute(&plan(&clusterfile, &image, &inventory), &mut inventory, well);
    let left = findings("", &inventory);
    assert!(left.iter().all(|one| one.check == Check::Identity), "{left:?}");
}

#[test]
fn a_host_that_is_no_longer_in_the_file_leaves() {
    let (whole, image) = kubernetes(1, 2, "");
    let mut inventory = fresh(&whole);
    execute(&plan(&whole, &image, &inventory), &mut inventory, well);
    let (smaller, image) = kubernetes(1, 1, "");
    let gone = leaving(&plan(&whole, &image, &inventory), "10.0.0.4", false);
    let leave = |inventory: &ClusterInventory| {
        let plan = planner::plan(
            &smaller,
            &image,
            inventory,
            std::slice::from_ref(&gone),
            NonZeroUsize::MIN,
        )
        .unwrap();
        check::check(&plan).unwrap();
        plan
    };
    let first = leave(&inventory);
    expect("leave", &render::render(&first));
    assert!(
        first
            .clone()
            .without_left(&[])
            .hosts
            .iter()
            .all(|host| host.address != gone.host.address)
    );

    // Interrupted after kubeadm reset: pods are not drained from what is no node any more.
    let fails = |_: &str, title: &str| title.starts_with("delete node").then_some(StepOutcome::Unknown);
    let mut interrupted = inventory.clone();
    let upto = |title: &str| {
        let mut plan = first.clone();
        let last = plan.waves.iter().position(|wave| wave.title == title).unwrap();
        plan.waves.truncate(last + 1);
        plan
    };
    execute(&upto("forget nodes"), &mut interrupted, fails);
    let again = to_run(&leave(&interrupted));
    assert!(
        again
            .iter()
            .all(|title| !title.starts_with("drain") && title != "kubeadm reset"),
        "{again:?}"
    );
    assert!(
        again.iter().any(|title| title.starts_with("delete node")),
        "{again:?}"
    );
}

#[test]
fn nodes_that_come_again_are_waited_for_again() {
    let (whole, image) = kubernetes(1, 2, "");
    let (smaller, _) = kubernetes(1, 1, "");
    let mut inventory = fresh(&whole);
    execute(&plan(&whole, &image, &inventory), &mut inventory, well);
    let gone = leaving(&plan(&whole, &image, &inventory), "10.0.0.4", false);
    let address = gone.host.address;
    let left = planner::plan(&smaller, &image, &inventory, &[gone], NonZeroUsize::MIN).unwrap();
    execute(&left, &mut inventory, well);

    let joins_and_is_waited_for = |inventory: &mut ClusterInventory| {
        // As a host that was given back, or was installed anew while nobody looked.
        inventory
            .hosts
            .insert(address, HostState::Reached(Box::new(report(address))));
        let joins = plan(&whole, &image, inventory);
        let steps = to_run(&joins);
        for title in ["kubeadm join", "nodes ready"] {
            assert!(
                steps.contains(&title.to_owned()),
                "{title} is missing in {steps:?}"
            );
        }
        let mut cut_off = joins.clone();
        let workers = joins
            .waves
            .iter()
            .position(|wave| wave.title == "workers")
            .unwrap();
        cut_off.waves.truncate(workers + 1);
        execute(&cut_off, inventory, well);
        let rest = plan(&whole, &image, inventory);
        assert_eq!(to_run(&rest), ["kubelet configuration", "nodes ready"]);
        execute(&rest, inventory, well);
        assert_eq!(plan(&whole, &image, inventory).to_do(), 0);
    };
    joins_and_is_waited_for(&mut inventory);
    joins_and_is_waited_for(&mut inventory);
}

/// A host of `applied` that is no longer in the Clusterfile.
fn leaving(applied: &Plan, host: &str, given_up: bool) -> Leaving {
    let address: IpAddr = host.parse().unwrap();
    let planned = applied.hosts.iter().find(|one| one.address == address);
    Leaving {
        host: planned.unwrap().clone(),
        given_up,
    }
}

#[test]
fn of_control_planes_etcd_loses_one_member_at_a_time_and_only_those_it_can_do_without() {
    let (whole, image) = kubernetes(3, 1, "");
    let mut inventory = fresh(&whole);
    execute(&plan(&whole, &image, &inventory), &mut inventory, well);
    let applied = plan(&whole, &image, &inventory);
    // 10.0.0.3 and the one that began it all go; 10.0.0.4 stays.
    let text = "apiVersion: sealer.io/v2\nkind: Cluster\nmetadata: { name: demo }\nspec:\n  image: kubernetes:v1.20.2\n  \
                env: [ PodCIDR=100.64.0.0/10, SvcCIDR=10.96.0.0/22, \"CertSANs=api.example.test\" ]\n  hosts:\n    \
                - { ips: [ 10.0.0.9, 10.0.0.4 ], roles: [ master ] }\n    - { ips: [ 10.0.0.5 ], roles: [ node ] }\n";
    let (changed, _) = Clusterfile::parse("Clusterfile", text).unwrap();
    let new: IpAddr = "10.0.0.9".parse().unwrap();
    inventory
        .hosts
        .insert(new, HostState::Reached(Box::new(report(new))));
    let gone = ["10.0.0.2", "10.0.0.3"].map(|host| leaving(&applied, host, false));
    let plan = planner::plan(&changed, &image, &inventory, &gone, NonZeroUsize::MIN).unwrap();
    expect("leave-control-planes", &render::render(&plan));
    let inits = plan
        .steps()
        .filter(|step| step.title == "kubeadm init" && step.is_to_do());
    assert_eq!(inits.count(), 0, "a new first master begins no other cluster");

    // Whatever was found out before, etcd is asked again right before a member leaves.
    let mut interrupted = plan.clone();
    let leave = plan.waves.iter().position(|wave| wave.title == "leave").unwrap();
    interrupted.waves.truncate(leave + 1);
    execute(&interrupted, &mut inventory, |_, title| {
        (title == "kubeadm reset").then_some(StepOutcome::Unknown)
    });
    let again = planner::plan(&changed, &image, &inventory, &gone, NonZeroUsize::MIN).unwrap();
    assert!(to_run(&again).contains(&"etcd quorum without 10.0.0.2".to_owned()));

    // Nobody of the cluster is left in the file: that would be another cluster.
    let text = text.replace("10.0.0.9, 10.0.0.4", "10.0.0.9");
    let (other, _) = Clusterfile::parse("Clusterfile", &text).unwrap();
    let mut others = fresh(&whole);
    execute(&applied_anew(&whole, &image), &mut others, well);
    others
        .hosts
        .insert(new, HostState::Reached(Box::new(report(new))));
    let refused = planner::plan(&other, &image, &others, &gone, NonZeroUsize::MIN).unwrap_err();
    assert!(refused.to_string().contains("another cluster"), "{refused}");
}

fn applied_anew(clusterfile: &Clusterfile, image: &PlanImage) -> Plan {
    plan(clusterfile, image, &fresh(clusterfile))
}

#[test]
fn a_host_that_is_given_up_is_forgotten_and_given_back_when_it_is_back() {
    let (whole, image) = kubernetes(3, 1, "");
    let mut inventory = fresh(&whole);
    execute(&plan(&whole, &image, &inventory), &mut inventory, well);
    let applied = plan(&whole, &image, &inventory);
    let (smaller, _) = kubernetes(2, 0, "");
    let text = "10.0.0.4";
    let silent = inventory.hosts.remove(&text.parse().unwrap()).unwrap();
    let worker = leaving(&applied, "10.0.0.5", true);
    inventory.hosts.remove(&worker.host.address);
    let gone = [leaving(&applied, text, true), worker];
    let plan = planner::plan(&smaller, &image, &inventory, &gone, NonZeroUsize::MIN).unwrap();
    expect("give-up", &render::render(&plan));
    execute(&plan, &mut inventory, well);
    let kept = plan.without_left(&[gone[1].host.address]);
    assert_eq!(
        kept.hosts.len(),
        3,
        "the one that is not lost for good is to be given back"
    );
    let again = planner::plan(&smaller, &image, &inventory, &gone, NonZeroUsize::MIN).unwrap();
    assert_eq!(again.to_do(), 0);

    inventory.hosts.insert(text.parse().unwrap(), silent);
    let back = leaving(&kept, text, false);
    let plan = planner::plan(&smaller, &image, &inventory, &[back], NonZeroUsize::MIN).unwrap();
    let steps = to_run(&plan);
    assert!(!steps.iter().any(|title| title.starts_with("drain")), "{steps:?}");
    for title in [
        "kubeadm reset",
        "delete node host-10.0.0.4",
        "clean.sh",
        "forget cluster",
    ] {
        assert!(
            steps.contains(&title.to_owned()),
            "{title} is missing in {steps:?}"
        );
    }
}

#[test]
fn control_planes_get_new_certificates_one_after_the_other_before_theirs_end() {
    const DAY: i64 = 24 * 3600;
    let (clusterfile, image) = kubernetes(2, 1, "");
    let mut inventory = fresh(&clusterfile);
    execute(&plan(&clusterfile, &image, &inventory), &mut inventory, well);
    let ends = |inventory: &mut ClusterInventory, host: &str, file: &str, days: i64, keeper| {
        on(inventory, host)
            .inventory
            .certificates
            .push(CertificateRecord {
                file: file.into(),
                subject: "somebody".into(),
                not_after: days * DAY + 60,
                keeper,
            });
    };
    let (apiserver, ca) = ("/etc/kubernetes/pki/apiserver.crt", "/etc/kubernetes/pki/ca.crt");
    for host in ["10.0.0.2", "10.0.0.3"] {
        ends(&mut inventory, host, apiserver, 200, CertificateKeeper::Kubeadm);
        ends(&mut inventory, host, ca, 20, CertificateKeeper::Nobody);
    }
    ends(&mut inventory, "10.0.0.4", ca, 5, CertificateKeeper::Nobody);
    assert_eq!(plan(&clusterfile, &image, &inventory).to_do(), 0);

    let hosts: Vec<IpAddr> = clusterfile.hosts.iter().map(|host| host.address).collect();
    let when_asked = renew::plan(&clusterfile.name, &hosts, &inventory, false);
    check::check(&when_asked).unwrap();
    expect("renew", &render::render(&when_asked));
    assert_eq!(
        renew::plan(&clusterfile.name, &hosts, &inventory, true).to_do(),
        0
    );

    for (host, days) in [("10.0.0.2", 12), ("10.0.0.3", -1)] {
        ends(
            &mut inventory,
            host,
            "/etc/kubernetes/admin.conf",
            days,
            CertificateKeeper::Kubeadm,
        );
    }
    let due = plan(&clusterfile, &image, &inventory);
    expect("certificates-end", &render::render(&due));
}

#[test]
fn commands_run_on_the_first_master_in_order_and_once() {
    let (clusterfile, image) = kubernetes(1, 1, "");
    let commands = ImageCommands {
        lines: vec![
            "kubectl apply -f manifests/network.yaml".into(),
            "helm install db charts/db".into(),
        ],
        manifest: "{}".into(),
        config: "{}".into(),
        ..ImageCommands::default()
    };
    let image = PlanImage {
        commands: Some(commands),
        ..image
    };
    let mut inventory = fresh(&clusterfile);
    let first = plan(&clusterfile, &image, &inventory);
    expect("commands", &render::render(&first));
    let fails =
        |_: &str, title: &str| (title == "CMD 2").then_some(StepOutcome::Script(ScriptOutcome::Exited(1)));
    execute(&first, &mut inventory, fails);
    assert_eq!(to_run(&plan(&clusterfile, &image, &inventory)), ["CMD 2"]);
}

#[test]
fn a_kubeadm_config_is_the_documents_that_its_fields_are_of() {
    let one = "---\nkind: KubeadmConfig\nspec:\n  networking: { podSubnet: 10.244.0.0/16 }\n  maxPods: 200\n  mode: ipvs\n  \
               nodeRegistration: { kubeletExtraArgs: { node-labels: pool=a } }\n  localAPIEndpoint: { advertiseAddress: \
               10.0.0.9, bindPort: 6443 }\n";
    let many = "---\nkind: ClusterConfiguration\nnetworking: { podSubnet: 10.244.0.0/16 }\n\
                ---\nkind: KubeletConfiguration\nmaxPods: 200\n---\nkind: KubeProxyConfiguration\nmode: ipvs\n\
                ---\nkind: InitConfiguration\nnodeRegistration: { kubeletExtraArgs: { node-labels: pool=a } }\n\
                localAPIEndpoint: { bindPort: 6443 }\n\
                ---\nkind: JoinConfiguration\nnodeRegistration: { kubeletExtraArgs: { node-labels: pool=a } }\n";
    let given = |documents: &str| {
        let (clusterfile, image) = kubernetes(1, 1, documents);
        let plan = plan(&clusterfile, &image, &fresh(&clusterfile));
        ["10.0.0.2", "10.0.0.3"].map(|host| kubeadm_config(&plan, host))
    };
    let [init, join] = given(one);
    assert!(
        init.contains("maxPods: 200") && init.contains("advertiseAddress: \"10.0.0.2\""),
        "{init}"
    );
    assert!(join.contains("node-labels: pool=a"), "{join}");
    assert_eq!([init, join], given(many));
}

#[test]
fn the_first_version_of_a_clusterfile_means_what_the_second_says() {
    let first = "apiVersion: sealer.aliyun.com/v1alpha1\nkind: Cluster\nmetadata: { name: demo }\nspec:\n  \
                 image: kubernetes:v1.20.2\n  provider: BAREMETAL\n  env: [ A=b ]\n  network: { podCIDR: 100.64.0.0/10, \
                 svcCIDR: 10.96.0.0/22 }\n  certSANS: [ api.example.test, 10.0.0.10 ]\n  \
                 masters: { ipList: [ 10.0.0.2 ] }\n  nodes: { ipList: [ 10.0.0.3, '10.0.0.4:22' ] }\n";
    let second = "apiVersion: sealer.io/v2\nkind: Cluster\nmetadata: { name: demo }\nspec:\n  \
                  image: kubernetes:v1.20.2\n  env: [ A=b, PodCIDR=100.64.0.0/10, SvcCIDR=10.96.0.0/22, \
                  'CertSANs=api.example.test,10.0.0.10' ]\n  hosts:\n    - { ips: [ 10.0.0.2 ], roles: [ master ] }\n    \
                  - { ips: [ 10.0.0.3, 10.0.0.4 ], roles: [ node ] }\n";
    let [first, second] = [first, second].map(|text| Clusterfile::parse("Clusterfile", text).unwrap().0);
    assert_eq!(first, second);
}
