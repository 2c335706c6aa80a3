//! The link at the place where scripts written for sealer look for the rootfs.
//!
//! Whatever else stands there is somebody's cluster: it is never replaced and never removed. Folders that had to be
//! made on the way to the link are written down and removed again, if they are empty then.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use gantry_model::ClusterName;
use gantry_system::files;

use super::RootfsError;

/// Beside the generations: folders made for the link, one per line, outermost first.
const MADE: &str = "sealer-folders";

/// Where the link is.
pub(super) fn path(sealer_data: &Path, cluster: &ClusterName) -> PathBuf {
    sealer_data.join(cluster.as_str()).join("rootfs")
}

/// Where it leads.
fn target(data: &Path, cluster: &ClusterName) -> PathBuf {
    data.join(cluster.as_str()).join("rootfs")
}

/// Whether the link is there and leads to the cluster's rootfs.
pub(super) fn is_ours(sealer_data: &Path, data: &Path, cluster: &ClusterName) -> bool {
    fs::read_link(path(sealer_data, cluster)).is_ok_and(|found| found == target(data, cluster))
}

/// Whether the link can be made.
pub(super) fn check(sealer_data: &Path, data: &Path, cluster: &ClusterName) -> Result<(), RootfsError> {
    let link = path(sealer_data, cluster);
    match fs::symlink_metadata(&link) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(RootfsError::io("look at", &link)(error)),
        Ok(_) if is_ours(sealer_data, data, cluster) => Ok(()),
        Ok(_) => Err(RootfsError::InTheWay { path: link }),
    }
}

/// Makes the link if it is not there.
pub(super) fn make(sealer_data: &Path, data: &Path, cluster: &ClusterName) -> Result<(), RootfsError> {
    check(sealer_data, data, cluster)?;
    if is_ours(sealer_data, data, cluster) {
        return Ok(());
    }
    let link = path(sealer_data, cluster);
    let folder = link.parent().unwrap_or(sealer_data);
    let missing: Vec<&Path> = folder.ancestors().take_while(|folder| !folder.exists()).collect();
    if !missing.is_empty() {
        let note = data.join(cluster.as_str()).join(MADE);
        let lines: Vec<String> = missing
            .iter()
            .rev()
            .map(|folder| format!("{}\n", folder.display()))
            .collect();
        files::write_atomically(&note, lines.concat().as_bytes(), 0o644)
            .map_err(RootfsError::io("write", &note))?;
    }
    fs::create_dir_all(folder).map_err(RootfsError::io("make", folder))?;
    files::replace_symlink(&target(data, cluster), &link).map_err(RootfsError::io("link", &link))
}

/// Removes the link if it is ours, and the folders made for it if they are empty.
pub(super) fn remove(sealer_data: &Path, data: &Path, cluster: &ClusterName) -> Result<(), RootfsError> {
    let link = path(sealer_data, cluster);
    if is_ours(sealer_data, data, cluster) {
        fs::remove_file(&link).map_err(RootfsError::io("remove", &link))?;
    }
    let made = fs::read_to_string(data.join(cluster.as_str()).join(MADE)).unwrap_or_default();
    for folder in made.lines().rev().map(Path::new) {
        // Only what leads to the link, whatever the note says; somebody else's files keep a folder.
        if link.starts_with(folder) && fs::remove_dir(folder).is_err() {
            break;
        }
    }
    Ok(())
}
