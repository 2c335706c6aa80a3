//! Files of the image that a control plane needs in place before kubeadm runs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use gantry_system::files;

/// From the rootfs to the host: images configure their API server to read it there.
const AUDIT_POLICY: (&str, &str) = ("statics/audit-policy.yml", "/etc/kubernetes/audit-policy.yml");

/// Why a file is not in place.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub(crate) struct StaticsError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// Puts the image's files where a control plane looks for them.
///
/// # Errors
/// When one cannot be read or written.
pub(crate) fn place(rootfs: &Path) -> Result<(), StaticsError> {
    place_at(rootfs, Path::new(AUDIT_POLICY.1))
}

/// Removes them again, unless they are others by now.
///
/// # Errors
/// When one cannot be read or removed.
pub(crate) fn remove(rootfs: &Path) -> Result<(), StaticsError> {
    remove_at(rootfs, Path::new(AUDIT_POLICY.1))
}

fn place_at(rootfs: &Path, target: &Path) -> Result<(), StaticsError> {
    let source = rootfs.join(AUDIT_POLICY.0);
    let Some(content) = read(&source)? else {
        return Ok(());
    };
    if let Some(folder) = target.parent() {
        fs::create_dir_all(folder).map_err(failed("make", folder))?;
    }
    files::write_atomically(target, &content, 0o600).map_err(failed("write", target))
}

fn remove_at(rootfs: &Path, target: &Path) -> Result<(), StaticsError> {
    let source = rootfs.join(AUDIT_POLICY.0);
    let (ours, found) = (read(&source)?, read(target)?);
    if ours.is_some() && ours == found {
        fs::remove_file(target).map_err(failed("remove", target))?;
    }
    Ok(())
}

/// None: there is no such file.
fn read(path: &Path) -> Result<Option<Vec<u8>>, StaticsError> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path)(error)),
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StaticsError {
    let path = path.to_owned();
    move |source| StaticsError { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_audit_policy_comes_and_goes_with_the_control_plane() {
        let folder = tempfile::tempdir().unwrap();
        let (rootfs, target) = (
            folder.path().join("rootfs"),
            folder.path().join("etc/audit-policy.yml"),
        );
        place_at(&rootfs, &target).unwrap();
        assert!(!target.exists(), "an image need not have one");
        fs::create_dir_all(rootfs.join("statics")).unwrap();
        fs::write(rootfs.join(AUDIT_POLICY.0), "kind: Policy\n").unwrap();
        place_at(&rootfs, &target).unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "kind: Policy\n");
        fs::write(&target, "somebody's own\n").unwrap();
        remove_at(&rootfs, &target).unwrap();
        assert!(target.exists());
        place_at(&rootfs, &target).unwrap();
        remove_at(&rootfs, &target).unwrap();
        assert!(!target.exists());
    }
}
