//! `make demo`: three bare hosts become a cluster before your eyes.
//!
//! Every line after a prompt is a command a person would type: `$` at the operator's machine, `host1#` on a host.
//! Ends with a status other than 0 as soon as anything fails, and leaves nothing behind either way.

mod stage;

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use gantry_integration::{Testbed, demo_image::demo_image, packages::Packages};

use stage::Stage;

fn main() -> ExitCode {
    match play() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nthe demonstration failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn play() -> Result<()> {
    let stage = Stage::open();
    stage.chapter("Three hosts boot: systemd, a disk and a network of their own, nothing else");
    let image = demo_image()?;
    let bed = Testbed::start(3)?;
    for host in bed.hosts() {
        stage.on(host, "uname -nrm; ip -brief address show host0")?;
    }

    stage.chapter("The agent is installed on each from its package");
    let package = Packages::find()?.agent;
    let file = package
        .file_name()
        .context("a package has a name")?
        .to_string_lossy()
        .into_owned();
    for host in bed.hosts() {
        std::fs::copy(&package, host.disk().join("root").join(&file))?;
        stage.on(host, &format!("dpkg --install {file}"))?;
        host.wait_for_agent()?;
    }

    stage.chapter("A one-time token proves hosts and operator to each other");
    let token = stage.type_command(bed.operator(), "token create --ttl 1h --uses 3")?;
    for host in bed.hosts() {
        stage.on(host, &format!("echo {} >/etc/gantry/token", token.trim()))?;
    }
    let addresses: Vec<String> = bed
        .hosts()
        .iter()
        .map(|host| host.address().to_string())
        .collect();
    stage.type_command(bed.operator(), &format!("enroll {}", addresses.join(" ")))?;
    stage.type_command(bed.operator(), "agents")?;

    stage.chapter("A directory becomes a ClusterImage");
    std::os::unix::fs::symlink(&image, bed.operator().desk().join("rootfs"))?;
    stage.shell(bed.operator(), "ls rootfs rootfs/*/")?;
    stage.type_command(bed.operator(), "build -t demo:v1 rootfs")?;
    stage.type_command(bed.operator(), "images")?;

    stage.chapter("A Clusterfile is applied: every byte goes over QUIC, then the image's own scripts run");
    let address = |number| bed.host(number).address();
    let clusterfile = format!(
        "apiVersion: sealer.io/v2\nkind: Cluster\nmetadata:\n  name: demo\nspec:\n  image: demo:v1\n  hosts:\n    \
         - ips: [{}]\n      roles: [master]\n    - ips: [{}, {}]\n      roles: [node]\n",
        address(1),
        address(2),
        address(3)
    );
    bed.operator().put("Clusterfile", clusterfile)?;
    stage.shell(bed.operator(), "cat Clusterfile")?;
    stage.type_command(bed.operator(), "plan -f Clusterfile")?;
    stage.watch_command(bed.operator(), "apply -f Clusterfile -y --verbose")?;
    let status = stage.type_command(bed.operator(), "status")?;
    ensure!(
        status.to_lowercase().contains("quic"),
        "the status does not say that QUIC was used"
    );

    stage.chapter("A container starts on host3 from an image out of the cluster's own registry on host1");
    stage.on(
        bed.host(1),
        "docker ps --format '{{.Names}} {{.Image}} {{.Status}}'",
    )?;
    stage.on(bed.host(3), "grep sea.hub /etc/hosts")?;
    let greeting = stage.on(bed.host(3), "docker run --rm sea.hub:5000/hello:1.0")?;
    ensure!(
        greeting.contains("Hello from a container"),
        "the container did not greet"
    );

    stage.chapter("Applied again, nothing changes");
    stage.watch_command(bed.operator(), "apply -f Clusterfile -y")?;

    stage.chapter("And the hosts are given back");
    stage.watch_command(bed.operator(), "reset -f Clusterfile -y")?;
    stage.on(bed.host(3), "command -v dockerd || echo there is no docker here")?;
    stage.finish();
    Ok(())
}
