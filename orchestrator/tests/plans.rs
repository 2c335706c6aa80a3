//! Plans for hosts in many states, as text. `tests/plans/STORY.txt` is what people see.
//!
//! `GANTRY_WRITE_EXPECTED=1 cargo test` writes them anew; read the difference before you keep it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod planning;

use std::net::IpAddr;
use std::num::NonZeroUsize;

use gantry::inventory::HostState;
use gantry::plan::preflight::{self, Check};
use gantry::plan::{Plan, PlanImage, check, planner, refresh, render, reset};
use gantry_model::{Digest, ListeningPort, ScriptOutcome, StepAction, StepOutcome};

use planning::*;

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

/// It is the same step: what was done in the rootfs builds on that, and has ended.
#[test]
fn a_rootfs_that_is_lost_and_at_first_not_made_again_is_no_other_one() {
    let clusterfile = clusterfile("my-kubernetes:v1", 1);
    let mut inventory = fresh(&clusterfile);
    for image in [first_image(), second_image()] {
        execute(&plan(&clusterfile, &image, &inventory), &mut inventory, well);
    }
    let lost = || vec!["rootfs: generation 2 is not mounted".to_owned()];
    on(&mut inventory, "10.0.0.2").drift = lost();
    let again = plan(&clusterfile, &second_image(), &inventory);
    assert_eq!(to_run(&again), ["rootfs"]);
    for _ in 0..2 {
        execute(&again, &mut inventory, |_, title| {
            (title == "rootfs").then(|| StepOutcome::Failed("no space".into()))
        });
        on(&mut inventory, "10.0.0.2").drift = lost();
        let after = plan(&clusterfile, &second_image(), &inventory);
        assert_eq!(to_run(&after), ["rootfs"]);
        let ids = |plan: &Plan| plan.steps().map(|step| step.id).collect::<Vec<_>>();
        assert_eq!(ids(&after), ids(&again));
    }
    execute(&again, &mut inventory, well);
    assert_eq!(plan(&clusterfile, &second_image(), &inventory).to_do(), 0);
    // The way back is another step, which the scripts of then do not build on.
    let back = plan(&clusterfile, &first_image(), &inventory);
    assert!(to_run(&back).len() > 1, "{:?}", to_run(&back));
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
    let error = planner::plan(
        &clusterfile,
        &nothing,
        &fresh(&clusterfile),
        &[],
        NonZeroUsize::MIN,
    )
    .unwrap_err();
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
    // All of it is here, and was touched.
    let image = first_image();
    let touched = &image.layers[0];
    let touched = (touched.descriptor.digest, touched.unpacked);
    on(&mut inventory, "10.0.0.9")
        .inventory
        .partial_layers
        .push(touched);
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
    assert_eq!(reset::plan(&clusterfile, &[], &inventory, known).to_do(), 0);
    execute(
        &plan(&clusterfile, &first_image(), &inventory),
        &mut inventory,
        well,
    );
    let down = reset::plan(&clusterfile, &[], &inventory, known);
    check::check(&down).unwrap();
    expect("reset", &render::render(&down));
    let ids = |plan: &Plan| plan.steps().map(|step| step.id).collect::<Vec<_>>();
    assert_eq!(
        ids(&down),
        ids(&reset::plan(&clusterfile, &[], &inventory, known)),
        "an interrupted reset goes on"
    );
    execute(
        &plan(&clusterfile, &second_image(), &inventory),
        &mut inventory,
        well,
    );
    let again = reset::plan(&clusterfile, &[], &inventory, |_| Some(first_image()));
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
