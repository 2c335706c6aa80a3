//! Plans for hosts in many states, as text. `tests/plans/STORY.txt` is what people see.
//!
//! `GANTRY_WRITE_EXPECTED=1 cargo test` writes them anew; read the difference before you keep it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::net::IpAddr;

use gantry::clusterfile::Clusterfile;
use gantry::inventory::{ClusterInventory, HostReport, HostState};
use gantry::plan::preflight::{self, Check};
use gantry::plan::{
    ImageCommands, ImageKubernetes, KubeadmFile, Plan, PlanImage, PlanLayer, check, planner, refresh, render,
    reset,
};
use gantry_model::{
    Digest, DiskSpace, Generation, GenerationId, HostFacts, Inventory, LayerDescriptor, ListeningPort,
    ScriptOutcome, StepAction, StepOutcome, StepRecord, TocLocation,
};

const MIB: u64 = 1 << 20;

fn clusterfile(image: &str, nodes: usize) -> Clusterfile {
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
fn image(name: &str, layers: &[&str], scripts: &[&str]) -> PlanImage {
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
        scripts: scripts.iter().map(|&script| script.to_owned()).collect(),
        templates: [].into(),
        template_mistakes: vec![],
        kubernetes: None,
        commands: None,
    }
}

fn first_image() -> PlanImage {
    let scripts = [
        "init.sh",
        "docker.sh",
        "init-kube.sh",
        "init-registry.sh",
        "clean.sh",
    ];
    image("kubernetes:v1.19.8", &["base", "bin"], &scripts)
}

fn second_image() -> PlanImage {
    let scripts = [
        "init.sh",
        "docker.sh",
        "init-kube.sh",
        "init-registry.sh",
        "clean.sh",
    ];
    image("my-kubernetes:v1", &["base", "bin", "daemon.json"], &scripts)
}

fn report(host: IpAddr) -> HostReport {
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
            },
            layers: vec![],
            partial_layers: vec![],
            generations: vec![],
            current: vec![],
            steps: vec![],
        },
        drift: vec![],
        skew_ms: 0,
        path: "quic".into(),
    }
}

fn fresh(clusterfile: &Clusterfile) -> ClusterInventory {
    let host = |address: IpAddr| (address, HostState::Reached(Box::new(report(address))));
    ClusterInventory {
        hosts: clusterfile.hosts.iter().map(|h| host(h.address)).collect(),
    }
}

fn on<'a>(inventory: &'a mut ClusterInventory, host: &str) -> &'a mut HostReport {
    match inventory.hosts.get_mut(&host.parse().unwrap()) {
        Some(HostState::Reached(report)) => report,
        other => panic!("{other:?}"),
    }
}

/// What the hosts report after `plan` was executed; a step for which `fails` gives an outcome ends so.
fn execute(plan: &Plan, inventory: &mut ClusterInventory, fails: impl Fn(&str, &str) -> Option<StepOutcome>) {
    for step in plan.steps().filter(|step| step.is_to_do()) {
        let host = step.host.to_string();
        let report = on(inventory, &host);
        let failure = fails(&host, &step.title);
        let went_well = failure.is_none();
        let at = i64::try_from(report.inventory.steps.len()).unwrap();
        report.inventory.steps.retain(|record| record.id != step.id);
        report.inventory.steps.push(StepRecord {
            id: step.id,
            cluster: step.step.action.cluster().cloned(),
            title: step.title.clone(),
            started_at: 100 + at,
            ended_at: Some(100 + at),
            outcome: Some(failure.unwrap_or(StepOutcome::Done { generation: None })),
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

fn well(_: &str, _: &str) -> Option<StepOutcome> {
    None
}

fn plan(clusterfile: &Clusterfile, image: &PlanImage, inventory: &ClusterInventory) -> Plan {
    let plan = planner::plan(clusterfile, image, inventory, &[]).unwrap();
    check::check(&plan).unwrap();
    plan
}

fn expect(story: &str, found: &str) {
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

#[test]
fn bare_hosts_get_everything() {
    let clusterfile = clusterfile("kubernetes:v1.19.8", 2);
    expect(
        "first-apply",
        &render::render(&plan(&clusterfile, &first_image(), &fresh(&clusterfile))),
    );
}

#[test]
fn a_second_apply_has_nothing_to_do() {
    let clusterfile = clusterfile("kubernetes:v1.19.8", 2);
    let mut inventory = fresh(&clusterfile);
    execute(
        &plan(&clusterfile, &first_image(), &inventory),
        &mut inventory,
        well,
    );
    let again = plan(&clusterfile, &first_image(), &inventory);
    assert_eq!(again.to_do(), 0);
    expect("unchanged", &render::render(&again));
}

#[test]
fn a_new_host_is_the_only_one_that_changes() {
    let two = clusterfile("kubernetes:v1.19.8", 1);
    let mut inventory = fresh(&two);
    execute(&plan(&two, &first_image(), &inventory), &mut inventory, well);
    let three = clusterfile("kubernetes:v1.19.8", 2);
    let new: IpAddr = "10.0.0.4".parse().unwrap();
    inventory
        .hosts
        .insert(new, HostState::Reached(Box::new(report(new))));
    let plan = plan(&three, &first_image(), &inventory);
    assert!(
        plan.steps()
            .filter(|step| step.is_to_do())
            .all(|step| step.host == new)
    );
    expect("new-host", &render::render(&plan));
}

#[test]
fn another_image_brings_its_new_layer_and_runs_scripts_again_and_so_does_the_way_back() {
    let first = clusterfile("kubernetes:v1.19.8", 1);
    let second = clusterfile("my-kubernetes:v1", 1);
    let mut inventory = fresh(&first);
    let plan_a = plan(&first, &first_image(), &inventory);
    execute(&plan_a, &mut inventory, well);
    let plan_b = plan(&second, &second_image(), &inventory);
    expect("new-image", &render::render(&plan_b));
    execute(&plan_b, &mut inventory, well);

    let back = plan(&first, &first_image(), &inventory);
    expect("first-image-again", &render::render(&back));
    let old: Vec<_> = plan_a.steps().map(|step| step.id).collect();
    let to_do: Vec<_> = back.steps().filter(|step| step.is_to_do()).collect();
    assert!(
        to_do.iter().all(|step| !old.contains(&step.id)),
        "the journals would call these steps done"
    );
    execute(&back, &mut inventory, well);
    assert_eq!(plan(&first, &first_image(), &inventory).to_do(), 0);
    let forth = plan(&second, &second_image(), &inventory);
    execute(&forth, &mut inventory, well);
    assert_eq!(plan(&second, &second_image(), &inventory).to_do(), 0);
}

#[test]
fn a_failed_script_runs_again_and_what_is_done_stays_done() {
    let clusterfile = clusterfile("kubernetes:v1.19.8", 2);
    let mut inventory = fresh(&clusterfile);
    let failed = StepOutcome::Script(ScriptOutcome::Exited(1));
    let fails = |host: &str, title: &str| {
        let wanted = host == "10.0.0.3" && title == "init.sh";
        (wanted || title == "init-registry.sh").then(|| failed.clone())
    };
    execute(
        &plan(&clusterfile, &first_image(), &inventory),
        &mut inventory,
        fails,
    );
    on(&mut inventory, "10.0.0.4")
        .inventory
        .steps
        .iter_mut()
        .for_each(|record| {
            if record.title == "init.sh" {
                record.outcome = Some(StepOutcome::Unknown);
            }
        });
    expect(
        "failed-scripts",
        &render::render(&plan(&clusterfile, &first_image(), &inventory)),
    );
}

#[test]
fn a_changed_hosts_file_is_mended_without_running_scripts() {
    let clusterfile = clusterfile("kubernetes:v1.19.8", 1);
    let mut inventory = fresh(&clusterfile);
    execute(
        &plan(&clusterfile, &first_image(), &inventory),
        &mut inventory,
        well,
    );
    on(&mut inventory, "10.0.0.3")
        .drift
        .push("hosts entries: the block was changed by hand".into());
    let mend = plan(&clusterfile, &first_image(), &inventory);
    expect("drifted-hosts-entries", &render::render(&mend));
    execute(&mend, &mut inventory, well);
    assert_eq!(plan(&clusterfile, &first_image(), &inventory).to_do(), 0);
    on(&mut inventory, "10.0.0.3")
        .drift
        .push("rootfs: not mounted".into());
    expect(
        "drifted-rootfs",
        &render::render(&plan(&clusterfile, &first_image(), &inventory)),
    );
}

#[test]
fn a_rootfs_that_failed_to_change_leaves_the_old_one_valid() {
    let first = clusterfile("kubernetes:v1.19.8", 1);
    let second = clusterfile("my-kubernetes:v1", 1);
    let mut inventory = fresh(&first);
    execute(&plan(&first, &first_image(), &inventory), &mut inventory, well);
    let fails = |_: &str, title: &str| (title != "stage").then(|| StepOutcome::Failed("no mount".into()));
    execute(&plan(&second, &second_image(), &inventory), &mut inventory, fails);
    let rootfs: Vec<_> = plan(&first, &first_image(), &inventory).waves[1].steps.clone();
    assert!(rootfs.iter().all(|step| !step.is_to_do()), "{rootfs:?}");
}

#[test]
fn images_without_init_get_their_runtime_script_and_init_kube() {
    let clusterfile = clusterfile("kubernetes:v1.22", 1);
    let image = image(
        "kubernetes:v1.22",
        &["base"],
        &["containerd.sh", "init-kube.sh", "init-registry.sh"],
    );
    expect(
        "no-init",
        &render::render(&plan(&clusterfile, &image, &fresh(&clusterfile))),
    );
    let nothing = self::image("app:v1", &["base"], &[]);
    let error = planner::plan(&clusterfile, &nothing, &fresh(&clusterfile), &[]).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("neither scripts/init.sh nor scripts/docker.sh"),
        "{error}"
    );
}

#[test]
fn a_hundred_hosts_fit_on_a_screen() {
    let clusterfile = clusterfile("kubernetes:v1.19.8", 99);
    let mut inventory = fresh(&clusterfile);
    let begun = (Digest::of(b"bin"), 7);
    on(&mut inventory, "10.0.0.7")
        .inventory
        .partial_layers
        .push(begun);
    expect(
        "hundred-hosts",
        &render::render(&plan(&clusterfile, &first_image(), &inventory)),
    );
}

#[test]
fn scripts_get_their_arguments_and_environment() {
    let clusterfile = clusterfile("kubernetes:v1.19.8", 1);
    let plan = plan(&clusterfile, &first_image(), &fresh(&clusterfile));
    let text: Vec<String> = plan
        .steps()
        .filter_map(|step| match &step.step.action {
            StepAction::RunScript(script) => {
                let env: Vec<String> = script
                    .env
                    .iter()
                    .map(|(name, value)| format!("  {name}={value}"))
                    .collect();
                Some(format!(
                    "{}: {} {}\n{}\n",
                    step.host,
                    script.path,
                    script.args.join(" "),
                    env.join("\n")
                ))
            }
            StepAction::WriteHostsEntries { entries, .. } => {
                let line = |entry: &gantry_model::HostsEntry| {
                    format!("  {} {}", entry.address, entry.names.join(" "))
                };
                let lines: Vec<String> = entries.iter().map(line).collect();
                Some(format!("{}: hosts entries\n{}\n", step.host, lines.join("\n")))
            }
            _ => None,
        })
        .collect();
    expect("contract", &text.join("\n"));
}

#[test]
fn a_cluster_is_taken_down_once() {
    let clusterfile = clusterfile("kubernetes:v1.19.8", 1);
    let mut inventory = fresh(&clusterfile);
    let known = |digest: &Digest| (*digest == first_image().digest).then(first_image);
    assert_eq!(reset::plan(&clusterfile, &inventory, known).to_do(), 0);
    execute(
        &plan(&clusterfile, &first_image(), &inventory),
        &mut inventory,
        well,
    );
    let down = reset::plan(&clusterfile, &inventory, known);
    check::check(&down).unwrap();
    expect("reset", &render::render(&down));
    let ids = |plan: &Plan| plan.steps().map(|step| step.id).collect::<Vec<_>>();
    assert_eq!(
        ids(&down),
        ids(&reset::plan(&clusterfile, &inventory, known)),
        "an interrupted reset goes on"
    );
    execute(
        &plan(&clusterfile, &second_image(), &inventory),
        &mut inventory,
        well,
    );
    let again = reset::plan(&clusterfile, &inventory, |_| Some(first_image()));
    assert!(
        ids(&again).iter().all(|id| !ids(&down).contains(id)),
        "the next reset is another one"
    );
}

#[test]
fn preflight_finds_everything_in_one_pass() {
    let clusterfile = clusterfile("kubernetes:v1.19.8", 5);
    let mut inventory = fresh(&clusterfile);
    on(&mut inventory, "10.0.0.2")
        .inventory
        .facts
        .ports
        .push(ListeningPort {
            port: 5000,
            udp: false,
        });
    on(&mut inventory, "10.0.0.3").inventory.facts.arch = "arm64".into();
    on(&mut inventory, "10.0.0.3").inventory.facts.overlay = false;
    on(&mut inventory, "10.0.0.4").inventory.facts.store_disk.free = 500 * MIB;
    on(&mut inventory, "10.0.0.4").skew_ms = -95_000;
    on(&mut inventory, "10.0.0.5").inventory.facts.missing_commands = vec!["iptables".into(), "tar".into()];
    on(&mut inventory, "10.0.0.6").inventory.facts.machine_id = "id-10.0.0.5".into();
    let lost = "10.0.0.7".parse().unwrap();
    inventory.hosts.insert(
        lost,
        HostState::Unreachable("cannot reach the agent at 10.0.0.7:7443: refused".into()),
    );
    let planned = plan(&clusterfile, &first_image(), &inventory);
    let findings = preflight::preflight(&planned, &first_image(), &inventory, &[]);
    expect("preflight", &preflight::render(&findings));
    let skipped = preflight::preflight(&planned, &first_image(), &inventory, &[Check::Disk, Check::Clock]);
    assert_eq!(skipped.len() + 2, findings.len());

    // Ports are nobody else's once the cluster is on the host.
    let mut applied = fresh(&clusterfile);
    execute(&plan(&clusterfile, &first_image(), &applied), &mut applied, well);
    on(&mut applied, "10.0.0.2")
        .inventory
        .facts
        .ports
        .push(ListeningPort {
            port: 5000,
            udp: false,
        });
    assert_eq!(preflight::preflight(&planned, &first_image(), &applied, &[]), []);
}

#[test]
fn a_saved_plan_comes_back_and_notices_what_changed_since() {
    let clusterfile = clusterfile("kubernetes:v1.19.8", 1);
    let mut inventory = fresh(&clusterfile);
    let saved = plan(&clusterfile, &first_image(), &inventory);
    let text = serde_json::to_string(&saved).unwrap();
    let mut read: Plan = serde_json::from_str(&text).unwrap();
    assert_eq!(read, saved);
    check::check_current(&read, &inventory).unwrap();

    execute(&saved, &mut inventory, well);
    check::check_current(&read, &inventory).unwrap();
    refresh(&mut read, &inventory);
    assert_eq!(read.to_do(), 0);

    execute(
        &plan(&clusterfile, &second_image(), &inventory),
        &mut inventory,
        well,
    );
    assert!(
        check::check_current(&saved, &inventory)
            .unwrap_err()
            .to_string()
            .contains("out of date")
    );

    let forged = text.replace("/var/lib/docker", "/var/lib/evil");
    let forged: Plan = serde_json::from_str(&forged).unwrap();
    assert!(
        check::check(&forged)
            .unwrap_err()
            .to_string()
            .contains("was changed after planning")
    );
}

fn templated(name: &str, layers: &[&str]) -> PlanImage {
    PlanImage {
        templates: ["etc/kubeadm.yml.tmpl".to_owned()].into(),
        ..image(name, layers, &["init.sh", "docker.sh", "init-kube.sh"])
    }
}

/// Titles of the steps to run, each once, in order.
fn to_run(plan: &Plan) -> Vec<String> {
    let mut titles: Vec<String> = plan
        .steps()
        .filter(|step| step.is_to_do())
        .map(|step| step.title.clone())
        .collect();
    titles.dedup();
    titles
}

#[test]
fn templates_follow_the_rootfs_and_the_environment() {
    let pods = |range: &str| {
        let mut clusterfile = clusterfile("kubernetes:v1.20.2", 1);
        clusterfile.hosts.truncate(1);
        clusterfile.env.insert("PodCIDR".into(), range.into());
        clusterfile
    };
    let (a, b) = (pods("100.64.0.0/10"), pods("10.244.0.0/16"));
    let (first, second) = (
        templated("kubernetes:v1.20.2", &["base"]),
        templated("kubernetes:v1.20.3", &["base", "more"]),
    );
    let mut inventory = fresh(&a);
    let fresh_plan = plan(&a, &first, &inventory);
    expect("templates", &render::render(&fresh_plan));
    execute(&fresh_plan, &mut inventory, well);
    assert_eq!(plan(&a, &first, &inventory).to_do(), 0);

    // There and back again: what is rendered now counts, not what was once.
    for clusterfile in [&b, &a, &b] {
        let changed = plan(clusterfile, &first, &inventory);
        assert_eq!(to_run(&changed), ["templates", "init.sh"]);
        execute(&changed, &mut inventory, well);
        assert_eq!(plan(clusterfile, &first, &inventory).to_do(), 0);
    }

    // A new generation has none of them, whatever the values; cut off before they were rendered, too.
    let upgrade = plan(&b, &second, &inventory);
    assert_eq!(to_run(&upgrade), ["stage", "rootfs", "templates", "init.sh"]);
    let cut_off =
        |_: &str, title: &str| (title != "stage" && title != "rootfs").then_some(StepOutcome::Unknown);
    execute(&upgrade, &mut inventory, cut_off);
    let again = plan(&b, &second, &inventory);
    assert_eq!(to_run(&again), ["templates", "init.sh"]);
    execute(&again, &mut inventory, well);
    assert_eq!(plan(&b, &second, &inventory).to_do(), 0);
}

/// Hosts by role, and an image that makes them a cluster.
fn kubernetes(masters: u8, nodes: u8, documents: &str) -> (Clusterfile, PlanImage) {
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
    };
    let image = PlanImage {
        kubernetes: Some(kubernetes),
        ..first_image()
    };
    (Clusterfile::parse("Clusterfile", &text).unwrap().0, image)
}

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
fn hosts_leave_their_cluster_before_their_scripts_clean_up() {
    let (clusterfile, image) = kubernetes(1, 1, "");
    let mut inventory = fresh(&clusterfile);
    execute(&plan(&clusterfile, &image, &inventory), &mut inventory, well);
    let down = reset::plan(&clusterfile, &inventory, |_| Some(image.clone()));
    expect("kubernetes-reset", &render::render(&down));
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
fn a_host_that_is_no_longer_in_the_file_leaves() {
    let (whole, image) = kubernetes(1, 2, "");
    let mut inventory = fresh(&whole);
    execute(&plan(&whole, &image, &inventory), &mut inventory, well);
    let (smaller, image) = kubernetes(1, 1, "");
    let gone: IpAddr = "10.0.0.4".parse().unwrap();
    let leave = |inventory: &ClusterInventory| {
        let plan = planner::plan(&smaller, &image, inventory, &[gone]).unwrap();
        check::check(&plan).unwrap();
        plan
    };
    let first = leave(&inventory);
    expect("leave", &render::render(&first));
    assert!(
        first
            .clone()
            .without_left()
            .hosts
            .iter()
            .all(|host| host.address != gone)
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
fn commands_run_on_the_first_master_in_order_and_once() {
    let (clusterfile, image) = kubernetes(1, 1, "");
    let commands = ImageCommands {
        lines: vec![
            "kubectl apply -f manifests/network.yaml".into(),
            "helm install db charts/db".into(),
        ],
        manifest: "{}".into(),
        config: "{}".into(),
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
