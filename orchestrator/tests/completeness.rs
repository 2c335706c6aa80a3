//! An image has every container image that its files name, or is not built: as people type it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod desk;

use std::fs::File;
use std::io::Read as _;

use desk::*;

/// An image with two layers, as `hello.tar`, the archive of somebody else; no image of that name is left.
fn archive_of_hello(desk: &Desk, name: &str) {
    archive(desk, "hello.tar", name);
}

/// The same as `file`; no two are the same image.
fn archive(desk: &Desk, file: &str, name: &str) {
    desk.file("hello/Kubefile", "FROM scratch\nCOPY big /\nCOPY small /\n");
    // Large enough for a layer of its own.
    let mut noise = vec![0; 2_000_000];
    File::open("/dev/urandom")
        .unwrap()
        .read_exact(&mut noise)
        .unwrap();
    desk.file("hello/big", noise);
    desk.file("hello/small", "hello");
    desk.ok(&["build", "-t", name, "hello"]);
    desk.ok(&["save", "-o", file, name]);
    desk.ok(&["rmi", name]);
}

/// A folder to build from, whose only file names these container images.
fn names(desk: &Desk, folder: &str, base: &str, images: &[&str]) {
    desk.file(
        &format!("{folder}/manifests/{folder}/imageList"),
        images.join("\n"),
    );
    desk.file(
        &format!("{folder}/Kubefile"),
        format!("FROM {base}\nCOPY manifests manifests\n"),
    );
}

/// What a tag in `registry/` leads to.
fn tag(desk: &Desk, image: &str, tagged: &str) -> String {
    let (repository, tag) = tagged.rsplit_once(':').unwrap();
    let link =
        format!("registry/docker/registry/v2/repositories/{repository}/_manifests/tags/{tag}/current/link");
    desk.ok(&["cat", image, &link])
}

fn pod(image: &str) -> String {
    format!("kind: Pod\nspec:\n  containers:\n  - name: a\n    image: {image}\n")
}

#[test]
fn a_container_image_that_is_named_and_not_inside_fails_the_build() {
    let desk = Desk::new();
    desk.file("app/manifests/pod.yaml", pod("hello.example/team/hello:1.0"));
    desk.file("app/Kubefile", "FROM scratch\nCOPY manifests manifests\n");
    // One try is enough to see that nobody has that name (RFC 2606).
    let error = desk.fails(2, &["build", "-t", "app:v1", "--retries", "0", "app"]);
    assert!(error.contains("cannot reach registry hello.example"), "{error}");
    assert!(
        error.contains("manifests/pod.yaml:5: hello.example/team/hello:1.0 is not in registry/"),
        "{error}"
    );
    assert!(error.contains("--from-archive"), "{error}");
    desk.fails(2, &["inspect", "app:v1"]);

    // Who knows better says so.
    let built = desk.run(&["build", "-t", "app:v1", "--build-mode", "lite", "app"]);
    let warned = String::from_utf8(built.stderr).unwrap();
    assert!(built.status.success(), "{warned}");
    assert!(
        warned.contains("manifests/pod.yaml:5: hello.example/team/hello:1.0 is not inside"),
        "{warned}"
    );
    let report = desk.fails(6, &["check", "app:v1"]);
    assert!(
        report.contains("1 container image not inside, 0 damaged"),
        "{report}"
    );
    desk.file("absent.txt", "hello.example/team/hello:1.0 # hosts have it\n");
    desk.ok(&[
        "build",
        "-t",
        "app:v2",
        "--ignored-image-list",
        "absent.txt",
        "app",
    ]);
    desk.ok(&["check", "app:v2", "--ignored-image-list", "absent.txt"]);
}

#[test]
fn what_is_missing_is_taken_from_an_archive_under_both_of_its_names() {
    let desk = Desk::new();
    archive_of_hello(&desk, "hello.example/team/hello:1.0");
    desk.file("app/manifests/pod.yaml", pod("hello.example/team/hello:1.0"));
    desk.file("app/Kubefile", "FROM scratch\nCOPY manifests manifests\n");
    desk.ok(&["build", "-t", "app:v1", "--from-archive", "hello.tar", "app"]);
    let list = desk.ok(&["ls", "-R", "app:v1", "registry/docker/registry/v2/repositories"]);
    for path in [
        "team/hello/_manifests/tags/1.0/current/link",
        "hello.example/team/hello/_manifests/tags/1.0/current/link",
    ] {
        assert!(list.contains(path), "{path}: {list}");
    }
    desk.ok(&["check", "app:v1"]);
    let said = desk.ok(&["inspect", "-f", "{{json .}}", "app:v1"]);
    assert!(said.contains("hello.example/team/hello:1.0"), "{said}");
    let history = desk.ok(&["history", "app:v1"]);
    assert!(
        history.contains("container images: hello.example/team/hello:1.0"),
        "{history}"
    );
    assert!(history.contains("(blobs of registry/)"), "{history}");

    // The same again is the same image, out of the cache; only its own blobs are left in the store.
    let digest = desk.ok(&["inspect", "-f", "{{.Digest}}", "app:v1"]);
    let again = desk.run(&["build", "-t", "app:v1", "--from-archive", "hello.tar", "app"]);
    let said = String::from_utf8(again.stderr).unwrap();
    assert_eq!(said.matches("cached, layer").count(), 3, "{said}");
    assert_eq!(desk.ok(&["inspect", "-f", "{{.Digest}}", "app:v1"]), digest);
    assert_eq!(desk.ok(&["images"]).lines().count(), 2);

    // On top of it nothing is missing any more.
    desk.file(
        "more/manifests/imageList",
        "# what it needs\nhello.example/team/hello:1.0\n",
    );
    desk.file("more/Kubefile", "FROM app:v1\nCOPY manifests manifests\n");
    desk.ok(&["build", "-t", "more:v1", "more"]);
}

#[test]
fn images_of_two_registries_with_one_path_are_kept_apart() {
    let desk = Desk::new();
    let (hub, lab) = ("docker.io/app/web:1", "registry.lab:5000/app/web:1");
    archive(&desk, "hub.tar", hub);
    archive(&desk, "lab.tar", lab);
    names(&desk, "base", "scratch", &["app/web:1"]);
    desk.ok(&["build", "-t", "base:v1", "--from-archive", "hub.tar", "base"]);
    assert_eq!(tag(&desk, "base:v1", hub), tag(&desk, "base:v1", "app/web:1"));

    // That of the hub is not that of the lab.
    names(&desk, "app", "base:v1", &[lab]);
    desk.ok(&["build", "-t", "app:v1", "--build-mode", "lite", "app"]);
    let report = desk.run(&["check", "app:v1"]);
    let text = String::from_utf8(report.stdout).unwrap();
    assert_eq!(report.status.code(), Some(6), "{text}");
    assert!(
        text.contains("registry.lab:5000/app/web:1   manifests/app/imageList:1"),
        "{text}"
    );

    let built = desk.run(&["build", "-t", "app:v1", "--from-archive", "lab.tar", "app"]);
    let said = String::from_utf8(built.stderr).unwrap();
    assert!(built.status.success(), "{said}");
    let warning = "manifests/app/imageList:1: hosts that ask a mirror for app/web:1 alone do not get registry.lab:5000/app/web:1 but docker.io/app/web";
    assert_eq!(said.matches(warning).count(), 1, "{said}");
    let hubs = tag(&desk, "app:v1", "app/web:1");
    assert_eq!(tag(&desk, "app:v1", hub), hubs, "what was there stays there");
    assert_ne!(tag(&desk, "app:v1", "registry.lab_5000/app/web:1"), hubs);
    let report = desk.ok(&["check", "app:v1"]);
    assert!(
        report.contains("NOT KNOWN") && report.contains("alone do not get"),
        "{report}"
    );
    desk.fails(6, &["check", "--strict", "app:v1"]);
    let said = desk.ok(&["inspect", "-f", "{{json .}}", "app:v1"]);
    assert!(
        said.contains(lab) && !said.contains("registry.lab_5000"),
        "{said}"
    );
}

#[test]
fn a_digest_beside_a_tag_moves_no_tag() {
    let desk = Desk::new();
    archive(&desk, "old.tar", "hello.example/web:1");
    archive(&desk, "new.tar", "hello.example/web:1");
    names(&desk, "base", "scratch", &["hello.example/web:1"]);
    for (base, archive) in [("old:v1", "old.tar"), ("new:v1", "new.tar")] {
        desk.ok(&["build", "-t", base, "--from-archive", archive, "base"]);
    }
    let new = tag(&desk, "new:v1", "hello.example/web:1");
    let old = tag(&desk, "old:v1", "hello.example/web:1");
    names(&desk, "app", "new:v1", &[&format!("hello.example/web:1@{old}")]);
    desk.ok(&["build", "-t", "app:v1", "--from-archive", "old.tar", "app"]);
    for place in ["hello.example/web:1", "web:1"] {
        assert_eq!(tag(&desk, "app:v1", place), new);
    }
    desk.ok(&["check", "app:v1"]);
}

#[test]
fn a_blob_that_was_lost_on_the_way_is_found() {
    let desk = Desk::new();
    archive_of_hello(&desk, "hello.example/hello:1.0");
    desk.file("app/manifests/imageList", "hello.example/hello:1.0\n");
    desk.file("app/Kubefile", "FROM scratch\nCOPY manifests manifests\n");
    desk.ok(&["build", "-t", "app:v1", "--from-archive", "hello.tar", "app"]);
    let list = desk.ok(&["ls", "-R", "app:v1", "registry/docker/registry/v2/blobs"]);
    let large = list
        .lines()
        .find(|line| line.contains("MB") && line.ends_with("/data"))
        .unwrap();
    let below = large.split_whitespace().last().unwrap();
    let (folder, blob) = below.trim_end_matches("/data").rsplit_once('/').unwrap();
    let blobs = "broken/registry/docker/registry/v2/blobs";
    desk.file(&format!("{blobs}/{folder}/.wh.{blob}"), "");
    desk.file("broken/Kubefile", "FROM app:v1\nCOPY registry registry\n");
    let error = desk.fails(2, &["build", "-t", "broken:v1", "broken"]);
    assert!(error.contains("is not there"), "{error}");
    desk.ok(&["build", "-t", "broken:v1", "--build-mode", "lite", "broken"]);
    let report = desk.run(&["check", "broken:v1"]);
    assert_eq!(report.status.code(), Some(6));
    let text = String::from_utf8(report.stdout).unwrap();
    assert!(
        text.contains("DAMAGED") && text.contains("is not there"),
        "{text}"
    );
}

#[test]
fn lines_that_are_no_yaml_are_looked_at_one_by_one() {
    let desk = Desk::new();
    desk.file(
        "app/manifests/odd.yaml",
        "a: [\n  vmagent-image: \"hello.example/agent:v1\"\n # image: hello.example/comment:v1\n#image: hello.example/other:v1\n\
         - image: \"hello.example/x:v\"\nimage: hello.example/twice:v1\nimage: hello.example/twice:v1\n",
    );
    desk.file("app/Kubefile", "FROM scratch\nCOPY manifests manifests\n");
    let built = desk.run(&["build", "-t", "app:v1", "--build-mode", "lite", "app"]);
    let said = String::from_utf8(built.stderr).unwrap();
    assert!(built.status.success(), "{said}");
    let report = desk.run(&["check", "-o", "json", "app:v1"]);
    let report: serde_json::Value = serde_json::from_slice(&report.stdout).unwrap();
    let missing = report["missing"].as_array().unwrap();
    let missing: Vec<_> = missing.iter().map(|one| one["image"].as_str().unwrap()).collect();
    assert_eq!(
        missing,
        [
            "hello.example/agent:v1",
            "hello.example/twice:v1",
            "hello.example/x:v"
        ],
        "{said}"
    );
}

#[test]
fn templates_are_looked_at_with_what_the_image_says() {
    let desk = Desk::new();
    desk.file(
        "app/manifests/pod.yaml.tmpl",
        "kind: Pod\nspec:\n  containers:\n  {{- if .Debug }}\n  - image: hello.example/debug:{{ .Version }}\n  {{- end }}\n  - image: hello.example/web:{{ .Version }}\n  - image: {{ .Registry }}/other:1\n",
    );
    desk.file(
        "app/Kubefile",
        "FROM scratch\nENV Version=7\nCOPY manifests manifests\n",
    );
    let built = desk.run(&["build", "-t", "app:v1", "--build-mode", "lite", "app"]);
    let said = String::from_utf8(built.stderr).unwrap();
    assert!(said.contains("hello.example/web:7 is not inside"), "{said}");
    assert!(!said.contains("debug"), "{said}");
    assert!(said.contains("the image has no value for it"), "{said}");
}

#[test]
fn mistakes_in_lists_have_their_places() {
    let desk = Desk::new();
    desk.file("app/manifests/imageList", "hello:1.0\nNot An Image\n");
    desk.file("app/Kubefile", "FROM scratch\nCOPY manifests manifests\n");
    let error = desk.fails(2, &["build", "-t", "app:v1", "app"]);
    assert!(error.contains("manifests/imageList:2:1"), "{error}");
    // Who brings none builds all the same.
    let built = desk.run(&["build", "-t", "app:v1", "--build-mode", "lite", "app"]);
    let said = String::from_utf8(built.stderr).unwrap();
    assert!(built.status.success(), "{said}");
    let warning = "manifests/imageList:2:1: \"Not An Image\" is not an image name";
    assert!(said.contains(warning), "{said}");
    desk.file("list", "hello:1.0\n  what?\n");
    desk.file("app/manifests/imageList", "");
    let error = desk.fails(2, &["build", "-t", "app:v1", "--image-list", "list", "app"]);
    assert!(error.contains("list:2:3"), "{error}");
}

#[test]
fn charts_are_rendered_with_their_own_values() {
    let desk = Desk::new();
    desk.file(
        "app/charts/shop/Chart.yaml",
        "apiVersion: v2\nname: shop\nversion: 1.0.0\nappVersion: '9'\ndependencies:\n- {name: db, condition: db.enabled}\n- {name: cache, condition: cache.enabled}\n",
    );
    desk.file(
        "app/charts/shop/values.yaml",
        "image:\n  registry: hello.example\n  repository: team/shop\n  tag: ''\ndb:\n  enabled: true\n  tag: v13\ncache: {enabled: false}\n",
    );
    desk.file(
        "app/charts/shop/templates/_helpers.tpl",
        "{{- define \"shop.image\" -}}\n{{ .Values.image.registry }}/{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}\n{{- end }}\n{{- define \"shop.labels\" }}\napp: {{ .Chart.Name | quote }}\nkind: {{ .Release.Name | trunc 63 | trimSuffix \"-\" }}\n{{- end }}\n",
    );
    desk.file(
        "app/charts/shop/templates/deployment.yaml",
        "kind: Deployment\nmetadata:\n  labels:\n    {{- include \"shop.labels\" . | nindent 4 }}\nspec:\n  template:\n    spec:\n      containers:\n      - name: shop\n        image: {{ include \"shop.image\" . | quote }}\n        {{- with .Values.resources }}\n        resources: {{- toYaml . | nindent 10 }}\n        {{- end }}\n{{- if .Capabilities.APIVersions.Has \"policy/v1\" }}\n---\nkind: Budget\n{{- end }}\n",
    );
    desk.file(
        "app/charts/shop/charts/db/Chart.yaml",
        "apiVersion: v2\nname: db\nversion: 1.0.0\n",
    );
    desk.file("app/charts/shop/charts/db/values.yaml", "tag: v12\n");
    desk.file(
        "app/charts/shop/charts/db/templates/pod.yaml",
        "kind: Pod\nspec:\n  containers:\n  {{- range $name := list \"db\" \"exporter\" }}\n  - image: hello.example/{{ $name }}:{{ $.Values.tag }}\n  {{- end }}\n",
    );
    desk.file(
        "app/charts/shop/charts/cache/Chart.yaml",
        "apiVersion: v2\nname: cache\nversion: 1.0.0\n",
    );
    desk.file(
        "app/charts/shop/charts/cache/templates/pod.yaml",
        "kind: Pod\nspec: {containers: [{image: 'hello.example/cache:v1'}]}\n",
    );
    desk.file("app/Kubefile", "FROM scratch\nCOPY charts charts\n");
    let built = desk.run(&["build", "-t", "app:v1", "--build-mode", "lite", "app"]);
    let said = String::from_utf8(built.stderr).unwrap();
    for line in [
        "charts/shop/values.yaml:3: hello.example/team/shop:9 is not inside",
        "hello.example/db:v13 is not inside",
        "hello.example/exporter:v13 is not inside",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert_eq!(said.matches("is not inside").count(), 3, "{said}");
    assert_eq!(said.matches("warning").count(), 3, "{said}");
}

#[test]
fn a_chart_that_breaks_its_limits_ends_alone() {
    let desk = Desk::new();
    for (name, template) in [
        (
            "deep",
            "{{ $l := list }}{{ range until 100000 }}{{ $l = list $l }}{{ end }}image: hello.example/deep:1\n",
        ),
        (
            "long",
            "{{ $x := repeat 100000 \"a\" }}{{ $y := replace \"a\" $x $x }}\n",
        ),
    ] {
        desk.file(
            &format!("app/charts/{name}/Chart.yaml"),
            format!("name: {name}\nversion: 1.0.0\n"),
        );
        desk.file(&format!("app/charts/{name}/templates/a.yaml"), template);
    }
    desk.file("app/Kubefile", "FROM scratch\nCOPY charts charts\n");
    let built = desk.run(&["build", "-t", "app:v1", "app"]);
    let said = String::from_utf8(built.stderr).unwrap();
    assert!(built.status.success(), "{said}");
    assert!(
        said.contains("charts/deep/: it needs more than 20 s of CPU time or 1024 MiB"),
        "{said}"
    );
    assert!(said.contains("replace makes too long a text"), "{said}");
    let report = desk.ok(&["check", "app:v1"]);
    assert!(report.contains("NOT KNOWN"), "{report}");
    let document = desk.json(&["check", "-o", "json", "app:v1"]);
    assert_eq!(document["complete"], serde_json::Value::Null);
    let error = desk.fails(6, &["check", "--strict", "app:v1"]);
    assert!(error.contains("2 things could not be told"), "{error}");
}

#[test]
fn a_control_plane_that_nobody_knows_fails_the_build() {
    let desk = Desk::new();
    // No kubeadm of this world: it cannot be asked.
    desk.file("app/bin/kubeadm", "#!/bin/sh\ncat /etc/shadow\n");
    desk.file("app/Metadata", r#"{"version": "v1.20.2"}"#);
    desk.file("app/Kubefile", "FROM scratch\nCOPY bin bin\nCOPY Metadata .\n");
    let error = desk.fails(2, &["build", "-t", "app:v1", "app"]);
    assert!(
        error.contains("which container images kubeadm starts is not known"),
        "{error}"
    );
    assert!(error.contains("--image-list"), "{error}");
    desk.ok(&["build", "-t", "app:v1", "--build-mode", "lite", "app"]);
    let report = desk.ok(&["check", "app:v1"]);
    assert!(report.contains("bin/kubeadm"), "{report}");
    assert!(
        !report.contains("root:"),
        "nothing of this machine is seen: {report}"
    );
    // Of an image that the policy refuses nothing runs, not even in a sandbox.
    desk.file("policy.json", r#"{"default": [{"type": "reject"}]}"#);
    let report = desk.ok(&["check", "app:v1"]);
    let refused = match am_root() {
        true => "is refused by",
        false => "only root may ask it",
    };
    assert!(report.contains(refused), "{report}");
}
