//! Templates of a rootfs: every `*.tmpl` in the folders where ClusterImages keep them is rendered beside itself, under
//! its name without the ending, with the values of this host.
//!
//! ```text
//! rootfs/etc, charts, manifests, statics ── walk ──▶ NAME.tmpl ── render ──▶ NAME, same mode and owner
//! ```
//!
//! All of them are rendered once before the first one is written, so that a mistake in one changes nothing.
//! No link is followed and no mount is crossed.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use gantry_model::Digest;
use gantry_protocol::limits::{MAX_TEMPLATE_FOLDERS_DEEP, MAX_TEMPLATES};
use gantry_template::{MAX_RENDERED_LEN, MAX_TEMPLATE_LEN, TemplateError, render};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;

/// Where ClusterImages keep templates; the first three are sealer's.
const FOLDERS: [&CStr; 4] = [c"etc", c"charts", c"manifests", c"statics"];
const ENDING: &str = ".tmpl";
/// Beside the file that is written, until it is whole.
const FRESH: &str = ".gantry-rendered";

/// Why templates are not rendered.
#[derive(Debug, thiserror::Error)]
pub enum TemplatesError {
    /// The template has a mistake.
    #[error("template {path}: {source}; nothing was rendered")]
    Template {
        /// Path below the rootfs.
        path: String,
        /// Which.
        source: TemplateError,
    },
    /// The template is not what templates are.
    #[error("template {path} {reason}; nothing was rendered")]
    Refused {
        /// Path below the rootfs.
        path: String,
        /// What it is.
        reason: String,
    },
    /// The file system said no.
    #[error("cannot {action} {path} of the rootfs: {source}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// Path below the rootfs.
        path: String,
        /// Why it failed.
        source: io::Error,
    },
}

/// What was rendered: paths below the rootfs, and the digests of their content.
pub type Rendered = BTreeMap<String, Digest>;

/// Renders the templates of the rootfs with `values`. What is as it should be is not written again.
///
/// # Errors
/// A mistake in a template (then nothing is written), or a failing file system.
pub fn render_all(rootfs: &Path, values: &BTreeMap<String, String>) -> Result<Rendered, TemplatesError> {
    walk(rootfs, &mut |template| template.rendered(values).map(drop))?;
    let mut made = Rendered::new();
    walk(rootfs, &mut |template| {
        let text = template.rendered(values)?;
        if !template.is_in_place(&text)? {
            template.put(&text)?;
        }
        made.insert(template.target_path().to_owned(), Digest::of(text.as_bytes()));
        Ok(())
    })?;
    Ok(made)
}

/// What of `rendered` is not as it was made: `PATH was changed by hand`, `PATH is gone`.
///
/// # Errors
/// When the rootfs cannot be read.
pub fn changed(rootfs: &Path, rendered: &Rendered) -> Result<Vec<String>, TemplatesError> {
    let (mut changed, mut unseen) = (Vec::new(), rendered.clone());
    walk(rootfs, &mut |template| {
        let path = template.target_path();
        let Some(expected) = unseen.remove(path) else {
            return Ok(());
        };
        match read(template.folder, template.target(), MAX_RENDERED_LEN) {
            Ok(Some(there)) if Digest::of(&there) == expected => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => changed.push(format!("{path} is gone")),
            _ => changed.push(format!("{path} was changed by hand")),
        }
        Ok(())
    })?;
    changed.extend(
        unseen
            .into_keys()
            .map(|path| format!("the template of {path} is gone")),
    );
    Ok(changed)
}

/// Whether every template is rendered with `values` already.
///
/// # Errors
/// As [`render_all`].
pub fn are_rendered(rootfs: &Path, values: &BTreeMap<String, String>) -> Result<bool, TemplatesError> {
    let mut all = true;
    walk(rootfs, &mut |template| {
        all = all && template.is_in_place(&template.rendered(values)?)?;
        Ok(())
    })?;
    Ok(all)
}

/// A template that was found.
struct Template<'a> {
    folder: BorrowedFd<'a>,
    /// Its name in `folder`.
    name: &'a str,
    /// Its path below the rootfs, for messages.
    path: String,
    stat: Stat,
}

impl Template<'_> {
    /// The name of what it makes.
    fn target(&self) -> &str {
        &self.name[..self.name.len() - ENDING.len()]
    }

    /// Where that is below the rootfs.
    fn target_path(&self) -> &str {
        &self.path[..self.path.len() - ENDING.len()]
    }

    fn io(&self, action: &'static str) -> impl Fn(io::Error) -> TemplatesError {
        failed(action, &self.path)
    }

    fn rendered(&self, values: &BTreeMap<String, String>) -> Result<String, TemplatesError> {
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

    fn is_in_place(&self, text: &str) -> Result<bool, TemplatesError> {
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
    fn put(&self, text: &str) -> Result<(), TemplatesError> {
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

type Visit<'v> = &'v mut dyn FnMut(&Template<'_>) -> Result<(), TemplatesError>;

/// Shows every template to `visit`, in the order of their paths.
fn walk(rootfs: &Path, visit: Visit<'_>) -> Result<(), TemplatesError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, rootfs, flags, Mode::empty())
        .map_err(|error| failed("open", &rootfs.display().to_string())(error.into()))?;
    let device = rustix::fs::fstat(&root)
        .map_err(|error| failed("look at", "the top folder")(error.into()))?
        .st_dev;
    let mut walk = Walk { device, found: 0 };
    for folder in FOLDERS {
        let path = folder.to_string_lossy().into_owned();
        if let Some(folder) = walk.enter(root.as_fd(), folder, &path)? {
            walk.folder(&folder, &path, 1, visit)?;
        }
    }
    Ok(())
}

struct Walk {
    device: u64,
    found: usize,
}

impl Walk {
    /// Opens a folder of the rootfs itself; none for links, other files and what is mounted there.
    fn enter(
        &self,
        above: BorrowedFd<'_>,
        name: &CStr,
        path: &str,
    ) -> Result<Option<OwnedFd>, TemplatesError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = match rustix::fs::openat(above, name, flags, Mode::empty()) {
            Ok(folder) => folder,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(error) => return Err(failed("open", path)(error.into())),
        };
        let stat = rustix::fs::fstat(&folder).map_err(|error| failed("look at", path)(error.into()))?;
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
        for name in names_in(folder).map_err(failed("read", path))? {
            let shown = format!("{path}/{}", name.to_string_lossy());
            let stat = rustix::fs::statat(folder, name.as_c_str(), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|error| failed("look at", &shown)(error.into()))?;
            let kind = FileType::from_raw_mode(stat.st_mode);
            if kind == FileType::Directory {
                if let Some(inner) = self.enter(folder.as_fd(), &name, &shown)? {
                    self.folder(&inner, &shown, depth + 1, visit)?;
                }
                continue;
            }
            let Ok(name) = name.to_str() else { continue };
            if name.len() <= ENDING.len() || !name.ends_with(ENDING) {
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

/// The regular file `name`, unless it is longer than `most`.
fn read(folder: BorrowedFd<'_>, name: &str, most: usize) -> io::Result<Option<Vec<u8>>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(folder, name, flags, Mode::empty())?);
    let mut bytes = Vec::new();
    file.take(most as u64 + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() <= most).then_some(bytes))
}

fn failed(action: &'static str, path: &str) -> impl Fn(io::Error) -> TemplatesError {
    let path = path.to_owned();
    move |source| TemplatesError::Io {
        action,
        path: path.clone(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    use super::*;

    fn rootfs(files: &[(&str, &str)]) -> tempfile::TempDir {
        let rootfs = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = rootfs.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        rootfs
    }

    fn values(ip: &str) -> BTreeMap<String, String> {
        [("HostIP".to_owned(), ip.to_owned())].into()
    }

    #[test]
    fn templates_are_rendered_beside_themselves_with_their_mode() {
        let rootfs = rootfs(&[
            ("etc/kubeadm.yml.tmpl", "ip: {{ .HostIP }}\n"),
            ("manifests/a/b.yaml.tmpl", "{{ .HostIP }}"),
            ("statics/plain.yml", "{{ .HostIP }}"),
            ("bin/tool.tmpl", "{{ .HostIP }}"),
            ("etc/.tmpl", "{{ .HostIP }}"),
        ]);
        let template = rootfs.path().join("etc/kubeadm.yml.tmpl");
        fs::set_permissions(&template, Permissions::from_mode(0o640)).unwrap();
        assert!(!are_rendered(rootfs.path(), &values("10.0.0.1")).unwrap());
        let made = render_all(rootfs.path(), &values("10.0.0.1")).unwrap();
        assert_eq!(
            made.keys().collect::<Vec<_>>(),
            ["etc/kubeadm.yml", "manifests/a/b.yaml"]
        );
        assert!(changed(rootfs.path(), &made).unwrap().is_empty());
        let rendered = made;
        let made = rootfs.path().join("etc/kubeadm.yml");
        assert_eq!(fs::read_to_string(&made).unwrap(), "ip: 10.0.0.1\n");
        assert_eq!(fs::metadata(&made).unwrap().mode() & 0o7777, 0o640);
        assert!(rootfs.path().join("manifests/a/b.yaml").exists());
        assert!(!rootfs.path().join("bin/tool").exists(), "not one of the folders");
        assert!(are_rendered(rootfs.path(), &values("10.0.0.1")).unwrap());

        let inode = fs::metadata(&made).unwrap().ino();
        render_all(rootfs.path(), &values("10.0.0.1")).unwrap();
        assert_eq!(
            fs::metadata(&made).unwrap().ino(),
            inode,
            "it was right and is not written again"
        );
        assert!(!are_rendered(rootfs.path(), &values("10.0.0.2")).unwrap());
        fs::write(&made, "ip: 10.0.0.9\n").unwrap();
        assert!(
            !are_rendered(rootfs.path(), &values("10.0.0.1")).unwrap(),
            "changed by hand"
        );
        fs::remove_file(rootfs.path().join("manifests/a/b.yaml")).unwrap();
        assert_eq!(
            changed(rootfs.path(), &rendered).unwrap(),
            [
                "etc/kubeadm.yml was changed by hand",
                "manifests/a/b.yaml is gone"
            ]
        );
    }

    #[test]
    fn one_mistake_and_nothing_is_rendered() {
        let rootfs = rootfs(&[
            ("etc/a.tmpl", "{{ .HostIP }}"),
            ("statics/z.yml.tmpl", "x\n  {{ if .HostIP }}"),
        ]);
        let error = render_all(rootfs.path(), &values("10.0.0.1"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("statics/z.yml.tmpl: 2:3: {{if}} has no {{end}}"),
            "{error}"
        );
        assert!(!rootfs.path().join("etc/a").exists());
    }

    #[test]
    fn nothing_outside_is_read_or_written() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("a.tmpl"), "{{ .HostIP }}").unwrap();
        fs::write(outside.path().join("victim"), "mine").unwrap();

        let linked = rootfs(&[("charts/x", "")]);
        symlink(outside.path(), linked.path().join("etc")).unwrap();
        symlink(outside.path(), linked.path().join("charts/there")).unwrap();
        assert!(render_all(linked.path(), &values("1")).unwrap().is_empty());
        assert!(!outside.path().join("a").exists());

        let link = rootfs(&[("etc/x", "")]);
        symlink(outside.path().join("a.tmpl"), link.path().join("etc/a.tmpl")).unwrap();
        let error = render_all(link.path(), &values("1")).unwrap_err().to_string();
        assert!(error.contains("etc/a.tmpl is not a regular file"), "{error}");

        // What a template makes replaces a link; it does not go through it.
        let target = rootfs(&[("etc/a.tmpl", "{{ .HostIP }}")]);
        symlink(outside.path().join("victim"), target.path().join("etc/a")).unwrap();
        render_all(target.path(), &values("10.0.0.1")).unwrap();
        assert_eq!(fs::read_to_string(outside.path().join("victim")).unwrap(), "mine");
        assert_eq!(
            fs::read_to_string(target.path().join("etc/a")).unwrap(),
            "10.0.0.1"
        );
    }

    #[test]
    fn bounds_hold() {
        let long = "x".repeat(MAX_TEMPLATE_LEN + 1);
        let rootfs = rootfs(&[("etc/a.tmpl", &long)]);
        let error = render_all(rootfs.path(), &values("1")).unwrap_err().to_string();
        assert!(error.contains("is longer than"), "{error}");
        fs::write(rootfs.path().join("etc/a.tmpl"), b"\xff").unwrap();
        let error = render_all(rootfs.path(), &values("1")).unwrap_err().to_string();
        assert!(error.contains("not UTF-8"), "{error}");
    }
}
