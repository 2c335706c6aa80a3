//! Finds the templates of a rootfs: in folders of its own only, within bounds.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use gantry_protocol::limits::{MAX_TEMPLATE_FOLDERS_DEEP, MAX_TEMPLATES};
use gantry_template::target;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::path::Arg;

use super::TemplatesError;
use super::template::Template;

type Visit<'v> = &'v mut dyn FnMut(&Template<'_>) -> Result<(), TemplatesError>;

/// Shows every template in `folders` of the rootfs to `visit`: folder by folder, in the order of their paths.
pub(super) fn walk(rootfs: &Path, folders: &[&str], visit: Visit<'_>) -> Result<(), TemplatesError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, rootfs, flags, Mode::empty())
        .map_err(|error| TemplatesError::io("open", &rootfs.display().to_string())(error.into()))?;
    let device = rustix::fs::fstat(&root)
        .map_err(|error| TemplatesError::io("look at", "the top folder")(error.into()))?
        .st_dev;
    let mut walk = Walk { device, found: 0 };
    for path in folders {
        if let Some(folder) = walk.enter_below(root.as_fd(), path)? {
            walk.folder(&folder, path, 1, visit)?;
        }
    }
    Ok(())
}

struct Walk {
    device: u64,
    found: usize,
}

impl Walk {
    /// Opens a folder below `above`, name by name; none as for [`Self::enter`].
    fn enter_below(&self, above: BorrowedFd<'_>, path: &str) -> Result<Option<OwnedFd>, TemplatesError> {
        let mut folder: Option<OwnedFd> = None;
        for name in path.split('/') {
            let above = folder.as_ref().map_or(above, OwnedFd::as_fd);
            match self.enter(above, name, path)? {
                Some(inner) => folder = Some(inner),
                None => return Ok(None),
            }
        }
        Ok(folder)
    }

    /// Opens a folder of the rootfs itself; none for links, other files and what is mounted there.
    fn enter(
        &self,
        above: BorrowedFd<'_>,
        name: impl Arg,
        path: &str,
    ) -> Result<Option<OwnedFd>, TemplatesError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = match rustix::fs::openat(above, name, flags, Mode::empty()) {
            Ok(folder) => folder,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(error) => return Err(TemplatesError::io("open", path)(error.into())),
        };
        let stat =
            rustix::fs::fstat(&folder).map_err(|error| TemplatesError::io("look at", path)(error.into()))?;
        Ok((stat.st_dev == self.device).then_some(folder))
    }

    fn folder(
        &mut self,
        folder: &OwnedFd,
        path: &str,
        depth: usize,
        visit: Visit<'_>,
    ) -> Result<(), TemplatesError> {
        let refused = |path: &str, reason: String| TemplatesError::Refused {
            path: path.to_owned(),
            reason,
        };
        if depth > MAX_TEMPLATE_FOLDERS_DEEP {
            let reason =
                format!("cannot be looked for: folders are nested deeper than {MAX_TEMPLATE_FOLDERS_DEEP}");
            return Err(refused(path, reason));
        }
        for name in names_in(folder).map_err(TemplatesError::io("read", path))? {
            let shown = format!("{path}/{}", name.to_string_lossy());
            let stat = rustix::fs::statat(folder, name.as_c_str(), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|error| TemplatesError::io("look at", &shown)(error.into()))?;
            let kind = FileType::from_raw_mode(stat.st_mode);
            if kind == FileType::Directory {
                if let Some(inner) = self.enter(folder.as_fd(), name.as_c_str(), &shown)? {
                    self.folder(&inner, &shown, depth + 1, visit)?;
                }
                continue;
            }
            let Ok(name) = name.to_str() else { continue };
            if target(name).is_none() {
                continue;
            }
            if kind != FileType::RegularFile {
                return Err(refused(&shown, "is not a regular file".into()));
            }
            self.found += 1;
            if self.found > MAX_TEMPLATES {
                return Err(refused(
                    &shown,
                    format!("is one too many: at most {MAX_TEMPLATES} are rendered"),
                ));
            }
            visit(&Template {
                folder: folder.as_fd(),
                name,
                path: shown,
                stat,
            })?;
        }
        Ok(())
    }
}

fn names_in(folder: &OwnedFd) -> io::Result<Vec<std::ffi::CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    names.sort();
    Ok(names)
}
