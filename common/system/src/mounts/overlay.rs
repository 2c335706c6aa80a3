//! This module owns [`OverlayMount`]: read-only folders below, one writable folder on top.
//!
//! Two ways lead to the same mount. Kernels from 6.8 take the lower folders one by one (`lowerdir+`), up to 500.
//! Older kernels take one string of at most a page; there the folders get names of one to three digits in a
//! private folder, and a thread with its own working directory mounts from inside it. The first way is tried,
//! not guessed from the kernel's version.

use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, unshare};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, mount, mount_bind, mount_remount, move_mount,
};

/// Most lower folders of one mount; the kernel's limit is 500.
pub const MAX_LOWER: usize = 490;

/// What keeps the writable folder self-contained: no renames recorded as redirects, no file whose data stays
/// below, no index. Such a folder can become a layer. The last one is unknown to kernel 4.18.
const PLAIN_UPPER: [(&str, &str); 3] = [("redirect_dir", "off"), ("index", "off"), ("metacopy", "off")];

/// An overlay mount to be made.
#[derive(Debug, Clone)]
pub struct OverlayMount {
    /// Read-only folders, the top one first.
    pub lower: Vec<PathBuf>,
    /// The writable folder and the empty folder beside it that the kernel works in; none makes the mount read-only.
    pub upper: Option<(PathBuf, PathBuf)>,
    /// An existing folder.
    pub target: PathBuf,
}

impl OverlayMount {
    /// Makes the mount. Needs the right to mount.
    ///
    /// # Errors
    /// When a folder is missing, there are too many or none, or the kernel refuses; the text names the target
    /// and what the kernel said.
    pub fn mount(&self) -> io::Result<()> {
        if self.lower.is_empty() || self.lower.len() > MAX_LOWER {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "an overlay mount has 1 to {MAX_LOWER} lower folders, not {}",
                    self.lower.len()
                ),
            ));
        }
        for folder in self
            .lower
            .iter()
            .chain(self.upper.iter().flat_map(|(upper, work)| [upper, work]))
        {
            if !folder.is_dir() {
                let reason = format!(
                    "cannot mount {}: {} is not a folder",
                    self.target.display(),
                    folder.display()
                );
                return Err(io::Error::new(io::ErrorKind::NotFound, reason));
            }
        }
        if let ([only], None) = (&*self.lower, &self.upper) {
            // The kernel refuses an overlay of one folder.
            return self
                .bind(only)
                .map_err(|error| self.named(&error.to_string(), error.kind()));
        }
        match self.mount_one_by_one() {
            Err(Refused {
                errno: Errno::NOSYS | Errno::INVAL | Errno::OPNOTSUPP,
                ..
            }) => self
                .mount_by_short_names()
                .map_err(|error| self.named(&error.to_string(), error.kind())),
            Err(refused) => {
                let kind = io::Error::from(refused.errno).kind();
                Err(self.named(&refused.to_string(), kind))
            }
            Ok(()) => Ok(()),
        }
    }

    fn named(&self, reason: &str, kind: io::ErrorKind) -> io::Error {
        io::Error::new(
            kind,
            format!("cannot mount an overlay at {}: {reason}", self.target.display()),
        )
    }

    fn bind(&self, folder: &Path) -> io::Result<()> {
        mount_bind(folder, &self.target)?;
        mount_remount(&self.target, MountFlags::BIND | MountFlags::RDONLY, "")?;
        Ok(())
    }

    fn mount_one_by_one(&self) -> Result<(), Refused> {
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        let set = |key: &str, value: &Path| {
            fsconfig_set_string(context.as_fd(), key, value).map_err(|errno| Refused::by(errno, &context))
        };
        for folder in &self.lower {
            set("lowerdir+", folder)?;
        }
        if let Some((upper, work)) = &self.upper {
            set("upperdir", upper)?;
            set("workdir", work)?;
            for (key, value) in PLAIN_UPPER {
                set(key, Path::new(value))?;
            }
        }
        fsconfig_create(context.as_fd()).map_err(|errno| Refused::by(errno, &context))?;
        let attributes = if self.upper.is_none() {
            MountAttrFlags::MOUNT_ATTR_RDONLY
        } else {
            MountAttrFlags::empty()
        };
        let mounted = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
            .map_err(|errno| Refused::by(errno, &context))?;
        move_mount(
            mounted.as_fd(),
            "",
            CWD,
            &self.target,
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
        )?;
        Ok(())
    }

    fn mount_by_short_names(&self) -> io::Result<()> {
        let names = tempfile::Builder::new().prefix(".gantry-mount-").tempdir()?;
        for (number, folder) in self.lower.iter().enumerate() {
            symlink(
                std::path::absolute(folder)?,
                names.path().join(number.to_string()),
            )?;
        }
        let lower: Vec<String> = (0..self.lower.len()).map(|number| number.to_string()).collect();
        let mut options = format!("lowerdir={}", lower.join(":"));
        if let Some((upper, work)) = &self.upper {
            symlink(std::path::absolute(upper)?, names.path().join("u"))?;
            symlink(std::path::absolute(work)?, names.path().join("w"))?;
            options.push_str(",upperdir=u,workdir=w");
        }
        let target = std::path::absolute(&self.target)?;
        let plain: Vec<String> = PLAIN_UPPER
            .iter()
            .map(|(key, value)| format!(",{key}={value}"))
            .collect();
        let extras = if self.upper.is_some() {
            [plain.concat(), plain[..2].concat()]
        } else {
            Default::default()
        };
        let flags = if self.upper.is_none() {
            MountFlags::RDONLY
        } else {
            MountFlags::empty()
        };
        let attempt = || -> io::Result<()> {
            unshare(CloneFlags::CLONE_FS)?;
            rustix::process::chdir(names.path())?;
            let mut result = Ok(());
            for extra in &extras {
                let options = std::ffi::CString::new(format!("{options}{extra}"))?;
                result = mount("overlay", &target, "overlay", flags, options.as_c_str());
                if result != Err(Errno::INVAL) {
                    break;
                }
            }
            result.map_err(Into::into)
        };
        // Its own thread, so that only this thread's working directory changes.
        std::thread::scope(|scope| scope.spawn(attempt).join())
            .unwrap_or_else(|_| Err(io::Error::other("the mounting thread panicked")))
    }
}

/// A refusal of the kernel, with the line it left in the mount context.
#[derive(Debug)]
struct Refused {
    errno: Errno,
    message: String,
}

impl Refused {
    fn by(errno: Errno, context: &OwnedFd) -> Self {
        let mut line = [0; 512];
        let read = rustix::io::read(context, &mut line).unwrap_or(0);
        // Lines begin with a letter for their weight and a blank: `e overlay: …`.
        let message = String::from_utf8_lossy(line[..read].get(2..).unwrap_or_default())
            .trim()
            .to_owned();
        Self { errno, message }
    }
}

impl From<Errno> for Refused {
    fn from(errno: Errno) -> Self {
        Self {
            errno,
            message: String::new(),
        }
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", io::Error::from(self.errno))?;
        if self.message.is_empty() {
            Ok(())
        } else {
            write!(f, " ({})", self.message)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{files, mounts};
    use std::fs;

    /// Runs `check` where mounting is allowed and seen by nobody else; without that right there is nothing to check.
    fn in_own_mounts(check: fn(&Path)) {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            rustix::mount::mount_change(
                "/",
                rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC,
            )
            .unwrap();
            let folder = tempfile::tempdir().unwrap();
            check(folder.path());
        })
        .join()
        .unwrap();
    }

    fn overlay(root: &Path, layers: usize) -> OverlayMount {
        let lower: Vec<PathBuf> = (0..layers)
            .rev()
            .map(|number| root.join(format!("layer-{number:064}")))
            .collect();
        for (number, folder) in lower.iter().rev().enumerate() {
            fs::create_dir(folder).unwrap();
            fs::write(folder.join("which"), number.to_string()).unwrap();
            fs::write(folder.join(format!("only-{number}")), "").unwrap();
        }
        let (upper, work, target) = (root.join("upper"), root.join("work"), root.join("rootfs"));
        for folder in [&upper, &work, &target] {
            fs::create_dir(folder).unwrap();
        }
        OverlayMount {
            lower,
            upper: Some((upper, work)),
            target,
        }
    }

    fn works(overlay: &OverlayMount, mount: impl Fn(&OverlayMount)) {
        mount(overlay);
        let mounted = mounts::table().unwrap();
        assert!(
            mounted
                .iter()
                .any(|point| point.target == overlay.target && point.kind == "overlay")
        );
        let top = overlay.lower.len() - 1;
        assert_eq!(
            fs::read_to_string(overlay.target.join("which")).unwrap(),
            top.to_string()
        );
        assert!(overlay.target.join("only-0").exists());
        fs::write(overlay.target.join("which"), "mine").unwrap();
        assert_eq!(
            fs::read_to_string(overlay.lower[0].join("which")).unwrap(),
            top.to_string()
        );
        assert!(
            files::remove_tree(&overlay.target).is_err_and(|e| e.kind() == io::ErrorKind::CrossesDevices)
        );
        assert!(overlay.target.join("only-0").exists());
        mounts::unmount(&overlay.target).unwrap();
    }

    #[test]
    fn many_layers_mount_both_ways_and_removal_does_not_enter_the_mount() {
        in_own_mounts(|root| {
            let overlay = overlay(root, 200);
            works(&overlay, |overlay| overlay.mount().unwrap());
            fs::remove_file(root.join("upper/which")).unwrap();
            works(&overlay, |overlay| overlay.mount_by_short_names().unwrap());
        });
    }

    #[test]
    fn one_layer_without_a_writable_folder_is_seen_read_only() {
        in_own_mounts(|root| {
            let overlay = OverlayMount {
                upper: None,
                ..overlay(root, 1)
            };
            overlay.mount().unwrap();
            mounts::harmless(&overlay.target).unwrap();
            assert!(overlay.target.join("only-0").exists());
            assert!(fs::write(overlay.target.join("which"), "mine").is_err());
            assert!(mounts::unmount_all(root).unwrap().is_empty());
            assert!(!mounts::is_mount_point(&overlay.target).unwrap());
        });
    }

    #[test]
    fn a_missing_layer_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let mut overlay = overlay(folder.path(), 2);
        overlay.lower[1] = folder.path().join("gone");
        assert!(overlay.mount().unwrap_err().to_string().contains("gone"));
        overlay.lower.clear();
        assert!(overlay.mount().unwrap_err().to_string().contains("not 0"));
    }
}
