//! `gantry mount` and `gantry umount`: only root can, so without root it is the refusal that is tested.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod desk;

use std::fs;
use std::path::{Path, PathBuf};

use desk::{Desk, am_root, text};
use rustix::mount::UnmountFlags;

/// Unmounts what a failed test has left, so that its folder can be removed.
struct Mounts<'a>(&'a Desk);

impl Drop for Mounts<'_> {
    fn drop(&mut self) {
        drop(self.0.run(&["umount", "-a"]));
    }
}

fn desk() -> Desk {
    let desk = Desk::new();
    desk.base_context();
    desk.file("app/Kubefile", "FROM demo:v1\nCOPY daemon.json etc/\n");
    desk.file("app/daemon.json", "{\"debug\": true}");
    desk.ok(&["build", "-t", "demo:v1", "base"]);
    desk.ok(&["build", "-t", "demo:v2", "app"]);
    desk
}

fn folder(printed: &str) -> PathBuf {
    PathBuf::from(printed.trim_end())
}

/// Options of the mount at `target` by the kernel's table.
fn options(target: &Path) -> String {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = table
        .lines()
        .find(|line| line.split(' ').nth(4) == target.to_str());
    line.unwrap().split(' ').nth(5).unwrap().to_owned()
}

#[test]
fn an_ordinary_user_is_told_what_needs_no_root() {
    let desk = Desk::of_an_ordinary_user();
    desk.base_context();
    desk.ok(&["build", "-t", "demo:v1", "base"]);
    let said = desk.fails(5, &["mount", "demo:v1"]);
    assert!(
        said.contains("only root can mount an image") && said.contains("gantry cat"),
        "{said}"
    );
    assert!(!desk.path("root/mounts").exists());
    assert_eq!(desk.ok(&["mount", "-o", "json"]).trim(), "[]");
    let said = desk.fails(2, &["umount", "demo:v1"]);
    assert!(said.contains("demo:v1 is not mounted"), "{said}");
}

#[test]
fn an_image_is_mounted_seen_and_unmounted() {
    if !am_root() {
        return;
    }
    let desk = desk();
    let _mounts = Mounts(&desk);
    let target = folder(&desk.ok(&["mount", "demo:v2"]));
    assert!(
        target.starts_with(desk.path("root/mounts")),
        "{}",
        target.display()
    );
    let read = |path: &str| fs::read_to_string(target.join(path)).unwrap();
    assert_eq!(read("etc/daemon.json"), "{\"debug\": true}");
    assert!(read("scripts/init.sh").starts_with("#!/bin/bash"));
    assert!(fs::write(target.join("etc/daemon.json"), "x").is_err());
    let options = options(&target);
    for option in ["ro", "nosuid", "nodev"] {
        assert!(options.split(',').any(|one| one == option), "{option}: {options}");
    }
    // The same again is the same mount; elsewhere it is another one.
    assert_eq!(folder(&desk.ok(&["mount", "demo:v2"])), target);
    let other = folder(&desk.ok(&["mount", "demo:v2", "seen"]));
    assert_eq!(other, desk.path("seen"));
    let list = desk.json(&["mount", "-o", "json"]);
    assert_eq!(list.as_array().unwrap().len(), 2, "{list}");
    assert_eq!(list[0]["name"], "demo:v2");
    assert!(desk.ok(&["mount"]).starts_with("IMAGE"));
    for full in ["seen", "base"] {
        let said = desk.fails(2, &["mount", "demo:v1", full]);
        assert!(
            said.contains("mounted at") || said.contains("is not empty"),
            "{said}"
        );
    }

    assert_eq!(folder(&desk.ok(&["umount", "seen"])), other);
    assert!(desk.path("seen").exists(), "a folder that was there stays");
    desk.ok(&["umount", "demo:v2"]);
    assert!(!target.exists());
    let said = desk.fails(2, &["umount", "demo:v2"]);
    assert!(said.contains("is not mounted"), "{said}");
}

#[test]
fn a_mounted_image_stays_until_it_is_unmounted() {
    if !am_root() {
        return;
    }
    let desk = desk();
    let _mounts = Mounts(&desk);
    // One layer alone is a bind mount, several are an overlay.
    let single = folder(&desk.ok(&["mount", "demo:v1"]));
    let several = folder(&desk.ok(&["mount", "demo:v2"]));
    let said = desk.fails(8, &["rmi", "demo:v2"]);
    assert!(
        said.contains("is mounted at") && said.contains("gantry umount demo:v2"),
        "{said}"
    );
    desk.ok(&["tag", "demo:v2", "other:v2"]);
    desk.ok(&["rmi", "other:v2"]);
    let pruned = desk.run(&["prune"]);
    assert!(
        text(&pruned.stderr).contains("demo:v2 is mounted at"),
        "{pruned:?}"
    );
    // A build that takes its name leaves what is mounted as it is.
    desk.file("app/daemon.json", "{\"debug\": false}");
    desk.ok(&["build", "-t", "demo:v2", "app"]);
    desk.ok(&["prune"]);
    assert_eq!(
        fs::read_to_string(several.join("etc/daemon.json")).unwrap(),
        "{\"debug\": true}"
    );

    // In use: it stays mounted, and that is said.
    let open = fs::File::open(single.join("etc/daemon.json")).unwrap();
    let said = desk.fails(8, &["umount", "demo:v1"]);
    assert!(said.contains("fuser -vm"), "{said}");
    drop(open);
    // Somebody used umount(8).
    rustix::mount::unmount(&single, UnmountFlags::empty()).unwrap();
    assert_eq!(desk.json(&["mount", "-o", "json"]).as_array().unwrap().len(), 1);
    assert!(!single.exists());
    desk.ok(&["umount", "--all"]);
    desk.ok(&["rmi", "demo:v1", "demo:v2"]);
}
