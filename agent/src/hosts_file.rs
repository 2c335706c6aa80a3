//! This module owns the clusters' marked blocks in `/etc/hosts`.
//!
//! ```text
//! # gantry demo begin
//! 10.77.0.11 sea.hub
//! # gantry demo end
//! ```
//!
//! A new block goes to the top: the first line that has a name is the one that counts. Every other byte of the
//! file stays as it is.

use std::io;
use std::net::IpAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};

use gantry_model::{ClusterName, Digest, HostsEntry};
use gantry_protocol::limits::MAX_HOSTS_ENTRIES;
use gantry_system::files;
use rustix::io::Errno;

/// Longest host name, from RFC 1035.
const MAX_NAME_LEN: usize = 253;

/// Why the hosts file cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum HostsFileError {
    /// The file system said no.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The marks are not in pairs.
    #[error("{}: line {line} is {mark:?} without its counterpart; repair or remove the block by hand", path.display())]
    BrokenBlock {
        /// The file.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
        /// The line.
        mark: String,
    },
}

/// Whether `entries` can stand in a hosts file.
///
/// # Errors
/// What is wrong with which entry.
pub fn check(entries: &[HostsEntry]) -> Result<(), String> {
    if entries.len() > MAX_HOSTS_ENTRIES {
        return Err(format!(
            "{} hosts entries; at most {MAX_HOSTS_ENTRIES} are allowed",
            entries.len()
        ));
    }
    for entry in entries {
        if entry.names.is_empty() {
            return Err(format!("the hosts entry of {} has no name", entry.address));
        }
        let legal = |name: &&String| {
            let bytes = name.as_bytes();
            (1..=MAX_NAME_LEN).contains(&bytes.len())
                && bytes
                    .iter()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
        };
        if let Some(name) = entry.names.iter().find(|name| !legal(name)) {
            let name: String = name.chars().take(64).collect();
            return Err(format!("{name:?} (for {}) is not a host name", entry.address));
        }
    }
    Ok(())
}

/// The digest of the block that `entries` make.
#[must_use]
pub fn digest(cluster: &ClusterName, entries: &[HostsEntry]) -> Digest {
    Digest::of(&block(cluster, entries))
}

/// The hosts file of this host.
#[derive(Debug, Clone)]
pub struct HostsFile {
    path: PathBuf,
}

impl HostsFile {
    /// The hosts file at `path`.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
        }
    }

    /// Makes `entries` the block of `cluster`. Gives whether anything had to change.
    ///
    /// # Errors
    /// When the file cannot be read or written, or a block in it is broken.
    pub fn write(&self, cluster: &ClusterName, entries: &[HostsEntry]) -> Result<bool, HostsFileError> {
        self.change(cluster, &block(cluster, entries))
    }

    /// Removes the block of `cluster`. Gives whether there was one.
    ///
    /// # Errors
    /// When the file cannot be read or written, or a block in it is broken.
    pub fn remove(&self, cluster: &ClusterName) -> Result<bool, HostsFileError> {
        self.change(cluster, b"")
    }

    /// The digest of the block of `cluster` as it is now; none when there is no block.
    ///
    /// # Errors
    /// When the file cannot be read or a block in it is broken.
    pub fn digest(&self, cluster: &ClusterName) -> Result<Option<Digest>, HostsFileError> {
        let text = self.read()?;
        Ok(self.find(&text, cluster)?.map(|range| Digest::of(&text[range])))
    }

    /// Where `name` leads to by this file: the first line that has it counts.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn address(&self, name: &str) -> Result<Option<IpAddr>, HostsFileError> {
        let text = self.read()?;
        let lines = text.split(|&byte| byte == b'\n');
        let mut lines =
            lines.filter_map(|line| std::str::from_utf8(line.split(|&byte| byte == b'#').next()?).ok());
        Ok(lines.find_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let address = words.next()?.parse().ok()?;
            words
                .any(|word| word.eq_ignore_ascii_case(name))
                .then_some(address)
        }))
    }

    fn change(&self, cluster: &ClusterName, block: &[u8]) -> Result<bool, HostsFileError> {
        let old = self.read()?;
        let place = self.find(&old, cluster)?.unwrap_or(0..0);
        if old[place.clone()] == *block {
            return Ok(false);
        }
        let mut new = old[..place.start].to_vec();
        new.extend_from_slice(block);
        new.extend_from_slice(&old[place.end..]);
        self.replace(&new)
            .map_err(|source| self.failed("write", source))?;
        Ok(true)
    }

    fn read(&self) -> Result<Vec<u8>, HostsFileError> {
        match std::fs::read(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            read => read.map_err(|source| self.failed("read", source)),
        }
    }

    /// Where the block lies, newline of its last line included.
    fn find(&self, text: &[u8], cluster: &ClusterName) -> Result<Option<Range<usize>>, HostsFileError> {
        let (begin, end) = marks(cluster);
        let broken = |line: usize, mark: &str| {
            Err(HostsFileError::BrokenBlock {
                path: self.path.clone(),
                line: line + 1,
                mark: mark.to_owned(),
            })
        };
        let (mut offset, mut open, mut found) = (0, None, None);
        for (number, line) in text.split_inclusive(|&byte| byte == b'\n').enumerate() {
            let words = line.trim_ascii();
            if words == begin.as_bytes() {
                if open.is_some() || found.is_some() {
                    return broken(number, &begin);
                }
                open = Some((offset, number));
            } else if words == end.as_bytes() {
                let Some((start, _)) = open.take() else {
                    return broken(number, &end);
                };
                found = Some(start..offset + line.len());
            }
            offset += line.len();
        }
        match open {
            Some((_, number)) => broken(number, &begin),
            None => Ok(found),
        }
    }

    fn replace(&self, text: &[u8]) -> io::Result<()> {
        use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
        // A hosts file that is a link stays one.
        let path = std::fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let before = std::fs::metadata(&path).ok();
        let mode = before
            .as_ref()
            .map_or(0o644, |meta| meta.permissions().mode() & 0o7777);
        match files::write_atomically(&path, text, mode) {
            // Bind-mounted by a container engine: it cannot be replaced, only rewritten.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::BUSY) => std::fs::write(&path, text),
            Err(error) => Err(error),
            Ok(()) => match before.map(|meta| (meta.uid(), meta.gid())) {
                Some((uid, gid)) if (uid, gid) != owner(&path)? => chown(&path, Some(uid), Some(gid)),
                _ => Ok(()),
            },
        }
    }

    fn failed(&self, doing: &'static str, source: io::Error) -> HostsFileError {
        HostsFileError::Io {
            doing,
            path: self.path.clone(),
            source,
        }
    }
}

fn owner(path: &Path) -> io::Result<(u32, u32)> {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(path).map(|meta| (meta.uid(), meta.gid()))
}

fn marks(cluster: &ClusterName) -> (String, String) {
    (
        format!("# gantry {cluster} begin"),
        format!("# gantry {cluster} end"),
    )
}

fn block(cluster: &ClusterName, entries: &[HostsEntry]) -> Vec<u8> {
    use std::fmt::Write as _;
    let (begin, end) = marks(cluster);
    let mut text = format!("{begin}\n");
    for entry in entries {
        let _ = writeln!(text, "{} {}", entry.address, entry.names.join(" "));
    }
    let _ = writeln!(text, "{end}");
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    const PLAIN: &[u8] = b"127.0.0.1\tlocalhost\r\n\n# \xff odd bytes, no newline at the end";

    fn cluster(name: &str) -> ClusterName {
        name.parse().unwrap()
    }

    fn entry(address: &str, name: &str) -> HostsEntry {
        HostsEntry {
            address: address.parse().unwrap(),
            names: vec![name.into()],
        }
    }

    fn hosts(text: &[u8]) -> (tempfile::TempDir, HostsFile) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hosts");
        fs::write(&path, text).unwrap();
        (folder, HostsFile::new(&path))
    }

    #[test]
    fn a_block_is_written_once_replaced_in_place_and_removed_without_a_trace() {
        let (_folder, hosts) = hosts(PLAIN);
        let (demo, other) = (cluster("demo"), cluster("demo2"));
        let first = [entry("10.77.0.11", "sea.hub")];
        assert!(hosts.write(&demo, &first).unwrap());
        assert!(!hosts.write(&demo, &first).unwrap());
        assert!(
            hosts
                .write(&other, &[entry("fd00::1", "apiserver.cluster.local")])
                .unwrap()
        );
        let second = [entry("10.77.0.12", "sea.hub")];
        assert!(hosts.write(&demo, &second).unwrap());
        assert_eq!(hosts.digest(&demo).unwrap(), Some(digest(&demo, &second)));
        assert_ne!(digest(&demo, &first), digest(&demo, &second));
        let text = fs::read(&hosts.path).unwrap();
        assert!(text.ends_with(PLAIN));
        assert!(hosts.remove(&demo).unwrap() && hosts.remove(&other).unwrap());
        assert!(!hosts.remove(&demo).unwrap());
        assert_eq!(fs::read(&hosts.path).unwrap(), PLAIN);
    }

    #[test]
    fn a_name_leads_where_the_first_line_that_has_it_says() {
        let text = b"# 10.0.0.9 sea.hub\n\xff sea.hub\n10.0.0.1\tregistry Sea.Hub # 10.0.0.8\n10.0.0.2 sea.hub other\n";
        let (_folder, hosts) = hosts(text);
        assert_eq!(hosts.address("sea.hub").unwrap(), Some([10, 0, 0, 1].into()));
        assert_eq!(hosts.address("other").unwrap(), Some([10, 0, 0, 2].into()));
        assert_eq!(hosts.address("hub").unwrap(), None);
        assert_eq!(hosts.address("10.0.0.1").unwrap(), None);
    }

    #[test]
    fn the_mode_stays_and_a_link_stays_a_link() {
        let (folder, hosts) = hosts(PLAIN);
        fs::set_permissions(&hosts.path, fs::Permissions::from_mode(0o640)).unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&hosts.path, &link).unwrap();
        HostsFile::new(&link)
            .write(&cluster("demo"), &[entry("10.0.0.1", "a")])
            .unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(
            fs::metadata(&hosts.path).unwrap().permissions().mode() & 0o7777,
            0o640
        );
        assert!(hosts.digest(&cluster("demo")).unwrap().is_some());
    }

    #[test]
    fn a_broken_block_is_named_and_nothing_is_written() {
        let text = b"# gantry demo begin\n10.0.0.1 a\n";
        let (_folder, hosts) = hosts(text);
        let error = hosts.remove(&cluster("demo")).unwrap_err().to_string();
        assert!(error.contains("line 1"), "{error}");
        assert_eq!(fs::read(&hosts.path).unwrap(), text);
    }

    #[test]
    fn names_that_would_break_the_file_are_refused() {
        for name in ["", "a b", "a\n10.0.0.1 b", "a#b", &"x".repeat(300)] {
            assert!(check(&[entry("10.0.0.1", name)]).is_err(), "{name:?}");
        }
        assert!(check(&[entry("10.0.0.1", "apiserver.cluster.local")]).is_ok());
    }

    proptest! {
        #[test]
        fn whatever_was_there_is_there_afterwards(text in prop::collection::vec(any::<u8>(), 0..200)) {
            let (_folder, hosts) = hosts(&text);
            hosts.write(&cluster("demo"), &[entry("10.0.0.1", "a")]).unwrap();
            hosts.remove(&cluster("demo")).unwrap();
            prop_assert_eq!(fs::read(&hosts.path).unwrap(), text);
        }
    }
}
