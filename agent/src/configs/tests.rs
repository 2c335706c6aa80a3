//! Config files that are written, changed, given back, and out of bounds.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;
use crate::templates;

struct Bed {
    folder: tempfile::TempDir,
}

impl Bed {
    fn new(files: &[(&str, &str)]) -> Self {
        let bed = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        fs::create_dir(bed.path("")).unwrap();
        for (path, text) in files {
            fs::create_dir_all(bed.path(path).parent().unwrap()).unwrap();
            fs::write(bed.path(path), text).unwrap();
        }
        bed
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join("rootfs").join(path)
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    /// As another step would find them.
    fn configs(&self) -> Configs {
        Configs::open(self.path(""), self.folder.path().join("configs")).unwrap()
    }

    fn render(&self, ip: &str) {
        let configs = self.configs();
        let rendered = templates::render_all(configs.rootfs(), &values(ip), &configs).unwrap();
        assert_eq!(
            templates::changed(configs.rootfs(), &rendered, &configs).unwrap(),
            Vec::<String>::new()
        );
    }
}

fn values(ip: &str) -> BTreeMap<String, String> {
    [("HostIP".to_owned(), ip.to_owned())].into()
}

fn files(files: &[(&str, &str)]) -> Vec<ConfigFile> {
    let file = |(path, content): &(&str, &str)| ConfigFile {
        path: (*path).into(),
        content: (*content).into(),
    };
    files.iter().map(file).collect()
}

#[test]
fn files_are_written_and_what_the_image_has_is_given_back() {
    let bed = Bed::new(&[("etc/daemon.json", "{}")]);
    fs::set_permissions(bed.path("etc/daemon.json"), Permissions::from_mode(0o640)).unwrap();
    let first = files(&[
        ("etc/daemon.json", "{\"a\": 1}"),
        ("manifests/new/db.yaml", "x: 1\n"),
    ]);
    assert!(!bed.configs().are_written(&first).unwrap());
    bed.configs().write(&first).unwrap();
    assert!(bed.configs().are_written(&first).unwrap());
    assert_eq!(bed.text("etc/daemon.json"), "{\"a\": 1}");
    assert_eq!(bed.text("manifests/new/db.yaml"), "x: 1\n");
    let mode = |path: &str| fs::metadata(bed.path(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode("etc/daemon.json"), 0o640, "that of the image's file");
    assert_eq!(mode("manifests/new/db.yaml"), 0o644);

    let second = files(&[("etc/daemon.json", "{\"a\": 2}")]);
    assert!(!bed.configs().are_written(&second).unwrap());
    bed.configs().write(&second).unwrap();
    assert_eq!(bed.text("etc/daemon.json"), "{\"a\": 2}");
    assert!(!bed.path("manifests/new/db.yaml").exists(), "the image has none");

    bed.configs().write(&[]).unwrap();
    assert_eq!(bed.text("etc/daemon.json"), "{}");
    assert_eq!(mode("etc/daemon.json"), 0o640);
    assert!(bed.configs().are_written(&[]).unwrap());
    assert_eq!(
        fs::read_dir(bed.folder.path().join("configs/under"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn what_was_changed_by_hand_is_seen_and_written_again() {
    let bed = Bed::new(&[("etc/a", "image")]);
    let wanted = files(&[("etc/a", "one"), ("etc/b", "two")]);
    bed.configs().write(&wanted).unwrap();
    fs::write(bed.path("etc/a"), "other").unwrap();
    fs::remove_file(bed.path("etc/b")).unwrap();
    assert_eq!(
        bed.configs().changed().unwrap(),
        ["etc/a was changed by hand", "etc/b is gone"]
    );
    assert!(!bed.configs().are_written(&wanted).unwrap());
    bed.configs().write(&wanted).unwrap();
    assert!(bed.configs().are_written(&wanted).unwrap());
    bed.configs().write(&[]).unwrap();
    assert_eq!(bed.text("etc/a"), "image", "not what was written by hand");
}

#[test]
fn templates_are_rendered_under_config_files() {
    let bed = Bed::new(&[
        ("etc/a.yml.tmpl", "ip: {{ .HostIP }}\n"),
        ("etc/b.tmpl", "{{ .HostIP }}"),
    ]);
    bed.render("10.0.0.1");
    let wanted = files(&[("etc/a.yml", "ip: mine\n")]);
    bed.configs().write(&wanted).unwrap();
    bed.render("10.0.0.2");
    assert_eq!(bed.text("etc/a.yml"), "ip: mine\n", "rendering leaves it alone");
    assert_eq!(bed.text("etc/b"), "10.0.0.2");
    let configs = bed.configs();
    assert!(templates::are_rendered(configs.rootfs(), &values("10.0.0.2"), &configs).unwrap());
    assert!(!templates::are_rendered(configs.rootfs(), &values("10.0.0.3"), &configs).unwrap());
    bed.configs().write(&[]).unwrap();
    assert_eq!(bed.text("etc/a.yml"), "ip: 10.0.0.2\n", "with the values of now");
}

#[test]
fn cut_off_at_any_point_the_same_files_again_go_on() {
    let bed = Bed::new(&[("etc/a", "image")]);
    let wanted = files(&[("etc/a", "mine")]);
    bed.configs().write(&wanted).unwrap();
    // Ended after it was noted and before it was written.
    fs::write(bed.path("etc/a"), "image").unwrap();
    bed.configs().write(&wanted).unwrap();
    assert_eq!(bed.text("etc/a"), "mine");
    // Ended after it was given back and before that was noted.
    fs::write(bed.path("etc/a"), "image").unwrap();
    bed.configs().write(&[]).unwrap();
    assert_eq!(bed.text("etc/a"), "image");
    // Ended before what was under was removed: the image's file of then is no more.
    let under = bed
        .folder
        .path()
        .join("configs/under")
        .join(Digest::of(b"etc/c").hex());
    fs::write(&under, "old").unwrap();
    bed.configs().write(&files(&[("etc/c", "mine")])).unwrap();
    bed.configs().write(&[]).unwrap();
    assert!(!bed.path("etc/c").exists());
}

#[test]
fn nothing_outside_is_written_and_nothing_but_files_is_replaced() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("a"), "theirs").unwrap();
    let bed = Bed::new(&[("etc/folder/x", "")]);
    symlink(outside.path(), bed.path("link")).unwrap();
    symlink(outside.path().join("a"), bed.path("etc/a")).unwrap();
    for (path, said) in [
        ("link/a", "link above it is not a folder"),
        ("etc/a", "a folder or a link"),
        ("etc/folder", "a folder or a link"),
        ("etc/folder/x/y", "x above it is not a folder"),
    ] {
        let error = bed
            .configs()
            .write(&files(&[(path, "mine")]))
            .unwrap_err()
            .to_string();
        assert!(error.contains(said), "{path}: {error}");
        assert!(bed.configs().noted.is_empty());
    }
    assert_eq!(fs::read_to_string(outside.path().join("a")).unwrap(), "theirs");
}

#[test]
fn bounds_hold() {
    let refused = |files: &[ConfigFile]| check(files).unwrap_err();
    assert!(refused(&files(&[("../x", "")])).contains("'..'"));
    assert!(refused(&files(&[("scripts/init.sh", "")])).contains("come from the image alone"));
    assert!(refused(&files(&[("a", ""), ("a", "")])).contains("twice"));
    let long = "x".repeat(MAX_CONFIG_FILES_LEN);
    assert!(check(&files(&[("a", &long)])).is_ok());
    assert!(refused(&files(&[("a", &long), ("b", "x")])).contains("at most"));
    let many: Vec<String> = (0..=MAX_CONFIG_FILES).map(|n| n.to_string()).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "")).collect();
    assert!(refused(&files(&many)).contains("at most"));
}
