//! `make demo`: three bare hosts become a Kubernetes cluster before your eyes.
//!
//! Every line after a prompt is a command a person would type: `$` at the operator's machine, `host1#` on a host.
//! Ends with a status other than 0 as soon as anything fails, and leaves nothing behind either way.

mod stage;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gantry_integration::kubernetes_image::{Runtime, kubernetes_image};
use gantry_integration::{Testbed, packages::Packages, wait_until};

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
    let image = kubernetes_image(Runtime::Docker)?;
    let bed = Testbed::start(3)?;
    for host in bed.hosts() {
        host.prepare_for_kubernetes()?;
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
    stage.shell(
        bed.operator(),
        "cat rootfs/Metadata; ls rootfs rootfs/bin rootfs/etc rootfs/scripts",
    )?;
    stage.type_command(bed.operator(), "build -t kubernetes:v1.20.2 rootfs")?;
    stage.type_command(bed.operator(), "images")?;
    stage.type_command(bed.operator(), "check kubernetes:v1.20.2")?;

    stage.chapter("A Clusterfile is applied: every byte over QUIC, the image's own scripts, then kubeadm");
    bed.write_clusterfile(1, 2)?;
    stage.shell(bed.operator(), "cat Clusterfile")?;
    stage.type_command(bed.operator(), "plan -f Clusterfile")?;
    stage.watch_command(bed.operator(), "apply -f Clusterfile -y --verbose")?;
    let status = stage.type_command(bed.operator(), "status")?;
    ensure!(
        status.to_lowercase().contains("quic"),
        "the status does not say that QUIC was used"
    );

    stage.chapter("Every host is a node of the cluster, and ready");
    let (first, kubectl) = (
        bed.host(1),
        "kubectl --kubeconfig /etc/kubernetes/admin.conf --cache-dir /run/kubectl",
    );
    let nodes = stage.on(first, &format!("{kubectl} get nodes --output wide"))?;
    ensure!(nodes.matches(" Ready ").count() == 3, "not every node is ready");
    stage.on(first, &format!("{kubectl} get pods --all-namespaces"))?;

    stage.chapter("A pod starts on host3 from an image out of the cluster's own registry on host1");
    stage.on(bed.host(3), "grep sea.hub /etc/hosts")?;
    let greeting = stage.on(bed.host(3), "docker run --rm sea.hub:5000/hello:1.0")?;
    ensure!(
        greeting.contains("Hello from a container"),
        "the container did not greet"
    );
    let pod = "run hello --image=sea.hub:5000/hello:1.0 --port=8080 --expose \
               --overrides='{\"spec\":{\"nodeName\":\"host3\"}}' --command -- /bin/busybox httpd -f -p 8080 -h /www";
    stage.on(first, &format!("{kubectl} {pod}"))?;
    stage.on(
        first,
        &format!("{kubectl} wait --for=condition=Ready --timeout=180s pod/hello"),
    )?;
    stage.on(first, &format!("{kubectl} get pod,service hello --output wide"))?;

    stage.chapter("And answers on host2, through its Service");
    let service = format!("{kubectl} get service hello --output jsonpath={{.spec.clusterIP}}");
    let address = first.must(&service)?;
    let page = wait_until("the application answers", Duration::from_secs(60), || {
        bed.host(2).fetch_page(&address)
    })?;
    println!("\nhost2# fetch http://{address}:8080/\n{page}");

    stage.chapter("Applied again, nothing changes");
    stage.watch_command(bed.operator(), "apply -f Clusterfile -y")?;

    stage.chapter("And the hosts are given back");
    stage.watch_command(bed.operator(), "reset -f Clusterfile -y")?;
    stage.on(bed.host(3), "command -v dockerd || echo there is no docker here")?;
    stage.finish();
    Ok(())
}
