//! This module owns [`Template`]: one template of the rootfs and the file that is made of it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::BorrowedFd;

use gantry_template::{MAX_TEMPLATE_LEN, render, target};
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;

use super::TemplatesError;

/// Beside the file that is written, until it is whole.
const FRESH: &str = ".gantry-rendered";

/// A template that was found.
pub(super) struct Template<'a> {
    pub(super) folder: BorrowedFd<'a>,
    /// Its name in `folder`.
    pub(super) name: &'a str,
    /// Its path below the rootfs, for messages.
    pub(super) path: String,
    pub(super) stat: Stat,
}

impl Template<'_> {
    /// The name of what it makes.
    pub(super) fn target(&self) -> &str {
        target(self.name).unwrap_or(self.name)
    }

    /// Where that is below the rootfs.
    pub(super) fn target_path(&self) -> &str {
        target(&self.path).unwrap_or(&self.path)
    }

    fn io(&self, action: &'static str) -> impl Fn(io::Error) -> TemplatesError {
        TemplatesError::io(action, &self.path)
    }

    pub(super) fn rendered(&self, values: &BTreeMap<String, String>) -> Result<String, TemplatesError> {
        let refused = |reason: &str| TemplatesError::Refused {
            path: self.path.clone(),
            reason: reason.to_owned(),
        };
        let bytes = read(self.folder, self.name, MAX_TEMPLATE_LEN)
            .map_err(self.io("read"))?
            .ok_or_else(|| refused(&format!("is longer than {MAX_TEMPLATE_LEN} bytes")))?;
        let text = String::from_utf8(bytes).map_err(|_| refused("is not UTF-8 text"))?;
        render(&text, values).map_err(|source| TemplatesError::Template {
            path: self.path.clone(),
            source,
        })
    }

    pub(super) fn is_in_place(&self, text: &str) -> Result<bool, TemplatesError> {
        match rustix::fs::statat(self.folder, self.target(), AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(false),
            Err(error) => return Err(self.io("look at what is made of")(error.into())),
            Ok(there) if there.st_mode != self.stat.st_mode || there.st_size != text.len() as i64 => {
                return Ok(false);
            }
            Ok(_) => {}
        }
        let there = read(self.folder, self.target(), text.len()).map_err(self.io("read what is made of"))?;
        Ok(there.as_deref() == Some(text.as_bytes()))
    }

    /// Written beside, synced, renamed, and the folder synced.
    pub(super) fn put(&self, text: &str) -> Result<(), TemplatesError> {
        let fresh = format!("{}{FRESH}", self.target());
        let put = || -> io::Result<()> {
            match rustix::fs::unlinkat(self.folder, &fresh, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut file = File::from(rustix::fs::openat(self.folder, &fresh, flags, Mode::RUSR)?);
            file.write_all(text.as_bytes())?;
            if rustix::process::geteuid().is_root() {
                let (uid, gid) = (Uid::from_raw(self.stat.st_uid), Gid::from_raw(self.stat.st_gid));
                rustix::fs::fchown(&file, Some(uid), Some(gid))?;
            }
            rustix::fs::fchmod(&file, Mode::from_raw_mode(self.stat.st_mode))?;
            file.sync_all()?;
            rustix::fs::renameat(self.folder, &fresh, self.folder, self.target())?;
            Ok(rustix::fs::fsync(self.folder)?)
        };
        put().map_err(self.io("write what is made of"))
    }
}

/// The regular file `name`, unless it is longer than `most`.
pub(super) fn read(folder: BorrowedFd<'_>, name: &str, most: usize) -> io::Result<Option<Vec<u8>>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(folder, name, flags, Mode::empty())?);
    let mut bytes = Vec::new();
    file.take(most as u64 + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() <= most).then_some(bytes))
}
