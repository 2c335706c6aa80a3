//! Generations of a rootfs with recorded mounts: assembled, kept, removed.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use super::*;

/// Mounts that are only written down.
#[derive(Clone, Default)]
struct Recorded(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    mounted: BTreeSet<PathBuf>,
    refuse: bool,
}

impl Mounter for Recorded {
    fn mount(&self, lower: Vec<PathBuf>, upper: &Path, work: &Path, target: &Path) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        assert!(
            lower.iter().all(|layer| layer.is_dir()) && upper.is_dir() && work.is_dir() && target.is_dir()
        );
        if state.refuse {
            return Err(io::Error::other(format!("cannot mount {}", target.display())));
        }
        assert!(state.mounted.insert(target.to_owned()), "mounted twice");
        Ok(())
    }

    fn is_mounted(&self, target: &Path) -> io::Result<bool> {
        Ok(self.0.lock().unwrap().mounted.contains(target))
    }

    fn unmount_all(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        self.0
            .lock()
            .unwrap()
            .mounted
            .retain(|target| !target.starts_with(folder));
        Ok(vec![])
    }
}

struct Host {
    folder: tempfile::TempDir,
    mounts: Recorded,
    layers: Vec<Digest>,
}

impl Host {
    /// A host that has two layers.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("gantry")).unwrap();
        let layers =
            ["a", "b"].map(|content| crate::test_layers::unpacked(&store, &[("file", content)]).digest);
        Self {
            folder,
            mounts: Recorded::default(),
            layers: layers.to_vec(),
        }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn rootfs(&self) -> Rootfs<Recorded> {
        let store = Store::open(&self.path("gantry")).unwrap();
        Rootfs::new(
            &self.path("gantry/data"),
            &self.path("sealer/data"),
            store,
            self.mounts.clone(),
        )
    }
}

fn demo() -> ClusterName {
    "demo".parse().unwrap()
}

fn image(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

#[test]
fn generations_are_numbered_and_the_last_one_is_current() {
    let host = Host::new();
    let rootfs = host.rootfs();
    assert_eq!(
        rootfs.assemble(&demo(), &image("1"), &host.layers).unwrap(),
        GenerationId(1)
    );
    assert_eq!(
        rootfs.assemble(&demo(), &image("2"), &host.layers[..1]).unwrap(),
        GenerationId(2)
    );
    assert_eq!(rootfs.current(&demo()).unwrap(), Some(GenerationId(2)));
    assert_eq!(
        rootfs.path(&demo()).unwrap(),
        host.path("gantry/data/demo/generations/2/rootfs")
    );
    assert_eq!(rootfs.generations(&demo()).unwrap().len(), 2);
    assert_eq!(rootfs.clusters(), vec![demo()]);
    let seen_by_old_scripts = fs::canonicalize(host.path("sealer/data/demo/rootfs")).unwrap();
    assert_eq!(
        seen_by_old_scripts,
        fs::canonicalize(rootfs.path(&demo()).unwrap()).unwrap()
    );
    assert_eq!(rootfs.drift(&demo()).unwrap(), Vec::<String>::new());
}

#[test]
fn the_same_image_is_not_assembled_again_and_is_mounted_again_after_a_reboot() {
    let host = Host::new();
    let rootfs = host.rootfs();
    assert_eq!(rootfs.ensure(&demo(), &image("1"), &host.layers).unwrap(), None);
    rootfs.assemble(&demo(), &image("1"), &host.layers).unwrap();
    host.mounts.0.lock().unwrap().mounted.clear();
    assert!(matches!(
        rootfs.path(&demo()),
        Err(RootfsError::NotMounted { .. })
    ));
    assert!(rootfs.drift(&demo()).unwrap()[0].contains("not mounted"));
    assert!(rootfs.mount_all_current().is_empty());
    assert!(rootfs.path(&demo()).is_ok());
    assert_eq!(
        rootfs.ensure(&demo(), &image("1"), &host.layers).unwrap(),
        Some(GenerationId(1))
    );
    assert_eq!(rootfs.ensure(&demo(), &image("2"), &host.layers).unwrap(), None);
}

#[test]
fn nothing_is_built_on_a_layer_that_was_touched_after_it_was_verified() {
    let host = Host::new();
    let rootfs = host.rootfs();
    rootfs.assemble(&demo(), &image("1"), &host.layers).unwrap();
    let folder = rootfs.store.layer_dir(&host.layers[1]);
    fs::write(folder.join("touched"), "after").unwrap();
    assert!(matches!(
        rootfs.assemble(&demo(), &image("2"), &host.layers),
        Err(RootfsError::ChangedLayer { layer }) if layer == host.layers[1]
    ));
    assert_eq!(
        rootfs.current_generation(&demo()).unwrap().unwrap().image,
        image("1")
    );
}

#[test]
fn a_missing_layer_or_a_refused_mount_leaves_the_current_generation() {
    let host = Host::new();
    let rootfs = host.rootfs();
    rootfs.assemble(&demo(), &image("1"), &host.layers).unwrap();
    let missing = [host.layers[0], image("nowhere")];
    assert!(matches!(
        rootfs.assemble(&demo(), &image("2"), &missing),
        Err(RootfsError::MissingLayer { .. })
    ));
    host.mounts.0.lock().unwrap().refuse = true;
    assert!(matches!(
        rootfs.assemble(&demo(), &image("2"), &host.layers),
        Err(RootfsError::Mount { .. })
    ));
    assert_eq!(rootfs.current(&demo()).unwrap(), Some(GenerationId(1)));
    host.mounts.0.lock().unwrap().refuse = false;
    assert_eq!(
        rootfs.assemble(&demo(), &image("2"), &host.layers).unwrap(),
        GenerationId(2)
    );
    assert_eq!(rootfs.generations(&demo()).unwrap().len(), 2);
}

#[test]
fn removal_leaves_nothing_but_the_layers() {
    let host = Host::new();
    let rootfs = host.rootfs();
    rootfs.assemble(&demo(), &image("1"), &host.layers).unwrap();
    fs::write(host.path("gantry/data/demo/generations/1/upper/written"), "x").unwrap();
    assert!(!rootfs.is_removed(&demo()));
    rootfs.remove(&demo()).unwrap();
    assert!(rootfs.is_removed(&demo()));
    assert!(!host.path("sealer").exists());
    assert!(host.layers.iter().all(|layer| rootfs.store.has_layer(layer)));
    rootfs.remove(&demo()).unwrap();
    assert_eq!(
        rootfs.assemble(&demo(), &image("1"), &host.layers).unwrap(),
        GenerationId(1)
    );
}

#[test]
fn what_another_tool_left_is_neither_replaced_nor_removed() {
    let host = Host::new();
    let rootfs = host.rootfs();
    fs::create_dir_all(host.path("sealer/data/demo/rootfs/scripts")).unwrap();
    let refused = rootfs.assemble(&demo(), &image("1"), &host.layers).unwrap_err();
    assert!(matches!(refused, RootfsError::InTheWay { .. }), "{refused}");
    assert_eq!(rootfs.current(&demo()).unwrap(), None);
    rootfs.remove(&demo()).unwrap();
    assert!(host.path("sealer/data/demo/rootfs/scripts").exists());
    fs::remove_dir_all(host.path("sealer/data/demo/rootfs")).unwrap();
    rootfs.assemble(&demo(), &image("1"), &host.layers).unwrap();
    rootfs.remove(&demo()).unwrap();
    assert!(host.path("sealer/data/demo").exists(), "it was there before");
}
