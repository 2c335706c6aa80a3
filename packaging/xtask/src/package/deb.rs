//! Debian packages, by `dpkg-deb`.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::{Package, contents, timestamp, version};
use crate::{must, repository};

/// Makes the .deb; gives its path.
pub(super) fn make(package: &Package, program: &Path, work: &Path, out: &Path) -> Result<PathBuf> {
    let root = work.join(format!("{}-deb", package.name));
    contents::lay_out(package, program, &root, "lib/systemd/system")?;
    contents::place(
        &root,
        "DEBIAN/control",
        0o644,
        control(package, &root)?.as_bytes(),
    )?;
    if !package.configuration.is_empty() {
        let files = package.configuration.iter();
        let list: String = files.map(|file| format!("/etc/gantry/{file}\n")).collect();
        contents::place(&root, "DEBIAN/conffiles", 0o644, list.as_bytes())?;
    }
    let scripts = repository().join("packaging").join(package.folder).join("deb");
    for script in fs::read_dir(scripts)? {
        let script = script?;
        let name = script.file_name().to_string_lossy().into_owned();
        contents::place(&root, &format!("DEBIAN/{name}"), 0o755, &fs::read(script.path())?)?;
    }
    contents::place(&root, "DEBIAN/md5sums", 0o644, checksums(&root)?.as_bytes())?;

    let made = out.join(format!("{}_{}_amd64.deb", package.name, version()));
    // xz: every dpkg reads it. Root owns what is inside, whoever builds.
    let mut build = Command::new("dpkg-deb");
    build
        .args(["--root-owner-group", "-Zxz", "--build"])
        .arg(&root)
        .arg(&made)
        .env("SOURCE_DATE_EPOCH", timestamp()?);
    must(&mut build)?;
    Ok(made)
}

fn control(package: &Package, root: &Path) -> Result<String> {
    let used = must(Command::new("du").args(["-sk", "--exclude=DEBIAN"]).arg(root))?;
    let installed_size = used.split_whitespace().next().unwrap_or("0");
    let mut text = format!(
        "Package: {}\nVersion: {}\nArchitecture: amd64\nMaintainer: The Gantry authors <gantry@localhost>\n\
         Section: admin\nPriority: optional\nInstalled-Size: {installed_size}\n",
        package.name,
        version(),
    );
    if !package.depends.is_empty() {
        writeln!(text, "Depends: {}", package.depends)?;
    }
    writeln!(text, "Description: {}\n {}", package.summary, package.description)?;
    Ok(text)
}

/// What `dpkg --verify` compares with.
fn checksums(root: &Path) -> Result<String> {
    let list = "find . -path ./DEBIAN -prune -o -type f -printf '%P\\0' | sort -z | xargs -0 md5sum";
    must(Command::new("sh").args(["-c", list]).current_dir(root))
}
