//! What is not built again: by the real binary, as a person sees it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod desk;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use desk::*;

/// Builds, and gives the digest of the image and which steps were cached: `.` for carried out, `c` for cached.
fn build(desk: &Desk, arguments: &[&str]) -> (String, String) {
    let output = desk.run(&[&["build", "-t", "x:1"], arguments, &["context"]].concat());
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    let mark = |line: &str| match line {
        line if line.starts_with("  cached, ") => Some('c'),
        line if line.starts_with("  layer ") || line.starts_with("  no changes") => Some('.'),
        _ => None,
    };
    (text(&output.stdout), said.lines().filter_map(mark).collect())
}

fn blobs(desk: &Desk) -> usize {
    fs::read_dir(desk.path("root/store/blobs/sha256"))
        .unwrap()
        .count()
}

fn steps(desk: &Desk) -> usize {
    fs::read_dir(desk.path("root/store/build-cache")).map_or(0, Iterator::count)
}

#[test]
fn only_what_changed_is_built_again() {
    let desk = Desk::of_an_ordinary_user();
    desk.file("context/one", "1");
    desk.file("context/two/file", "2");
    let kubefile =
        "FROM scratch\nARG To=etc\nCOPY one ${To}/\nENV A=1\nCOPY two .\nCOPY <<text etc/\n$To\ntext\n";
    desk.file("context/Kubefile", kubefile);
    let (first, cached) = build(&desk, &[]);
    assert_eq!(cached, "...");
    assert_eq!(build(&desk, &[]), (first.clone(), "ccc".to_owned()));
    assert_eq!(build(&desk, &["--no-cache"]), (first.clone(), "...".to_owned()));
    assert_eq!(blobs(&desk), 5, "three layers, a config, a manifest");

    desk.file("context/two/file", "3");
    let (other, cached) = build(&desk, &[]);
    assert_eq!((cached.as_str(), other == first), ("c.c", false));
    assert_eq!(blobs(&desk), 5, "what the name led to before is gone");
    assert_eq!(steps(&desk), 3);
    fs::set_permissions(desk.path("context/one"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(build(&desk, &[]).1, ".cc");
    assert_eq!(build(&desk, &["--build-arg", "To=opt"]).1, ".c.");
    let other_time = desk
        .command(&["build", "-t", "x:2", "context"])
        .env("SOURCE_DATE_EPOCH", "86400")
        .output()
        .unwrap();
    assert!(!text(&other_time.stderr).contains("cached"));

    // Two images share what they have in common, and neither loses it with the other.
    desk.ok(&["build", "-t", "y:1", "context"]);
    desk.ok(&["rmi", "x:2"]);
    desk.ok(&["rmi", "x:1"]);
    assert_eq!(build(&desk, &[]).1, "ccc");
    desk.ok(&["rmi", "x:1"]);
    desk.ok(&["rmi", "y:1"]);
    assert_eq!((blobs(&desk), steps(&desk)), (0, 0));
    assert_eq!(build(&desk, &[]).1, "...");
    // A layer that was lost is made again.
    let layer = desk.layers("x:1")[0].clone();
    fs::remove_file(desk.path("root/store/blobs/sha256").join(layer)).unwrap();
    assert_eq!(build(&desk, &[]).1, ".cc");
    desk.ok(&["store", "check"]);
}

#[test]
fn a_changed_script_is_one_small_layer_and_large_files_stay_where_they_are() {
    let desk = Desk::of_an_ordinary_user();
    for name in ["kubelet", "kubectl"] {
        desk.file(&format!("context/bin/{name}"), name.repeat(300_000));
    }
    desk.file("context/scripts/init.sh", "echo 1\n");
    desk.file("context/Kubefile", "FROM scratch\nCOPY . .\n");
    assert_eq!(build(&desk, &[]).1, "...");
    desk.file("context/scripts/init.sh", "echo 2\n");
    assert_eq!(build(&desk, &[]).1, ".cc");
    assert_eq!(desk.ok(&["cat", "x:1", "scripts/init.sh"]), "echo 2\n");
    assert_eq!(desk.ok(&["cat", "x:1", "bin/kubelet"]).len(), 7 * 300_000);
    let history = desk.ok(&["history", "x:1"]);
    assert_eq!(history.matches("(large files)").count(), 2, "{history}");

    // What has two names stays one file.
    fs::hard_link(
        desk.path("context/bin/kubelet"),
        desk.path("context/bin/hyperkube"),
    )
    .unwrap();
    build(&desk, &[]);
    let document = desk.json(&["inspect", "--no-unpack", "-o", "json", "x:1"]);
    assert_eq!(document["layers"].as_array().unwrap().len(), 2);

    // One large file alone is one layer: its folder needs none of its own.
    desk.file("context/Kubefile", "FROM scratch\nCOPY bin/kubectl bin/\n");
    assert_eq!(build(&desk, &[]).1.len(), 1);

    // Many share layers, by their paths.
    for number in 0..40 {
        desk.file(&format!("context/images/{number}.tar"), vec![number; 1 << 20]);
    }
    desk.file("context/Kubefile", "FROM scratch\nCOPY images images\n");
    build(&desk, &[]);
    desk.file("context/images/7.tar", vec![77; 1 << 20]);
    let (_, cached) = build(&desk, &[]);
    assert_eq!(cached.matches('.').count(), 1, "{cached}");
    assert!(cached.len() <= 16, "{cached}");
}

#[test]
fn another_container_image_is_another_layer_and_not_all_of_the_registry() {
    let desk = Desk::of_an_ordinary_user();
    let blob = |number: u8| {
        let path =
            format!("context/registry/docker/registry/v2/blobs/sha256/{number:02x}/{number:064x}/data");
        desk.file(&path, vec![number; 1 << 20]);
    };
    let layers = || {
        let document = desk.json(&["inspect", "--no-unpack", "-o", "json", "x:1"]);
        document["layers"].as_array().unwrap().len()
    };
    (0..4).for_each(blob);
    desk.file(
        "context/registry/docker/registry/v2/repositories/a/_layers/link",
        "a",
    );
    desk.file(
        "context/Kubefile",
        "FROM scratch\nCOPY registry registry\nCOPY Kubefile .\n",
    );
    assert_eq!(build(&desk, &[]).1, "......");
    blob(4);
    desk.file(
        "context/registry/docker/registry/v2/repositories/b/_layers/link",
        "b",
    );
    let (_, cached) = build(&desk, &[]);
    assert_eq!((cached.as_str(), layers()), (".cccc.c", 7));
    for number in 0..5 {
        let path = format!("registry/docker/registry/v2/blobs/sha256/{number:02x}/{number:064x}/data");
        assert_eq!(desk.ok(&["cat", "x:1", &path]).as_bytes()[0], number);
    }
    let history = desk.ok(&["history", "x:1"]);
    assert_eq!(history.matches("(blobs of registry/)").count(), 5, "{history}");

    // Of many, those that begin alike lie together: an image has room for 128 layers.
    (5..80).for_each(blob);
    build(&desk, &[]);
    assert_eq!(layers(), 34);
    blob(80);
    assert_eq!(
        build(&desk, &[]).1.matches('.').count(),
        2,
        "the rest, and one of 32"
    );
    desk.file(
        "context/Kubefile",
        format!(
            "FROM scratch\n{}COPY registry registry\n",
            "COPY Kubefile .\n".repeat(120)
        ),
    );
    build(&desk, &[]);
    assert_eq!(layers(), 121, "there is no room for more");
    desk.ok(&["store", "check"]);
}

#[test]
fn archives_are_not_unpacked_again() {
    let desk = Desk::of_an_ordinary_user();
    let packed = std::process::Command::new("tar")
        .args(["-czf", "context/a.tgz", "-C", "context", "one"])
        .current_dir({
            desk.file("context/one", "1");
            desk.dir.path()
        })
        .status();
    assert!(packed.unwrap().success());
    desk.file("context/Kubefile", "FROM scratch\nADD a.tgz opt/\n");
    let (first, cached) = build(&desk, &[]);
    assert_eq!(cached, ".");
    assert_eq!(build(&desk, &[]), (first, "c".to_owned()));
    assert_eq!(desk.ok(&["cat", "x:1", "opt/one"]), "1");
    desk.file("context/Kubefile", "FROM scratch\nCOPY one .\nADD a.tgz opt/\n");
    assert_eq!(build(&desk, &[]).1, "..", "what lies below has changed");
}

#[test]
fn a_build_that_failed_or_was_killed_goes_on_where_it_was() {
    if !am_root() {
        // RUN needs root.
        return;
    }
    let desk = Desk::new();
    desk.file("context/large", vec![1; 4 << 20]);
    let kubefile = "FROM scratch\nCOPY large .\nRUN echo made > made\n";
    desk.file("context/Kubefile", format!("{kubefile}RUN exit 3\n"));
    desk.fails(5, &["build", "-t", "x:1", "context"]);
    assert_eq!(blobs(&desk), 2);

    // It waits for a file that never comes, until it is killed.
    desk.file(
        "context/Kubefile",
        format!("{kubefile}RUN echo waiting > waiting; while ! test -e go-on; do read -t 0.1 x </dev/zero || true; done\n"),
    );
    let mut killed = desk
        .command(&["build", "-t", "x:1", "context"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let tmp = desk.path("root/store/tmp");
    let waits = || {
        let mut folders = fs::read_dir(&tmp).into_iter().flatten().flatten();
        folders.any(|folder| folder.path().join("upper/waiting").exists())
    };
    while !waits() {
        assert!(killed.try_wait().unwrap().is_none(), "it ended by itself");
        std::thread::yield_now();
    }
    killed.kill().unwrap();
    let said = std::io::read_to_string(killed.stderr.take().unwrap()).unwrap();
    killed.wait().unwrap();
    assert_eq!(said.matches("  cached, layer ").count(), 2, "{said}");
    assert_eq!(blobs(&desk), 2, "nothing but what can be used again");

    desk.file("context/Kubefile", format!("{kubefile}RUN cat made > again\n"));
    let (first, cached) = build(&desk, &[]);
    assert_eq!(cached, "cc.");
    assert_eq!(fs::read_dir(&tmp).unwrap().count(), 0);
    assert_eq!(desk.ok(&["cat", "x:1", "again"]), "made\n");
    assert_eq!(build(&desk, &["--no-cache"]), (first, "...".to_owned()));

    // One unfinished build of each name is kept, until it is pruned.
    let before = blobs(&desk);
    for content in ["a", "b", "c"] {
        desk.file("context/large", content);
        desk.file("context/Kubefile", "FROM x:1\nCOPY large .\nRUN exit 3\n");
        desk.fails(5, &["build", "-t", "y:1", "context"]);
        assert_eq!(blobs(&desk), before + 1);
    }
    let said = desk.ok(&["prune"]);
    assert!(said.contains("1 blob, 1 cached step"), "{said}");
    assert_eq!(blobs(&desk), before);
    desk.ok(&["store", "check"]);
}
