//! Clusterfiles, images and inventories to plan with, and what plans are compared with.

#![allow(dead_code, reason = "every test program uses some of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::net::IpAddr;
use std::num::NonZeroUsize;

use gantry::clusterfile::Clusterfile;
use gantry::inventory::{ClusterInventory, HostReport, HostState};
use gantry::plan::{ImageKubernetes, ImageSwap, KubeadmFile, Plan, PlanImage, PlanLayer, check, planner};
use gantry_model::{
    ClusterCas, Digest, DiskSpace, Generation, GenerationId, HostFacts, Inventory, LayerDescriptor,
    StepAction, StepOutcome, StepRecord, TocLocation, most_needed_records,
};

pub(crate) const MIB: u64 = 1 << 20;

pub(crate) fn clusterfile(image: &str, nodes: usize) -> Clusterfile {
    let nodes: Vec<String> = (0..nodes)
        .map(|n| format!("10.0.{}.{}", n / 250, n % 250 + 3))
        .collect();
    let text = format!(
        "apiVersion: sealer.io/v2\nkind: Cluster\nmetadata: {{ name: demo }}\nspec:\n  image: {image}\n  \
         env: [ SvcCIDR=10.96.0.0/16 ]\n  hosts:\n    - {{ ips: [ 10.0.0.2 ], roles: [ master ] }}\n    \
         - {{ ips: [ {} ], roles: [ node ] }}\n",
        nodes.join(", ")
    );
    Clusterfile::parse("Clusterfile", &text).unwrap().0
}

/// An image whose layers are named by words: images that share a word share a layer.
pub(crate) fn image(name: &str, layers: &[&str], scripts: &[&str]) -> PlanImage {
    let layer = |word: &&str| PlanLayer {
        descriptor: LayerDescriptor {
            digest: Digest::of(word.as_bytes()),
            size: 100 * MIB,
            diff_id: Digest::of(b"diff"),
            toc: TocLocation {
                offset: 0,
                compressed_len: 1,
                len: 1,
                digest: Digest::of(b"toc"),
            },
        },
        unpacked: 300 * MIB,
    };
    PlanImage {
        reference: name.parse().unwrap(),
        digest: Digest::of(layers.join(" ").as_bytes()),
        arch: "amd64".into(),
        layers: layers.iter().map(layer).collect(),
        env: [("FROM_IMAGE".to_owned(), "1".to_owned())].into(),
        runtime: None,
        runtimes: [].into(),
        scripts: scripts.iter().map(|&script| script.to_owned()).collect(),
        templates: [].into(),
        template_mistakes: vec![],
        registry: false,
        kubernetes: None,
        commands: None,
        plugins: [].into(),
        files: [].into(),
        evidence: None,
    }
}

/// The scripts of a base image.
const SCRIPTS: [&str; 5] = [
    "init.sh",
    "docker.sh",
    "init-kube.sh",
    "init-registry.sh",
    "clean.sh",
];

pub(crate) fn first_image() -> PlanImage {
    image("kubernetes:v1.19.8", &["base", "bin"], &SCRIPTS)
}

pub(crate) fn second_image() -> PlanImage {
    image("my-kubernetes:v1", &["base", "bin", "daemon.json"], &SCRIPTS)
}

/// Hosts by role, and an image that makes them a cluster.
pub(crate) fn kubernetes(masters: u8, nodes: u8, documents: &str) -> (Clusterfile, PlanImage) {
    let hosts = |role: &str, first: u8, count: u8| {
        let ips: Vec<String> = (first..first + count).map(|n| format!("10.0.0.{n}")).collect();
        format!("    - {{ ips: [ {} ], roles: [ {role} ] }}\n", ips.join(", "))
    };
    let nodes = if nodes == 0 {
        String::new()
    } else {
        hosts("node", 2 + masters, nodes)
    };
    let text = format!(
        "apiVersion: sealer.io/v2\nkind: Cluster\nmetadata: {{ name: demo }}\nspec:\n  image: kubernetes:v1.20.2\n  \
         env: [ PodCIDR=100.64.0.0/10, SvcCIDR=10.96.0.0/22, \"CertSANs=api.example.test\" ]\n  hosts:\n{}{nodes}{documents}",
        hosts("master", 2, masters)
    );
    let kubernetes = ImageKubernetes {
        version: "v1.20.2".into(),
        config: Some(KubeadmFile {
            path: "etc/kubeadm.yml".into(),
            text:
                "kind: ClusterConfiguration\napiServer:\n  extraArgs: { profiling: 'false', v: '2' }\n---\n\
                   kind: KubeletConfiguration\nmaxPods: 110\n"
                    .into(),
        }),
        dns: true,
        kubectl: true,
        programs: ["conntrack".to_owned()].into(),
        swap: ImageSwap::Stays,
    };
    let image = PlanImage {
        kubernetes: Some(kubernetes),
        ..first_image()
    };
    (Clusterfile::parse("Clusterfile", &text).unwrap().0, image)
}

pub(crate) fn report(host: IpAddr) -> HostReport {
    HostReport {
        inventory: Inventory {
            agent_version: "0.1.0".into(),
            clock_ms: 0,
            facts: HostFacts {
                hostname: format!("host-{host}"),
                machine_id: format!("id-{host}"),
                os: "debian 12".into(),
                kernel: "6.1.0".into(),
                arch: "amd64".into(),
                cpus: 2,
                memory: 4 << 30,
                swap: 0,
                store_disk: DiskSpace {
                    total: 50 << 30,
                    free: 40 << 30,
                },
                ports: vec![],
                runtimes: vec![],
                missing_commands: vec![],
                overlay: true,
                kubernetes: vec![],
                missing_tools: vec![],
                cgroups: ["cpu", "cpuacct", "cpuset", "devices", "freezer", "memory", "pids"]
                    .map(str::to_owned)
                    .into(),
                etcd_disk: DiskSpace {
                    total: 50 << 30,
                    free: 40 << 30,
                },
                etcd_beside_store: true,
                networks: vec![],
                allow_exec: false,
            },
            layers: vec![],
            partial_layers: vec![],
            generations: vec![],
            current: vec![],
            steps: vec![],
            certificates: vec![],
            etcd_snapshots: vec![],
            cluster_cas: ClusterCas::default(),
        },
        drift: vec![],
        skew_ms: 0,
        path: "quic".into(),
    }
}

pub(crate) fn fresh(clusterfile: &Clusterfile) -> ClusterInventory {
    let host = |address: IpAddr| (address, HostState::Reached(Box::new(report(address))));
    ClusterInventory {
        hosts: clusterfile.hosts.iter().map(|h| host(h.address)).collect(),
    }
}

pub(crate) fn on<'a>(inventory: &'a mut ClusterInventory, host: &str) -> &'a mut HostReport {
    match inventory.hosts.get_mut(&host.parse().unwrap()) {
        Some(HostState::Reached(report)) => report,
        other => panic!("{other:?}"),
    }
}

/// What the hosts report after `plan` was executed; a step for which `fails` gives an outcome ends so.
pub(crate) fn execute(
    plan: &Plan,
    inventory: &mut ClusterInventory,
    fails: impl Fn(&str, &str) -> Option<StepOutcome>,
) {
    for step in plan.steps().filter(|step| step.is_to_do()) {
        let host = step.host.to_string();
        // The clocks of all hosts agree.
        let records = inventory
            .reached()
            .flat_map(|(_, report)| &report.inventory.steps);
        let at = records
            .map(|record| record.started_at)
            .max()
            .map_or(100, |at| at + 1);
        let report = on(inventory, &host);
        let failure = fails(&host, &step.title);
        let went_well = failure.is_none();
        report.inventory.steps.retain(|record| record.id != step.id);
        report.inventory.steps.push(StepRecord {
            id: step.id,
            cluster: step.step.action.cluster().cloned(),
            title: step.title.clone(),
            started_at: at,
            ended_at: Some(at),
            outcome: Some(failure.unwrap_or(StepOutcome::Done { generation: None })),
            kubernetes: match &step.step.action {
                StepAction::Kubeadm(spec) => Some(spec.kubernetes.clone()),
                _ => None,
            },
        });
        report.drift.retain(|line| !line.starts_with(&step.title));
        match &step.step.action {
            StepAction::Stage { layers, .. } if went_well => {
                report
                    .inventory
                    .layers
                    .extend(layers.iter().map(|layer| layer.digest));
            }
            StepAction::AssembleRootfs {
                cluster,
                image,
                layers,
            } if went_well => {
                let id = GenerationId(u32::try_from(report.inventory.generations.len()).unwrap() + 1);
                let (cluster, layers) = (cluster.clone(), layers.clone());
                report.inventory.current = vec![(cluster.clone(), id)];
                report.inventory.generations.push(Generation {
                    id,
                    cluster,
                    image: *image,
                    layers,
                });
            }
            _ => {}
        }
    }
}

/// What hosts report that have room for `room` records, and journals that were rewritten.
pub(crate) fn forget_what_is_needed_least(inventory: &mut ClusterInventory, room: usize) {
    for state in inventory.hosts.values_mut() {
        let HostState::Reached(report) = state else {
            continue;
        };
        let steps = &mut report.inventory.steps;
        let mut kept = most_needed_records(steps);
        kept.truncate(room);
        kept.sort_unstable();
        *steps = kept.into_iter().map(|place| steps[place].clone()).collect();
    }
}

pub(crate) fn well(_: &str, _: &str) -> Option<StepOutcome> {
    None
}

pub(crate) fn plan(clusterfile: &Clusterfile, image: &PlanImage, inventory: &ClusterInventory) -> Plan {
    let plan = planner::plan(clusterfile, image, inventory, &[], NonZeroUsize::MIN).unwrap();
    check::check(&plan).unwrap();
    plan
}

pub(crate) fn expect(story: &str, found: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/plans")
        .join(format!("{story}.txt"));
    let found = anstream::adapter::strip_str(found).to_string();
    if std::env::var_os("GANTRY_WRITE_EXPECTED").is_some() {
        std::fs::write(path, found).unwrap();
    } else {
        assert_eq!(
            std::fs::read_to_string(path).unwrap_or_default(),
            found,
            "{story}"
        );
    }
}

/// Titles of the steps to run, each once, in order.
pub(crate) fn to_run(plan: &Plan) -> Vec<String> {
    let mut titles: Vec<String> = plan
        .steps()
        .filter(|step| step.is_to_do())
        .map(|step| step.title.clone())
        .collect();
    titles.dedup();
    titles
}
