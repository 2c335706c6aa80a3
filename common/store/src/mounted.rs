//! This module owns [`MountedImage`]: images whose merged tree is mounted on this host, to be looked at.
//!
//! A mount is the kernel's; what is kept of it is a note in `store/mounts`. It is written before the mount is made, and what
//! no mount belongs to any more (the host was restarted, somebody used umount(8)) is forgotten by whoever reads the
//! notes next. Layers of a mounted image stay, whatever becomes of its names.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use gantry_model::{Digest, ImageReference};
use gantry_system::mounts::{self, OverlayMount};
use serde::{Deserialize, Serialize};

use crate::{Image, Store, StoreError, documents};

/// Which run of the kernel it is: another one after every start of the host.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Digits of a digest in the name of a folder.
const FOLDER_DIGITS: usize = 12;

/// One mounted image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountedImage {
    /// The name it was mounted by.
    pub name: ImageReference,
    /// Its manifest.
    pub image: Digest,
    /// What the name led to: its manifest, or an index of several.
    pub named: Digest,
    /// Its layers.
    pub layers: Vec<Digest>,
    /// Where it is mounted.
    pub target: PathBuf,
    /// Whether the folder was made for it, and goes with it.
    pub own_folder: bool,
    /// The run of the kernel in which it was mounted.
    boot: String,
}

impl Store {
    /// Folder for the mount of an image that nobody named a folder for.
    #[must_use]
    pub fn mount_folder(&self, image: &Digest) -> PathBuf {
        self.root().join("mounts").join(&image.hex()[..FOLDER_DIGITS])
    }

    /// The images that are mounted now, by the folders they are mounted at. Notes of mounts that are gone are removed.
    ///
    /// # Errors
    /// When the mount table or a note cannot be read.
    pub fn mounted(&self) -> Result<Vec<MountedImage>, StoreError> {
        let dir = self.mounts_dir();
        let notes = match fs::read_dir(&dir) {
            Ok(notes) => notes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(StoreError::io("list", dir)(source)),
        };
        let boot = boot_id()?;
        let table = mounts::table().map_err(StoreError::io("read", "/proc/self/mountinfo"))?;
        let mut mounted: Vec<MountedImage> = Vec::new();
        for note in notes {
            let path = note.map_err(StoreError::io("list", &dir))?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let Some(one) = documents::read::<MountedImage>(&path)? else {
                continue;
            };
            if one.boot == boot && table.iter().any(|point| point.target == one.target) {
                mounted.push(one);
            } else {
                self.forget_mount(&one)?;
            }
        }
        mounted.sort_by(|a, b| a.target.cmp(&b.target));
        Ok(mounted)
    }

    /// Unpacks what is packed of `image` and mounts its merged tree at `target`, read-only: no file of it gets anybody
    /// rights that they did not have, and none is a device. Needs the right to mount.
    ///
    /// `target` is a folder; nobody else mounts there now. `own_folder` says that it goes with the mount.
    ///
    /// # Errors
    /// When a layer is damaged or missing, or the kernel refuses; then nothing is mounted.
    pub fn mount_image(
        &self,
        image: &Image,
        name: &ImageReference,
        target: &Path,
        own_folder: bool,
    ) -> Result<MountedImage, StoreError> {
        let _nothing_vanishes = self.share()?;
        for layer in &image.layers {
            self.unpack_layer(layer)
                .map_err(StoreError::layer(format!("cannot unpack layer {}", layer.digest)))?;
        }
        let target = fs::canonicalize(target).map_err(StoreError::io("find", target))?;
        let mounted = MountedImage {
            name: name.clone(),
            image: image.manifest_digest,
            named: self.target(name)?.digest,
            layers: image.layers.iter().map(|layer| layer.digest).collect(),
            target,
            own_folder,
            boot: boot_id()?,
        };
        documents::write(&self.mount_note(&mounted.target), &mounted)?;
        let layers = image.layers.iter().rev();
        let overlay = OverlayMount {
            lower: layers.map(|layer| self.layer_dir(&layer.digest)).collect(),
            upper: None,
            target: mounted.target.clone(),
        };
        let made = overlay.mount().and_then(|()| mounts::harmless(&mounted.target));
        if let Err(source) = made {
            // What was mounted so far is not what was promised.
            if mounts::is_mount_point(&mounted.target).unwrap_or(false) {
                let _ = mounts::unmount(&mounted.target);
            }
            self.forget_mount(&mounted)?;
            return Err(StoreError::io("mount", &mounted.target)(source));
        }
        Ok(mounted)
    }

    /// Unmounts a mounted image.
    ///
    /// # Errors
    /// When somebody uses it, or this process may not.
    pub fn unmount_image(&self, mounted: &MountedImage) -> Result<(), StoreError> {
        mounts::unmount(&mounted.target).map_err(StoreError::io("unmount", &mounted.target))?;
        self.forget_mount(mounted)
    }

    /// The layers of mounted images.
    pub(crate) fn layers_of_mounts(&self) -> Result<BTreeSet<Digest>, StoreError> {
        let layers = self.mounted()?.into_iter().flat_map(|mounted| mounted.layers);
        Ok(layers.collect())
    }

    /// Removes the note of a mount that is gone.
    fn forget_mount(&self, mounted: &MountedImage) -> Result<(), StoreError> {
        let note = self.mount_note(&mounted.target);
        match fs::remove_file(&note) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::io("remove", note)(error));
            }
            _ => {}
        }
        if mounted.own_folder {
            // Only an empty folder; what somebody put there meanwhile is theirs.
            let _ = fs::remove_dir(&mounted.target);
        }
        Ok(())
    }

    fn mounts_dir(&self) -> PathBuf {
        self.store_dir().join("mounts")
    }

    fn mount_note(&self, target: &Path) -> PathBuf {
        let name = Digest::of(target.as_os_str().as_encoded_bytes()).hex();
        self.mounts_dir().join(format!("{name}.json"))
    }
}

fn boot_id() -> Result<String, StoreError> {
    let text = fs::read_to_string(BOOT_ID).map_err(StoreError::io("read", BOOT_ID))?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_of_mounts_that_are_gone_are_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        assert_eq!(store.mounted().unwrap(), []);
        let note = |target: PathBuf, own_folder: bool, boot: &str| MountedImage {
            name: "demo:v1".parse().unwrap(),
            image: Digest::of(b"manifest"),
            named: Digest::of(b"manifest"),
            layers: vec![Digest::of(b"layer")],
            target,
            own_folder,
            boot: boot.to_owned(),
        };
        let own = store.mount_folder(&Digest::of(b"manifest"));
        let given = folder.path().join("given");
        fs::create_dir_all(&own).unwrap();
        fs::create_dir_all(&given).unwrap();
        let now = boot_id().unwrap();
        for one in [
            note(own.clone(), true, &now),
            note(given.clone(), false, &now),
            // `/` is mounted always, but this note is of another run of the kernel.
            note("/".into(), false, "before"),
            note("/proc".into(), false, &now),
        ] {
            documents::write(&store.mount_note(&one.target), &one).unwrap();
        }
        let found: Vec<PathBuf> = store
            .mounted()
            .unwrap()
            .into_iter()
            .map(|one| one.target)
            .collect();
        assert_eq!(found, [PathBuf::from("/proc")], "only there is something mounted");
        assert!(!own.exists() && given.exists());
        assert_eq!(fs::read_dir(store.mounts_dir()).unwrap().count(), 1);
        assert!(store.layers_of_mounts().unwrap().contains(&Digest::of(b"layer")));
        assert!(
            store
                .remove_layer(&Digest::of(b"layer"))
                .unwrap_err()
                .to_string()
                .contains("overlay2"),
            "a layer that is seen at a mount stays"
        );
    }
}
