//! Agents serve the images of a rootfs to their own hosts: real docker, real containerd, and docker's own registry beside
//! them for comparison.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;
use std::time::Duration;

use gantry_integration::{Host, ImageTree, Options, RegistryTree, Snapshot, Testbed, wait_until};

/// Hosts with container runtimes of their own; the image brings none.
const PACKAGES: &[&str] = &["containerd", "curl", "docker-registry", "docker.io"];
/// The agent's own, and what runtimes keep of what they pulled.
const EXCEPT: &[&str] = &[
    "/var/lib/gantry",
    "/etc/gantry",
    "/var/lib/docker",
    "/var/lib/containerd",
];
/// Main process of the service, which is another one after a restart.
const PROCESS: &str = "systemctl show --property=MainPID --value gantry-registry-demo";
const LIMIT: Duration = Duration::from_secs(60);

/// Enrolled hosts with docker and containerd, an image with a registry's tree and without a script that serves it, and a
/// Clusterfile for them.
fn testbed(hosts: u8) -> (Testbed, RegistryTree) {
    let bed = Testbed::enrolled_with(&Options {
        hosts,
        extra_packages: PACKAGES,
        ..Options::default()
    })
    .unwrap();
    for host in bed.hosts() {
        // It would take the port.
        host.must("systemctl disable --now docker-registry").unwrap();
        wait_until("docker runs", LIMIT, || {
            Ok(host.run("docker info")?.succeeded().then_some(()))
        })
        .unwrap();
    }
    let operator = bed.operator();
    let image = operator.desk().join("image");
    ImageTree::at(&image)
        .unwrap()
        .script("init.sh", "echo ready\n")
        .unwrap();
    let tree = RegistryTree::write(&image.join("registry")).unwrap();
    operator.must("build -t demo:v1 image").unwrap();
    operator
        .clusterfile("demo:v1", &bed.hosts().iter().collect::<Vec<_>>())
        .unwrap();
    (bed, tree)
}

#[test]
fn docker_and_containerd_pull_from_the_agent_of_their_own_host() {
    let (bed, tree) = testbed(2);
    let (operator, first, second) = (bed.operator(), bed.host(1), bed.host(2));
    let before: Vec<_> = bed
        .hosts()
        .iter()
        .map(|host| Snapshot::of(host, EXCEPT).unwrap())
        .collect();
    operator.apply().unwrap().ok().unwrap();

    let hello = "sea.hub:5000/hello";
    let references = [
        format!("{hello}:1.0"),
        format!("{hello}@{}", tree.manifest),
        format!("{hello}:docker"),
        format!("{hello}:index"),
        format!("{hello}:typed-index"),
        format!("{hello}:list"),
        "sea.hub:5000/library/nested/hello:1.0".to_owned(),
    ];
    for host in bed.hosts() {
        let name = host.must("getent ahostsv4 sea.hub").unwrap();
        assert!(name.starts_with("127.0.0.1 "), "{name}");
        for reference in &references {
            host.must(&format!("docker pull --quiet {reference}")).unwrap();
            let said = host
                .must(&format!("docker run --rm --network none {reference}"))
                .unwrap();
            assert!(said.contains("Hello from a container"), "{reference}: {said}");
            host.must(&format!("docker rmi --force {reference}")).unwrap();
            host.must(&format!(
                "ctr image pull --hosts-dir /etc/containerd/certs.d {reference} && ctr image rm --sync {reference}"
            ))
            .unwrap();
        }
        // It is the certificate that is trusted, and only by those who were told of it.
        let distrusted = host.run(&format!("ctr image pull {hello}:1.0")).unwrap();
        assert!(distrusted.stderr.contains("x509"), "{distrusted}");
        let written = host
            .run(&format!(
                "docker pull --quiet {hello}:1.0 && docker push {hello}:1.0"
            ))
            .unwrap();
        assert!(!written.succeeded(), "{written}");
    }
    assert_eq!(operator.apply().unwrap().ok().unwrap().steps(), 0);

    // One that somebody stopped, or whose trust somebody took away, is seen and put right.
    for (by_hand, seen) in [
        (
            "systemctl disable --now gantry-registry-demo",
            "gantry-registry-demo.service does not answer at 127.0.0.1:5000",
        ),
        (
            "rm /etc/docker/certs.d/sea.hub:5000/ca.crt",
            "container runtimes do not trust sea.hub:5000 any more",
        ),
    ] {
        second.must(by_hand).unwrap();
        let status = operator.gantry("status").unwrap();
        assert!(status.all_output().contains(seen), "{seen}: {status}");
        let applied = operator.apply().unwrap().ok().unwrap();
        assert_eq!(applied.steps_on(second), ["registry"], "{by_hand}");
        pulls_again(second, hello);
    }

    // A pull goes on while the agent restarts: its client takes the rest only then.
    let process = first.must(PROCESS).unwrap();
    first.must(&format!(
        "systemd-run --unit=pull --property=StandardOutput=file:/run/pulled bash -c \
         'set -o pipefail; curl --silent --show-error --fail --cacert /etc/docker/certs.d/sea.hub:5000/ca.crt {} | \
         {{ head -c 65536; until test -e /run/go-on; do sleep 0.1; done; cat; }}'",
        format_args!("https://sea.hub:5000/v2/hello/blobs/{}", tree.large)
    ))
    .unwrap();
    wait_until("the pull has begun", LIMIT, || {
        Ok(first.run("test -s /run/pulled")?.succeeded().then_some(()))
    })
    .unwrap();
    first
        .must("systemctl restart gantry-agent && { systemctl is-active pull || { journalctl --unit pull; false; }; } && touch /run/go-on")
        .unwrap();
    wait_until("the pull has ended", LIMIT, || {
        Ok((!first.run("systemctl is-active --quiet pull")?.succeeded()).then_some(()))
    })
    .unwrap();
    let sum = first
        .must("sha256sum /run/pulled; journalctl --unit pull --output cat")
        .unwrap();
    assert!(sum.starts_with(&tree.large.hex()), "{sum}");
    assert_eq!(first.must(PROCESS).unwrap(), process);

    // Whatever becomes of a host or of the service, the others and the service's next process serve.
    first.power_off().unwrap();
    second
        .must("systemctl kill --kill-who=main --signal=KILL gantry-registry-demo")
        .unwrap();
    pulls_again(second, hello);
    second.reboot().unwrap();
    pulls_again(second, hello);
    first.power_on().unwrap();
    pulls_again(first, hello);

    bed.hosts().iter().for_each(|host| host.wait_for_agent().unwrap());
    operator.must("reset -f Clusterfile -y").unwrap();
    for (host, before) in bed.hosts().iter().zip(&before) {
        let after = Snapshot::of(host, EXCEPT).unwrap();
        assert_eq!(
            after.changes_since(before),
            Vec::<String>::new(),
            "{}",
            host.name()
        );
        let left = host
            .run("ls -d /var/lib/gantry/registries/*; systemctl list-units --no-legend 'gantry-registry*'; pgrep --full 'gantry-agent registry'")
            .unwrap();
        assert_eq!(left.stdout, "", "{}", host.name());
    }
}

fn pulls_again(host: &Host, hello: &str) {
    wait_until("docker pulls", LIMIT, || {
        let pulled = host.run(&format!(
            "docker image rm --force {hello}:docker; docker pull --quiet {hello}:docker"
        ))?;
        Ok(pulled.succeeded().then_some(()))
    })
    .unwrap();
}

/// What a client sees of an answer.
#[derive(Debug, PartialEq)]
struct Seen {
    status: String,
    headers: BTreeMap<String, String>,
    body: String,
}

/// Headers that clients rely on.
const HEADERS: &[&str] = &[
    "accept-ranges",
    "content-length",
    "content-range",
    "content-type",
    "docker-content-digest",
    "docker-distribution-api-version",
    "etag",
    "link",
];

fn ask(host: &Host, base: &str, words: &str) -> Seen {
    // Bodies may be any bytes.
    let told = host
        .must(&format!(
            "cd /run && : >body && curl --silent --max-time 20 --cacert /etc/docker/certs.d/sea.hub:5000/ca.crt --path-as-is \
             --dump-header headers --output body {} && cat headers && echo && \
             if grep -qE '^.\"(errors|name|repositories)\"' body; then cat body; \
             else sha256sum <body; fi",
            words.replace("BASE", base)
        ))
        .unwrap();
    let (head, body) = told.split_once("\r\n\r\n").unwrap();
    let (status, headers) = head.split_once("\r\n").unwrap();
    let headers = headers.lines().filter_map(|line| {
        let (name, value) = line.trim().split_once(": ")?;
        let name = name.to_lowercase();
        HEADERS.contains(&&*name).then(|| (name, value.to_owned()))
    });
    // Of HEAD, curl has the headers in the place of a body.
    let body = if words.contains("--head") { "" } else { body };
    Seen {
        status: status.split(' ').nth(1).unwrap_or_default().to_owned(),
        headers: headers.collect(),
        body: body.trim().to_owned(),
    }
}

/// What a body in JSON says, its tags in order; none of any other body.
fn said(body: &str) -> Option<serde_json::Value> {
    let mut said: serde_json::Value = serde_json::from_str(body).ok()?;
    if let Some(tags) = said["tags"].as_array_mut() {
        tags.sort_by_key(ToString::to_string);
    }
    Some(said)
}

#[test]
fn answers_are_those_of_dockers_own_registry() {
    let (bed, tree) = testbed(1);
    let host = bed.host(1);
    bed.operator().apply().unwrap().ok().unwrap();
    host.must(
        "cat >/run/reference.yml <<END
version: 0.1
storage:
  filesystem: { rootdirectory: /var/lib/gantry/data/demo/rootfs/registry }
  maintenance: { readonly: { enabled: true } }
http: { addr: \"127.0.0.1:5001\" }
END
systemd-run --unit=reference docker-registry serve /run/reference.yml",
    )
    .unwrap();
    wait_until("docker's registry serves", LIMIT, || {
        Ok(host
            .run("curl --silent --fail http://127.0.0.1:5001/v2/")?
            .succeeded()
            .then_some(()))
    })
    .unwrap();
    let both = |words: &str| {
        (
            ask(host, "https://sea.hub:5000", words),
            ask(host, "http://127.0.0.1:5001", words),
        )
    };

    let every = format!("-H 'Accept: {}'", RegistryTree::every_kind());
    let docker_only = "-H 'Accept: application/vnd.docker.distribution.manifest.v2+json'";
    let (manifest, layer, config) = (tree.manifest, tree.layer, tree.config);
    let elsewhere = manifest.to_string().replace(&manifest.hex()[..8], "00000000");
    let blob = format!("BASE/v2/hello/blobs/{layer}");
    let small = format!("BASE/v2/hello/blobs/{config}");
    let mut words: Vec<String> = [
        "BASE/v2/",
        "--head BASE/v2/",
        "BASE/v2/_catalog",
        "'BASE/v2/_catalog?n=1'",
        "'BASE/v2/_catalog?n=1&last=hello'",
        "'BASE/v2/_catalog?n=0'",
        "'BASE/v2/_catalog?n=x'",
        "'BASE/v2/_catalog?n=5000'",
        "BASE/v2/hello/tags/list",
        "BASE/v2/library/nested/hello/tags/list",
        "BASE/v2/nothing/tags/list",
        "BASE/v2/library/nested/tags/list",
        "BASE/v2/hello/manifests/nothing",
        "BASE/v2/nothing/manifests/1.0",
        // Without a word on what the client takes.
        "BASE/v2/hello/manifests/1.0",
        "BASE/v2/hello/manifests/index",
        "BASE/v2/hello/manifests/typed-index",
        "-H 'Accept: */*' BASE/v2/hello/manifests/1.0",
        "BASE/v2/hello/blobs/sha256:xyz",
        "BASE/v2/hello/blobs/md5:d41d8cd98f00b204e9800998ecf8427e",
    ]
    .map(str::to_owned)
    .into();
    for tag in ["1.0", "docker", "index", "typed-index", "list"] {
        words.push(format!("{every} BASE/v2/hello/manifests/{tag}"));
        words.push(format!("{every} --head BASE/v2/hello/manifests/{tag}"));
    }
    words.extend([
        format!("{docker_only} BASE/v2/hello/manifests/docker"),
        format!("{docker_only} BASE/v2/hello/manifests/list"),
        format!("{docker_only} BASE/v2/hello/manifests/index"),
        format!("{docker_only} BASE/v2/hello/manifests/typed-index"),
        format!("{every} BASE/v2/hello/manifests/{manifest}"),
        format!("{every} --head BASE/v2/library/nested/hello/manifests/{manifest}"),
        format!("{every} BASE/v2/hello/manifests/{elsewhere}"),
        blob.clone(),
        format!("--head {blob}"),
        small.clone(),
        small.replace("sha256:", "sha256%3A"),
        format!("-H 'Range: bytes=0-99' {blob}"),
        format!("-H 'Range: bytes=1000000-' {blob}"),
        format!("-H 'Range: bytes=-7' {blob}"),
        format!("-H 'Range: bytes=0-99' -H 'If-Range: \"{layer}\"' {blob}"),
        format!("-H 'Range: bytes=0-99' -H 'If-Range: \"other\"' {blob}"),
        format!("BASE/v2/hello/blobs/{elsewhere}"),
        format!("BASE/v2/nothing/blobs/{layer}"),
        format!("--head BASE/v2/nothing/blobs/{layer}"),
    ]);
    for words in words {
        let (mut ours, mut reference) = both(&words);
        // Of an error and of a list, what it says counts, not in which order: docker's registry does not sort tags.
        if let (Some(a), Some(b)) = (said(&ours.body), said(&reference.body)) {
            assert_eq!(a, b, "{words}");
            for seen in [&mut ours, &mut reference] {
                seen.body.clear();
                seen.headers.remove("content-length");
            }
        }
        assert_eq!(ours, reference, "{words}");
    }

    // Here the words differ, not what is done.
    for words in [
        format!("{every} -H 'If-None-Match: \"{manifest}\"' BASE/v2/hello/manifests/1.0"),
        format!("-H 'If-None-Match: \"{layer}\"' {blob}"),
        "BASE/v2/UPPER/tags/list".into(),
        "BASE/v3/".into(),
        "-X PUT -d x BASE/v2/hello/manifests/1.0".into(),
        "-X DELETE BASE/v2/hello/manifests/1.0".into(),
        "-X POST BASE/v2/hello/blobs/uploads/".into(),
    ] {
        let (ours, reference) = both(&words);
        assert_eq!(ours.status, reference.status, "{words}");
    }
    // It leads such paths elsewhere within its own; here they lead nowhere at all.
    for path in [
        "/v2/../../etc/passwd",
        "/v2/hello/../hello/tags/list",
        "/v2/%2e%2e/manifests/x",
    ] {
        let (ours, reference) = both(&format!("BASE{path}"));
        assert_eq!((&*ours.status, &*reference.status), ("404", "301"), "{path}");
    }
    // It announces a body that never comes.
    for range in ["9999999-", "5-2"] {
        let ours = ask(
            host,
            "https://sea.hub:5000",
            &format!("-H 'Range: bytes={range}' {blob}"),
        );
        assert_eq!(ours.status, "416", "{range}: {ours:?}");
    }
    // Pages of tags are the specification's: docker's registry of this version has none.
    let page = ask(
        host,
        "https://sea.hub:5000",
        "'BASE/v2/hello/tags/list?n=2&last=1.0'",
    );
    assert_eq!(
        page.headers["link"],
        "</v2/hello/tags/list?last=index&n=2>; rel=\"next\""
    );
}
