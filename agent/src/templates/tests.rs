//! Templates that are rendered, wrong, changed by hand, and out of bounds.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use gantry_template::MAX_TEMPLATE_LEN;

use super::*;

/// No config files.
fn none(rootfs: &Path) -> Configs {
    Configs::open(rootfs.to_owned(), rootfs.join("no-configs")).unwrap()
}

fn rootfs(files: &[(&str, &str)]) -> tempfile::TempDir {
    let rootfs = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = rootfs.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    rootfs
}

fn values(ip: &str) -> BTreeMap<String, String> {
    [("HostIP".to_owned(), ip.to_owned())].into()
}

#[test]
fn templates_are_rendered_beside_themselves_with_their_mode() {
    let rootfs = rootfs(&[
        ("etc/kubeadm.yml.tmpl", "ip: {{ .HostIP }}\n"),
        ("manifests/a/b.yaml.tmpl", "{{ .HostIP }}"),
        ("statics/plain.yml", "{{ .HostIP }}"),
        ("bin/tool.tmpl", "{{ .HostIP }}"),
        ("etc/.tmpl", "{{ .HostIP }}"),
    ]);
    let template = rootfs.path().join("etc/kubeadm.yml.tmpl");
    fs::set_permissions(&template, Permissions::from_mode(0o640)).unwrap();
    assert!(!are_rendered(rootfs.path(), &values("10.0.0.1"), &none(rootfs.path())).unwrap());
    let made = render_all(rootfs.path(), &values("10.0.0.1"), &none(rootfs.path())).unwrap();
    assert_eq!(
        made.keys().collect::<Vec<_>>(),
        ["etc/kubeadm.yml", "manifests/a/b.yaml"]
    );
    assert!(
        changed(rootfs.path(), &made, &none(rootfs.path()))
            .unwrap()
            .is_empty()
    );
    let rendered = made;
    let made = rootfs.path().join("etc/kubeadm.yml");
    assert_eq!(fs::read_to_string(&made).unwrap(), "ip: 10.0.0.1\n");
    assert_eq!(fs::metadata(&made).unwrap().mode() & 0o7777, 0o640);
    assert!(rootfs.path().join("manifests/a/b.yaml").exists());
    assert!(!rootfs.path().join("bin/tool").exists(), "not one of the folders");
    assert!(are_rendered(rootfs.path(), &values("10.0.0.1"), &none(rootfs.path())).unwrap());

    let inode = fs::metadata(&made).unwrap().ino();
    render_all(rootfs.path(), &values("10.0.0.1"), &none(rootfs.path())).unwrap();
    assert_eq!(
        fs::metadata(&made).unwrap().ino(),
        inode,
        "it was right and is not written again"
    );
    assert!(!are_rendered(rootfs.path(), &values("10.0.0.2"), &none(rootfs.path())).unwrap());
    fs::write(&made, "ip: 10.0.0.9\n").unwrap();
    assert!(
        !are_rendered(rootfs.path(), &values("10.0.0.1"), &none(rootfs.path())).unwrap(),
        "changed by hand"
    );
    fs::remove_file(rootfs.path().join("manifests/a/b.yaml")).unwrap();
    assert_eq!(
        changed(rootfs.path(), &rendered, &none(rootfs.path())).unwrap(),
        [
            "etc/kubeadm.yml was changed by hand",
            "manifests/a/b.yaml is gone"
        ]
    );
}

#[test]
fn one_mistake_and_nothing_is_rendered() {
    let rootfs = rootfs(&[
        ("etc/a.tmpl", "{{ .HostIP }}"),
        ("statics/z.yml.tmpl", "x\n  {{ if .HostIP }}"),
    ]);
    let error = render_all(rootfs.path(), &values("10.0.0.1"), &none(rootfs.path()))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("statics/z.yml.tmpl: 2:3: {{if}} has no {{end}}"),
        "{error}"
    );
    assert!(!rootfs.path().join("etc/a").exists());
}

#[test]
fn nothing_outside_is_read_or_written() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("a.tmpl"), "{{ .HostIP }}").unwrap();
    fs::write(outside.path().join("victim"), "mine").unwrap();

    let linked = rootfs(&[("charts/x", "")]);
    symlink(outside.path(), linked.path().join("etc")).unwrap();
    symlink(outside.path(), linked.path().join("charts/there")).unwrap();
    assert!(
        render_all(linked.path(), &values("1"), &none(linked.path()))
            .unwrap()
            .is_empty()
    );
    assert!(!outside.path().join("a").exists());

    let link = rootfs(&[("etc/x", "")]);
    symlink(outside.path().join("a.tmpl"), link.path().join("etc/a.tmpl")).unwrap();
    let error = render_all(link.path(), &values("1"), &none(link.path()))
        .unwrap_err()
        .to_string();
    assert!(error.contains("etc/a.tmpl is not a regular file"), "{error}");

    // What a template makes replaces a link; it does not go through it.
    let target = rootfs(&[("etc/a.tmpl", "{{ .HostIP }}")]);
    symlink(outside.path().join("victim"), target.path().join("etc/a")).unwrap();
    render_all(target.path(), &values("10.0.0.1"), &none(target.path())).unwrap();
    assert_eq!(fs::read_to_string(outside.path().join("victim")).unwrap(), "mine");
    assert_eq!(
        fs::read_to_string(target.path().join("etc/a")).unwrap(),
        "10.0.0.1"
    );
}

#[test]
fn bounds_hold() {
    let long = "x".repeat(MAX_TEMPLATE_LEN + 1);
    let rootfs = rootfs(&[("etc/a.tmpl", &long)]);
    let error = render_all(rootfs.path(), &values("1"), &none(rootfs.path()))
        .unwrap_err()
        .to_string();
    assert!(error.contains("is longer than"), "{error}");
    fs::write(rootfs.path().join("etc/a.tmpl"), b"\xff").unwrap();
    let error = render_all(rootfs.path(), &values("1"), &none(rootfs.path()))
        .unwrap_err()
        .to_string();
    assert!(error.contains("not UTF-8"), "{error}");
}

#[test]
fn an_applications_templates_are_rendered_alone_and_make_no_programs() {
    let rootfs = rootfs(&[
        ("application/apps/web/a/values.yaml.tmpl", "ip: {{ .HostIP }}"),
        ("application/apps/db/values.yaml.tmpl", "ip: {{ .HostIP }}"),
        ("etc/x.tmpl", "{{ .HostIP }}"),
    ]);
    let configs = none(rootfs.path());
    let render = |name: &str| render_application(rootfs.path(), name, &values("10.0.0.1"), &configs);
    let made = render("web").unwrap();
    assert_eq!(
        made.keys().collect::<Vec<_>>(),
        ["application/apps/web/a/values.yaml"]
    );
    let web = rootfs.path().join("application/apps/web");
    assert_eq!(
        fs::read_to_string(web.join("a/values.yaml")).unwrap(),
        "ip: 10.0.0.1"
    );
    assert!(!rootfs.path().join("application/apps/db/values.yaml").exists());
    assert!(!rootfs.path().join("etc/x").exists());
    assert!(render("gone").unwrap().is_empty());
    // Those of the rootfs leave applications alone.
    let made = render_all(rootfs.path(), &values("10.0.0.2"), &configs).unwrap();
    assert_eq!(made.keys().collect::<Vec<_>>(), ["etc/x"]);

    for (name, mode) in [
        ("up.SH.tmpl", 0o644),
        ("up.tmpl", 0o755),
        ("all.yaml.tmpl", 0o755),
    ] {
        let template = web.join(name);
        fs::write(&template, "{{ .HostIP }}").unwrap();
        fs::set_permissions(&template, Permissions::from_mode(mode)).unwrap();
    }
    let made = render("web").unwrap();
    assert_eq!(
        made.keys().collect::<Vec<_>>(),
        [
            "application/apps/web/a/values.yaml",
            "application/apps/web/all.yaml"
        ]
    );
    // A link that leads out is not followed.
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("b.tmpl"), "").unwrap();
    symlink(outside.path(), rootfs.path().join("application/apps/link")).unwrap();
    assert!(render("link").unwrap().is_empty());
}
