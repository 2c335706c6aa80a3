//! The programs in an application's folder, which are to be the image's whatever the application did to them when it was launched
//! before.

use std::collections::BTreeSet;
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::path::Path;

use gantry_model::{Digest, is_data_file};
use gantry_store::{EntryKind, Store, Toc, TocEntry};

use super::proof::{Found, ProofError, is_shell_script, lookup, open_below, prove_is};
use crate::configs::Configs;
use crate::place::{Place, Tree};
use crate::templates::Rendered;

/// Longest program that is put back, in bytes.
const MAX_PUT_BACK_LEN: u64 = 64 << 20;

/// Makes every program that the layers (bottom first) have below `folder` of the rootfs, which ends with `/`, the image's: files that
/// may be executed, those named like shell scripts, and those in `named`; none of them where its name says that it is data. One that
/// was changed or removed since is put back, unless a Config stands there, or it is one of `rendered`: an application whose
/// template makes it would be launched by something else than it means.
///
/// # Errors
/// When one cannot be the image's.
pub(super) fn make_images_own(
    store: &Store,
    layers: &[Digest],
    configs: &Configs,
    folder: &str,
    named: &BTreeSet<String>,
    rendered: &Rendered,
) -> Result<(), ProofError> {
    // Each is read once, however many programs there are.
    let tables: Vec<Toc> = layers
        .iter()
        .rev()
        .map(|layer| store.layer_toc(layer))
        .collect::<Result<_, _>>()?;
    let is_program = |entry: &&TocEntry| {
        let path = &entry.path;
        let runs = entry.mode & 0o111 != 0 || is_shell_script(path) || named.contains(path);
        let is_file = matches!(entry.kind, EntryKind::File { .. } | EntryKind::HardLink { .. });
        is_file && runs && path.starts_with(folder) && !is_data_file(path)
    };
    let entries = tables.iter().flat_map(Toc::entries);
    let programs: BTreeSet<&str> = entries
        .filter(is_program)
        .map(|entry| entry.path.as_str())
        .collect();
    let rootfs = configs.rootfs();
    for path in programs {
        let found = match lookup(tables.iter().map(Ok), path) {
            Ok(found) => found,
            // An upper layer took it away.
            Err(ProofError::NotInImage { .. } | ProofError::NotAFile { .. }) => continue,
            Err(error) => return Err(error),
        };
        match prove_is(found.digest, rootfs, path) {
            Ok(()) => {}
            Err(ProofError::Changed { path, .. }) if rendered.contains_key(&path) => {
                return Err(ProofError::Rendered { path });
            }
            Err(changed) if is_changed(&changed) && configs.under(path).is_none() => {
                let layer = &layers[layers.len() - 1 - found.above];
                put_back(&store.layer_dir(layer), rootfs, path, &found).map_err(|source| ProofError::Io {
                    path: rootfs.join(path),
                    source,
                })?;
                prove_is(found.digest, rootfs, path)?;
                tracing::warn!("{path} was changed on this host; it is the image's again");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether a file has other content, or is gone. Nothing is put in the place of links and folders.
fn is_changed(error: &ProofError) -> bool {
    match error {
        ProofError::Changed { .. } => true,
        ProofError::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
        _ => false,
    }
}

/// Makes `path` below `rootfs` a copy of the file that `layer` has there.
fn put_back(layer: &Path, rootfs: &Path, path: &str, found: &Found) -> io::Result<()> {
    let mut content = Vec::new();
    let file = open_below(layer, path)?;
    file.take(MAX_PUT_BACK_LEN + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MAX_PUT_BACK_LEN {
        return Err(io::Error::other(format!(
            "it was changed here, and the image's has more than {} MiB; reset and apply again",
            MAX_PUT_BACK_LEN >> 20
        )));
    }
    if Digest::of(&content) != found.digest {
        return Err(io::Error::other(
            "it was changed here, and its layer on this host is damaged; reset and apply again",
        ));
    }
    let (folder, name) = Tree::open(rootfs)?.make(path)?;
    Place::new(folder.as_fd(), name).put(&content, found.ownership)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use gantry_model::ConfigFile;

    use super::*;
    use crate::test_layers::{Entry, unpacked_entries};

    /// A rootfs in which an application was launched before.
    struct Launched {
        folder: tempfile::TempDir,
        store: Store,
        layers: Vec<Digest>,
    }

    impl Launched {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::open(&folder.path().join("gantry")).unwrap();
            let lower = [
                Entry::File("apps/web/gone.sh", ""),
                Entry::File("apps/web/up.SH", "old"),
                Entry::File("apps/web/values.yaml", "a: 1"),
                Entry::File("apps/web/run", "run"),
                Entry::File("apps/web/notes", ""),
                Entry::File("apps/db/up.sh", "db"),
            ];
            let upper = [
                Entry::Whiteout("apps/web/gone.sh"),
                Entry::File("apps/web/up.SH", "up"),
            ];
            let layers = [&lower[..], &upper]
                .map(|entries| unpacked_entries(&store, entries).digest)
                .to_vec();
            let launched = Self {
                folder,
                store,
                layers,
            };
            fs::create_dir_all(launched.path("apps/web")).unwrap();
            for (name, content) in [("run", "run"), ("up.SH", "up"), ("values.yaml", "a: 2")] {
                fs::write(launched.path("apps/web").join(name), content).unwrap();
            }
            launched
        }

        fn path(&self, path: &str) -> PathBuf {
            self.folder.path().join("rootfs").join(path)
        }

        fn configs(&self) -> Configs {
            Configs::open(self.path(""), self.folder.path().join("configs")).unwrap()
        }

        fn again(&self) -> Result<(), ProofError> {
            self.after_rendering(&Rendered::new())
        }

        fn after_rendering(&self, rendered: &Rendered) -> Result<(), ProofError> {
            let named = BTreeSet::from(["apps/web/run".to_owned()]);
            make_images_own(
                &self.store,
                &self.layers,
                &self.configs(),
                "apps/web/",
                &named,
                rendered,
            )
        }

        fn text(&self, path: &str) -> String {
            fs::read_to_string(self.path(path)).unwrap()
        }
    }

    #[test]
    fn programs_that_an_application_changed_are_the_images_again() {
        let launched = Launched::new();
        launched.again().unwrap();
        fs::write(launched.path("apps/web/run"), "other").unwrap();
        fs::remove_file(launched.path("apps/web/up.SH")).unwrap();
        launched.again().unwrap();
        assert_eq!(
            (launched.text("apps/web/run"), launched.text("apps/web/up.SH")),
            ("run".into(), "up".into())
        );
        assert_eq!(
            launched.text("apps/web/values.yaml"),
            "a: 2",
            "data is left as it is"
        );
        assert!(!launched.path("apps/web/gone.sh").exists() && !launched.path("apps/web/notes").exists());
        assert!(!launched.path("apps/db").exists());
    }

    #[test]
    fn a_program_that_a_template_makes_is_told_and_not_put_back() {
        let launched = Launched::new();
        let rendered = |text: &str| {
            fs::write(launched.path("apps/web/run"), text).unwrap();
            let digest = Digest::of(text.as_bytes());
            launched.after_rendering(&Rendered::from([("apps/web/run".to_owned(), digest)]))
        };
        rendered("run").unwrap();
        let error = rendered("run 10.0.0.1").unwrap_err();
        assert!(matches!(error, ProofError::Rendered { .. }), "{error}");
        assert!(error.to_string().contains("apps/web/run.tmpl"), "{error}");
        assert_eq!(launched.text("apps/web/run"), "run 10.0.0.1");
    }

    #[test]
    fn nothing_is_put_in_the_place_of_a_link_a_folder_or_a_config() {
        let launched = Launched::new();
        let run = launched.path("apps/web/run");
        fs::remove_file(&run).unwrap();
        std::os::unix::fs::symlink("up.SH", &run).unwrap();
        assert!(matches!(launched.again(), Err(ProofError::Io { .. })));
        fs::remove_file(&run).unwrap();
        fs::create_dir(&run).unwrap();
        assert!(matches!(launched.again(), Err(ProofError::Io { .. })));
        fs::remove_dir(&run).unwrap();
        launched.again().unwrap();
        let wanted = ConfigFile {
            path: "apps/web/run".into(),
            content: "mine".into(),
        };
        launched.configs().write(&[wanted]).unwrap();
        assert!(matches!(launched.again(), Err(ProofError::Changed { .. })));
        assert_eq!(launched.text("apps/web/run"), "mine");
    }

    #[test]
    fn a_layer_that_was_changed_itself_gives_nothing() {
        let launched = Launched::new();
        let layer = launched.store.layer_dir(&launched.layers[0]);
        fs::write(layer.join("apps/web/run"), "bad").unwrap();
        fs::write(launched.path("apps/web/run"), "other").unwrap();
        let error = launched.again().unwrap_err();
        assert!(
            matches!(&error, ProofError::Io { source, .. } if source.to_string().contains("damaged")),
            "{error}"
        );
        assert_eq!(launched.text("apps/web/run"), "other");
    }
}
