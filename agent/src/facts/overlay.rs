//! Whether a file system carries overlay mounts: found out by making one.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::OnceLock;

use gantry_system::mounts::{self, OverlayMount};

/// Whether overlay mounts with their writable part in `folder` work. Found out once per program.
pub(super) fn works_in(folder: &Path) -> bool {
    static WORKS: OnceLock<bool> = OnceLock::new();
    *WORKS.get_or_init(|| match try_in(folder) {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!("overlay mounts do not work in {}: {error}", folder.display());
            false
        }
    })
}

fn try_in(folder: &Path) -> io::Result<()> {
    let place = tempfile::Builder::new().prefix(".overlay-").tempdir_in(folder)?;
    let part = |name: &str| {
        let path = place.path().join(name);
        fs::create_dir(&path).map(|()| path)
    };
    let mount = OverlayMount {
        lower: vec![part("upper-layer")?, part("lower-layer")?],
        upper: Some((part("upper")?, part("work")?)),
        target: part("rootfs")?,
    };
    mount.mount()?;
    let written = fs::write(mount.target.join("file"), "");
    mounts::unmount(&mount.target).and(written)
}
