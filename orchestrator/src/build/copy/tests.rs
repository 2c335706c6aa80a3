//! Where things land, by docker's rules, and that nothing of the image below is lost by accident.

use std::os::unix::fs::symlink;

use gantry_store::{ChunkSource, Store};

use super::super::context::BuildContext;
use super::*;

struct Fixture {
    dir: tempfile::TempDir,
    store: Store,
    tree: MergedTree,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("root")).unwrap();
        fs::create_dir(dir.path().join("context")).unwrap();
        Self {
            dir,
            store,
            tree: MergedTree::default(),
        }
    }

    fn file(&self, path: &str) -> &Self {
        let path = self.dir.path().join("context").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
        self
    }

    fn link(&self, path: &str, target: &str) -> &Self {
        symlink(target, self.dir.path().join("context").join(path)).unwrap();
        self
    }

    fn plan(&self, sources: &[&str], destination: &str) -> Result<CopyPlan, CopyError> {
        let context = BuildContext::open(&self.dir.path().join("context")).unwrap();
        let found: Vec<Found> = sources
            .iter()
            .flat_map(|source| context.find(source).unwrap())
            .collect();
        CopyPlan::new(&found, destination, &self.tree, &context)
    }

    fn paths(&self, sources: &[&str], destination: &str) -> Vec<String> {
        self.plan(sources, destination)
            .unwrap()
            .items
            .into_keys()
            .collect()
    }

    /// Makes the layer and puts it on top.
    fn copy(&mut self, sources: &[&str], destination: &str) -> LayerDescriptor {
        let plan = self.plan(sources, destination).unwrap();
        let layer = plan.write(&self.store, &LayerOptions::default()).unwrap();
        self.tree
            .add(ChunkSource::open(&self.store, &layer.digest).unwrap().toc());
        layer
    }
}

#[test]
fn a_destination_is_a_folder_when_it_looks_like_one_or_is_one() {
    let mut fixture = Fixture::new();
    fixture.file("a").file("b").file("dir/inner/c").file("etc/x");
    for (sources, destination, expected) in [
        (&["a"][..], "etc/", &["etc", "etc/a"][..]),
        (&["a"], "/etc/new", &["etc", "etc/new"]),
        (&["a"], ".", &["a"]),
        (&["a"], "./", &["a"]),
        (&["a", "b"], "two", &["two", "two/a", "two/b"]),
        (&["dir"], "to", &["to", "to/inner", "to/inner/c"]),
        (&["dir/"], ".", &["inner", "inner/c"]),
        (&["dir"], "x/y", &["x", "x/y", "x/y/inner", "x/y/inner/c"]),
        (&["?"], "m", &["m", "m/a", "m/b"]),
    ] {
        assert_eq!(
            fixture.paths(sources, destination),
            expected,
            "{sources:?} {destination}"
        );
    }
    fixture.copy(&["."], ".");
    assert_eq!(fixture.paths(&["a"], "etc"), ["etc", "etc/a"]);
    assert_eq!(fixture.paths(&["a"], "b"), ["b"]);
}

#[test]
fn a_link_to_a_folder_in_the_image_is_kept_and_followed() {
    let mut fixture = Fixture::new();
    fixture
        .file("base/usr/lib/old")
        .link("base/lib", "usr/lib")
        .file("more/lib/new")
        .file("one");
    fixture.copy(&["base"], ".");
    assert_eq!(fixture.paths(&["more"], "."), ["usr", "usr/lib", "usr/lib/new"]);
    assert_eq!(fixture.paths(&["one"], "lib/"), ["usr", "usr/lib", "usr/lib/one"]);
    assert_eq!(
        fixture.paths(&["one"], "lib/sub/x"),
        ["usr", "usr/lib", "usr/lib/sub", "usr/lib/sub/x"]
    );
}

#[test]
fn folders_on_the_way_keep_the_permissions_they_have() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut fixture = Fixture::new();
    fixture.file("base/etc/private/key").file("one");
    let private = fixture.dir.path().join("context/base/etc/private");
    fs::set_permissions(private, fs::Permissions::from_mode(0o700)).unwrap();
    fixture.copy(&["base"], ".");
    let layer = fixture.copy(&["one"], "etc/private/");
    let source = ChunkSource::open(&fixture.store, &layer.digest).unwrap();
    let folder = source
        .toc()
        .entries()
        .iter()
        .find(|entry| entry.path == "etc/private")
        .unwrap();
    assert_eq!(folder.mode, 0o700);
}

#[test]
fn links_and_marks_of_the_context_survive() {
    let mut fixture = Fixture::new();
    fixture
        .file("tree/file")
        .link("tree/absolute", "/etc/passwd")
        .link("tree/dangling", "nowhere");
    fixture
        .file("tree/.wh.gone")
        .file("tree/dir/.wh..wh..opq")
        .file("base/gone/x")
        .file("base/dir/y");
    fixture.copy(&["base"], ".");
    let layer = fixture.copy(&["tree"], ".");
    let source = ChunkSource::open(&fixture.store, &layer.digest).unwrap();
    let kind = |path: &str| {
        &source
            .toc()
            .entries()
            .iter()
            .find(|entry| entry.path == path)
            .unwrap()
            .kind
    };
    use gantry_store::EntryKind;
    assert_eq!(
        *kind("absolute"),
        EntryKind::Symlink {
            target: "/etc/passwd".into()
        }
    );
    assert_eq!(
        *kind("dangling"),
        EntryKind::Symlink {
            target: "nowhere".into()
        }
    );
    assert_eq!(*kind("gone"), EntryKind::Whiteout);
    assert_eq!(*kind("dir"), EntryKind::Directory { opaque: true });
    assert!(fixture.tree.node("gone/x").is_none() && fixture.tree.node("dir/y").is_none());
}

#[test]
fn a_destination_that_cannot_be_is_named() {
    let mut fixture = Fixture::new();
    fixture
        .file("base/etc/dir/x")
        .file("base/file")
        .link("base/loop", "loop")
        .file("dir")
        .file("one");
    fixture.copy(&["base"], ".");
    for (source, destination, reason) in [
        ("one", "../x", "leads out of the rootfs"),
        ("one", "a/../../x", "leads out of the rootfs"),
        ("one", "file/below", "is a file of the image"),
        ("one", "loop/x", "goes in circles"),
        ("dir", "etc/", "is a folder of the image"),
    ] {
        let error = fixture.plan(&[source], destination).unwrap_err().to_string();
        assert!(error.contains(reason), "{destination}: {error}");
    }
}

#[test]
fn a_later_source_wins() {
    let fixture = Fixture::new();
    fixture.file("a/x/deep").file("b/x");
    assert_eq!(fixture.paths(&["a", "b"], "."), ["x"]);
    assert_eq!(fixture.paths(&["b", "a"], "."), ["x", "x/deep"]);
}

#[test]
fn what_kubeignore_keeps_out_is_not_copied() {
    let fixture = Fixture::new();
    for path in [
        "docs/a.md",
        "docs/keep/b",
        "bin/x",
        "secret",
        "folder/only-this",
        "folder/not-this",
    ] {
        fixture.file(path);
    }
    let ignore = fixture.dir.path().join("context/.kubeignore");
    fs::write(&ignore, ".kubeignore\nsecret\ndocs\n").unwrap();
    assert_eq!(
        fixture.paths(&["."], "."),
        ["bin", "bin/x", "folder", "folder/not-this", "folder/only-this"]
    );
    assert_eq!(
        fixture.paths(&["*"], "to"),
        ["to", "to/not-this", "to/only-this", "to/x"]
    );
    fs::write(
        &ignore,
        ".*ignore\nsecret\ndocs\n!docs/keep\nfolder/*\n!folder/only*\n",
    )
    .unwrap();
    assert_eq!(
        fixture.paths(&["."], "."),
        [
            "bin",
            "bin/x",
            "docs",
            "docs/keep",
            "docs/keep/b",
            "folder",
            "folder/only-this"
        ]
    );
    let context = BuildContext::open(&fixture.dir.path().join("context")).unwrap();
    let error = context.find("secret").unwrap_err();
    assert!(
        error.message.contains("kept out of the build by .kubeignore:2"),
        "{error:?}"
    );
}
