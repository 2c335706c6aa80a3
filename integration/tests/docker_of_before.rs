//! A host whose docker belongs to somebody else lends it to a cluster, and has it back as it was.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use gantry_integration::demo_image::demo_image;
use gantry_integration::{Host, Snapshot, Testbed, command, wait_until};

/// What a cluster's end leaves: the agent's own, and what docker keeps of images.
const EXCEPT: &[&str] = &["/var/lib/gantry", "/etc/gantry", "/srv/docker"];
/// What docker names anew whenever it starts a container.
const NAMED_BY_DOCKER: &[&str] = &["veth", "/run/docker/netns/", " dev docker0 "];
const LIMIT: Duration = Duration::from_secs(60);
/// Theirs: another place for data, and a setting that the image's own file does not have.
const CONFIGURATION: &str = r#"{"data-root": "/srv/docker", "labels": ["owner=somebody-else"]}"#;
const UNIT: &str = "[Unit]
Description=Docker of somebody else
[Service]
Type=notify
Environment=LD_LIBRARY_PATH=/opt/docker/lib
ExecStart=/usr/bin/dockerd
Delegate=yes
KillMode=process
Restart=always
[Install]
WantedBy=multi-user.target
";

/// Installs the docker of `image` as somebody else would have, with a container that uses a folder and a mount of its host.
fn install(host: &Host, image: &Path) {
    let disk = host.disk();
    let copy = |from: PathBuf, to: &str| {
        let to = disk.join(to);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        let copied = command::run(Command::new("cp").arg("-a").args([&from, &to])).unwrap();
        assert!(copied.succeeded(), "{copied}");
    };
    for entry in fs::read_dir(image.join("cri")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let to = if name == "lib" { "opt/docker" } else { "usr/bin" };
        copy(image.join("cri").join(&name), &format!("{to}/{name}"));
    }
    copy(largest_blob(image), "root/layer");
    fs::create_dir_all(disk.join("etc/docker")).unwrap();
    fs::write(disk.join("etc/docker/daemon.json"), CONFIGURATION).unwrap();
    fs::write(disk.join("etc/systemd/system/docker.service"), UNIT).unwrap();
    host.must(
        "systemctl daemon-reload && systemctl enable --now docker && \
         mkdir -p /srv/theirs && mount -t tmpfs theirs /srv/theirs && echo theirs >/srv/theirs/file && \
         docker import - theirs:1 </root/layer && rm /root/layer && \
         docker run --detach --restart=always --name theirs --volume /srv/theirs:/srv/theirs theirs:1 \
             /bin/busybox tail -f /srv/theirs/file",
    )
    .unwrap();
}

/// The one that holds a program.
fn largest_blob(image: &Path) -> PathBuf {
    let found = walk(&image.join("registry"));
    found
        .into_iter()
        .max_by_key(|path| fs::metadata(path).unwrap().len())
        .unwrap()
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] })
        .collect()
}

/// That their container runs, and reads their mount.
fn serves(host: &Host) {
    wait_until("the container of before runs", LIMIT, || {
        let read = host.run("docker exec theirs /bin/busybox cat /srv/theirs/file")?;
        Ok((read.stdout.trim() == "theirs").then_some(()))
    })
    .unwrap();
}

#[test]
fn docker_that_was_there_before_keeps_its_containers_and_has_its_configuration_back_after_a_reset() {
    let bed = Testbed::enrolled(1).unwrap();
    let (operator, host) = (bed.operator(), bed.host(1));
    let image = demo_image().unwrap();
    install(host, &image);
    serves(host);
    let before = Snapshot::of(host, EXCEPT).unwrap();

    operator
        .must(&format!("build -t demo:v1 {}", image.display()))
        .unwrap();
    operator.clusterfile("demo:v1", &[host]).unwrap();
    operator.apply().unwrap().ok().unwrap();
    serves(host);
    host.must("grep -q sea.hub:5000 /etc/docker/daemon.json && docker inspect sealer-registry")
        .unwrap();
    assert_eq!(operator.apply().unwrap().ok().unwrap().steps(), 0);

    operator.must("reset -f Clusterfile -y").unwrap();
    serves(host);
    let labels = host.must("docker info --format '{{.Labels}}'").unwrap();
    assert_eq!(labels.trim(), "[owner=somebody-else]");
    let after = Snapshot::of(host, EXCEPT).unwrap();
    let mut changes = after.changes_since(&before);
    changes.retain(|change| !NAMED_BY_DOCKER.iter().any(|name| change.contains(name)));
    assert_eq!(changes, Vec::<String>::new());
}
