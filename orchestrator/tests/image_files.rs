//! What planning reads of an image's files: built by the real binary, two layers over each other.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use gantry::plan::{ImageFile, PlanImage};
use gantry_model::ImageReference;
use gantry_store::Store;

fn put(folder: &Path, files: &[(&str, &[u8])]) {
    for (path, content) in files {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

fn build(desk: &Path, tag: &str, context: &str) {
    let built = Command::new(env!("CARGO_BIN_EXE_gantry"))
        .arg("--root")
        .arg(desk.join("store"))
        .args(["build", "-t", tag])
        .arg(desk.join(context))
        .output()
        .unwrap();
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
}

#[test]
fn files_are_read_as_hosts_see_them() {
    let desk = tempfile::tempdir().unwrap();
    let base = desk.path().join("base");
    put(
        &base,
        &[
            ("Kubefile", b"FROM scratch\nCOPY . .\n"),
            ("etc/a.json", b"old"),
            ("etc/b.yml", b"b: 1\n"),
            ("etc/c.yml.tmpl", b"c: {{ .HostIP }}\n"),
            ("etc/binary", b"\xff\xfe"),
            ("etc/folder/x", b""),
            ("bin/d.tmpl", b"not rendered"),
        ],
    );
    symlink("a.json", base.join("etc/link")).unwrap();
    put(
        &base,
        &[
            ("application/apps/web/up", b"up"),
            ("bin/up", b"up"),
            ("application/apps/web/values.yaml.tmpl", b"a: {{ .A }}\n"),
        ],
    );
    for program in ["application/apps/web/up", "bin/up"] {
        fs::set_permissions(base.join(program), Permissions::from_mode(0o755)).unwrap();
    }
    put(
        &desk.path().join("over"),
        &[
            ("Kubefile", b"FROM base:v1\nCOPY a.json etc/\n"),
            ("a.json", b"new"),
        ],
    );
    build(desk.path(), "base:v1", "base");
    build(desk.path(), "over:v1", "over");

    let store = Store::open(&desk.path().join("store")).unwrap();
    let reference: ImageReference = "over:v1".parse().unwrap();
    let image = store.image(&reference).unwrap();
    let paths = [
        "etc/a.json",
        "etc/b.yml",
        "etc/c.yml",
        "etc/binary",
        "etc/folder",
        "etc/link",
        "etc/link/x",
        "etc/d.yml",
        "nowhere/at/all",
        "bin/d",
        "application/apps/web/up",
        "bin/up",
        "application/apps/web/values.yaml",
    ];
    let wanted = paths.iter().map(|path| (*path).to_owned()).collect();
    let planned = PlanImage::read(&store, &image, &reference, &wanted).unwrap();
    let found = paths.map(|path| planned.files[path].clone());
    let text = |text: &str| ImageFile::Text(text.into());
    let no_file = |what: &str| ImageFile::NoFile(what.into());
    assert_eq!(
        found[..4],
        [
            text("new"),
            text("b: 1\n"),
            ImageFile::Template("c: {{ .HostIP }}\n".into()),
            ImageFile::NoText("not UTF-8 text".into()),
        ]
    );
    assert_eq!(
        found[4..7],
        [
            no_file("a folder"),
            no_file("a link"),
            no_file("below etc/link, which is no folder"),
        ]
    );
    let close = |file: &ImageFile| match file {
        ImageFile::Missing { closest } => closest.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(close(&found[7]).as_deref(), Some("etc/b.yml"));
    assert_eq!(close(&found[8]), None);
    // Not a folder in which templates are rendered.
    assert!(matches!(found[9], ImageFile::Missing { .. }));
    // Those of applications are rendered when these are launched.
    assert_eq!(planned.templates, ["etc/c.yml.tmpl".to_owned()].into());
    // Other folders of programs are no place for a Config at all.
    assert_eq!(
        found[10..],
        [
            no_file("a program of an application"),
            text("up"),
            ImageFile::Template("a: {{ .A }}\n".into()),
        ]
    );
}
