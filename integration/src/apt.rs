//! The Debian packages this machine can get: its own apt sources, nothing named here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{cache, command};

/// The code name of this machine's release, e.g. `bookworm`.
///
/// # Errors
/// When `/etc/os-release` does not say.
pub fn suite() -> Result<String> {
    let text = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    text.lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .map(|name| name.trim_matches('"').to_owned())
        .context("/etc/os-release names no VERSION_CODENAME: test hosts are made on Debian machines")
}

/// Writes this machine's sources for its own release into `folder`; gives the files written.
///
/// Sources for other suites (vendors' repositories) are left out: hosts need nothing from them, and an
/// unreachable one would end the making of a host.
///
/// # Errors
/// When no source for the release is configured, or a file cannot be written.
pub fn write_sources(folder: &Path, suite: &str) -> Result<Vec<PathBuf>> {
    let (mut lines, mut stanzas) = (String::new(), String::new());
    for path in configured_sources()? {
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        if path.extension().is_some_and(|extension| extension == "sources") {
            stanzas.extend(
                text.split("\n\n")
                    .filter(|stanza| stanza_is_for(stanza, suite))
                    .map(|s| format!("{}\n\n", s.trim())),
            );
        } else {
            lines.extend(
                text.lines()
                    .filter(|line| line_is_for(line, suite))
                    .map(|line| format!("{line}\n")),
            );
        }
    }
    let mut written = Vec::new();
    for (name, text) in [("machine.list", lines), ("machine.sources", stanzas)] {
        if !text.is_empty() {
            let path = folder.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            written.push(path);
        }
    }
    if written.is_empty() {
        bail!("/etc/apt names no source for {suite}: test hosts are made from this machine's own sources");
    }
    Ok(written)
}

/// This machine's proxy, retry and date settings, as `mmdebstrap --aptopt=` wants them.
///
/// # Errors
/// When `apt-config` fails.
pub fn settings() -> Result<Vec<String>> {
    let dump = command::must("apt-config", ["dump", "Acquire"])?;
    let wanted = [
        "Acquire::http",
        "Acquire::https",
        "Acquire::Check-",
        "Acquire::Retries",
    ];
    let set = |line: &&str| wanted.iter().any(|start| line.starts_with(start)) && !line.ends_with(" \"\";");
    Ok(dump
        .lines()
        .filter(set)
        .map(|line| line.trim_end_matches(';').to_owned())
        .collect())
}

/// The files of these packages (not of what they depend on) laid over each other in one cached folder.
///
/// # Errors
/// When a package cannot be downloaded or unpacked.
pub fn unpacked(name: &str, packages: &[&str]) -> Result<PathBuf> {
    cache::made_once(name, |folder| {
        let downloads = folder.join("debs");
        fs::create_dir_all(&downloads)?;
        // apt-get drops to a user that may not write here, and then only warns: say so to begin with.
        let mut download = Command::new("apt-get");
        download
            .args(["-q", "-o", "APT::Sandbox::User=root", "download"])
            .args(packages)
            .current_dir(&downloads);
        command::run(&mut download)?.ok()?;
        let tree = folder.join("tree");
        fs::create_dir(&tree)?;
        for deb in fs::read_dir(&downloads)? {
            // Not `dpkg -x`: it replaces links to folders, such as the one that makes /lib lead to /usr/lib.
            command::must(
                "dpkg-deb",
                ["-x".as_ref(), deb?.path().as_os_str(), tree.as_os_str()],
            )?;
        }
        cache::remove_tree(&downloads)
    })
    .map(|folder| folder.join("tree"))
}

fn configured_sources() -> Result<Vec<PathBuf>> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(folder) = fs::read_dir("/etc/apt/sources.list.d") {
        for entry in folder {
            files.push(entry?.path());
        }
    }
    files.retain(|path| path.is_file() && path.extension().is_some_and(|e| e == "list" || e == "sources"));
    files.sort();
    Ok(files)
}

fn stanza_is_for(stanza: &str, suite: &str) -> bool {
    let field = |name: &str| {
        stanza
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .map(str::trim)
    };
    field("Types:").is_some_and(|types| types.split_whitespace().any(|kind| kind == "deb"))
        && field("Suites:").is_some_and(|suites| suites.split_whitespace().all(|one| is_suite(one, suite)))
        && field("Enabled:") != Some("no")
}

fn line_is_for(line: &str, suite: &str) -> bool {
    let mut words = line.split_whitespace();
    if words.next() != Some("deb") {
        return false;
    }
    let mut rest: Vec<&str> = words.collect();
    if rest.first().is_some_and(|word| word.starts_with('[')) {
        let end = rest
            .iter()
            .position(|word| word.ends_with(']'))
            .unwrap_or(rest.len() - 1);
        rest.drain(..=end);
    }
    rest.get(1).is_some_and(|word| is_suite(word, suite))
}

fn is_suite(word: &str, suite: &str) -> bool {
    let word = word.trim_end_matches('/');
    word == suite
        || ["-updates", "-security", "/updates"]
            .iter()
            .any(|tail| word == format!("{suite}{tail}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_of_the_release_are_taken_and_vendors_are_not() {
        assert!(line_is_for(
            "deb [signed-by=/k.gpg arch=amd64] http://mirror bookworm main",
            "bookworm"
        ));
        assert!(line_is_for(
            "deb http://mirror bookworm-updates main contrib",
            "bookworm"
        ));
        assert!(!line_is_for("deb http://vendor cloud-bookworm main", "bookworm"));
        assert!(!line_is_for("deb-src http://mirror bookworm main", "bookworm"));
        assert!(!line_is_for("# deb http://mirror bookworm main", "bookworm"));
        assert!(stanza_is_for(
            "Types: deb\nURIs: http://m\nSuites: bookworm bookworm-updates",
            "bookworm"
        ));
        assert!(!stanza_is_for(
            "Types: deb\nURIs: http://m\nSuites: nodistro",
            "bookworm"
        ));
        assert!(!stanza_is_for(
            "Types: deb\nSuites: bookworm\nEnabled: no",
            "bookworm"
        ));
    }
}
