//! This module owns [`ArchivedImages`]: container images of an archive, as they are there. They are to be put into an image that
//! is built, so nothing of them is unpacked or made anew: a layer with device nodes is as good as any other.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use gantry_model::{Digest, ImageReference};
use sha2::{Digest as _, Sha256};

use super::arrivals::Arrivals;
use super::docker;
use super::entries::unreadable;
use super::intake::decompressed;
use crate::images::parse;
use crate::layer_import::decode::{Format, format};
use crate::limits::MAX_TAR_LEN;
use crate::manifest::{
    Index, MAX_CONFIG_LEN, MAX_LAYERS, MAX_MANIFEST_LEN, MEDIA_TYPE_LAYER_GZIP, MEDIA_TYPE_LAYER_TAR,
    MEDIA_TYPE_LAYER_ZSTD, Manifest,
};
use crate::{Descriptor, Platform, Store, StoreError};

const BUFFER_LEN: usize = 1 << 18;

/// The container images of an archive, whose blobs are in a store that goes with them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchivedImages {
    /// By the names that the archive gives them: manifests and indexes.
    pub named: Vec<(ImageReference, Descriptor)>,
    /// How many it gives no name: their digests alone lead to them.
    pub unnamed: usize,
}

/// What one container image consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchivedImage {
    /// What its name or digest leads to: a manifest, or an index.
    pub digest: Digest,
    /// Its manifest, and behind it the index if there is one.
    pub manifests: Vec<Descriptor>,
    /// Its config and its layers, each once.
    pub blobs: Vec<Descriptor>,
}

impl Store {
    /// Brings in the blobs of the container images in an OCI archive, an OCI folder or a docker archive, as they are. No name of the
    /// store leads to them.
    ///
    /// # Errors
    /// When it is none of these, damaged or cut short.
    pub fn take_container_images(&self, path: &Path) -> Result<ArchivedImages, StoreError> {
        let archive = path.display().to_string();
        let arrivals = if path.is_dir() {
            Arrivals::from_folder(self, path)?
        } else {
            let file = File::open(path).map_err(StoreError::io("open", path))?;
            Arrivals::from_stream(self, file, &archive)?
        };
        let images = match (&arrivals.index, &arrivals.docker_manifest) {
            (Some(index), _) => self.named_in_index(index, &archive)?,
            (None, Some(manifest)) => docker::images_as_they_are(self, &arrivals, manifest, &archive)?,
            (None, None) => {
                let reason =
                    "it is a save file of sealer: there are ClusterImages in it, no container images";
                return Err(StoreError::malformed(archive, reason));
            }
        };
        let mut found = ArchivedImages {
            named: Vec::new(),
            unnamed: images.iter().filter(|(_, names)| names.is_empty()).count(),
        };
        for (target, names) in images {
            found
                .named
                .extend(names.into_iter().map(|name| (name, target.clone())));
        }
        Ok(found)
    }

    /// What the manifest or index `digest` has for hosts of `platform`; none when there is no such image here, or none for them.
    ///
    /// # Errors
    /// When something it consists of is missing or damaged.
    pub fn archived_image(
        &self,
        digest: &Digest,
        platform: &Platform,
    ) -> Result<Option<ArchivedImage>, StoreError> {
        let what = format!("manifest {}", digest.short());
        let Some(top) = self.document(digest, &what)? else {
            return Ok(None);
        };
        let Ok(index) = serde_json::from_slice::<Index>(&top) else {
            return self.image_of(digest, &top, platform, Vec::new());
        };
        let fits = |entry: &&Descriptor| entry.platform.as_ref().is_none_or(|its| its.fits(platform));
        let images = index.manifests.iter().filter(|entry| entry.is_image());
        for entry in images.filter(fits) {
            // Whoever saved it may have had one platform only.
            let Some(manifest) = self.document(&entry.digest, &what)? else {
                continue;
            };
            let top = vec![described(digest, &top)];
            if let Some(image) = self.image_of(&entry.digest, &manifest, platform, top)? {
                return Ok(Some(image));
            }
        }
        Ok(None)
    }

    fn image_of(
        &self,
        digest: &Digest,
        bytes: &[u8],
        platform: &Platform,
        above: Vec<Descriptor>,
    ) -> Result<Option<ArchivedImage>, StoreError> {
        let what = format!("manifest {}", digest.short());
        let manifest: Manifest = parse(bytes, &what)?;
        if manifest.layers.len() > MAX_LAYERS {
            let count = manifest.layers.len();
            let reason = format!("it has {count} layers, more than the {MAX_LAYERS} that are accepted");
            return Err(StoreError::malformed(what, reason));
        }
        let mut blobs: Vec<Descriptor> = Vec::new();
        for blob in std::iter::once(manifest.config).chain(manifest.layers) {
            if self.blobs().size(&blob.digest)? != Some(blob.size) {
                let what = format!("blob {} of {what}", blob.digest.short());
                return Err(StoreError::MissingBlob {
                    digest: blob.digest,
                    what,
                });
            }
            if blobs.iter().all(|known| known.digest != blob.digest) {
                blobs.push(blob);
            }
        }
        let config = self.blobs().read(&blobs[0].digest, &what, MAX_CONFIG_LEN)?;
        if Platform::of_config(&config).is_some_and(|its| !its.fits(platform)) {
            return Ok(None);
        }
        let top = above.first().map_or(*digest, |index| index.digest);
        let mut manifests = vec![described(digest, bytes)];
        manifests.extend(above);
        Ok(Some(ArchivedImage {
            digest: top,
            manifests,
            blobs,
        }))
    }

    /// A manifest or index; none when it is not here, or too large to be one.
    fn document(&self, digest: &Digest, what: &str) -> Result<Option<Vec<u8>>, StoreError> {
        match self.blobs().size(digest)? {
            Some(size) if size <= MAX_MANIFEST_LEN => {
                self.blobs().read(digest, what, MAX_MANIFEST_LEN).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// The layer that the file of a docker archive is: as it is there, if its tar stream is what the config says.
    pub(super) fn layer_as_it_is(
        &self,
        blob: &Digest,
        diff_id: &Digest,
        what: &str,
    ) -> Result<Descriptor, StoreError> {
        let size = self.blobs().size(blob)?.unwrap_or_default();
        let layer = |media_type: &str| Descriptor {
            media_type: media_type.to_owned(),
            ..Descriptor::of_blob(blob, size)
        };
        if blob == diff_id {
            return Ok(layer(MEDIA_TYPE_LAYER_TAR));
        }
        let open = || self.blobs().open(blob, what);
        let mut start = io::BufReader::new(open()?);
        let media_type = match format(&mut start).map_err(|error| unreadable(what, error))? {
            Format::Gzip => MEDIA_TYPE_LAYER_GZIP,
            Format::Zstd => MEDIA_TYPE_LAYER_ZSTD,
            Format::Tar | Format::Unreadable(_) => MEDIA_TYPE_LAYER_TAR,
        };
        let mut tar = decompressed(open()?, what)?.take(MAX_TAR_LEN);
        let (mut hasher, mut buffer) = (Sha256::new(), vec![0; BUFFER_LEN]);
        loop {
            match tar.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => hasher.update(&buffer[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(unreadable(what, error)),
            }
        }
        let found = Digest::from_bytes(hasher.finalize().into());
        if found == *diff_id {
            return Ok(layer(media_type));
        }
        Err(StoreError::WrongDigest {
            what: format!("tar stream of {what}"),
            expected: *diff_id,
            found,
        })
    }
}

fn described(digest: &Digest, bytes: &[u8]) -> Descriptor {
    Descriptor::of_blob(digest, bytes.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::tests::{archive, name};
    use crate::testing;

    /// A layer with a device node, which no layer of a ClusterImage may have.
    fn layer() -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_path("dev/null").unwrap();
        header.set_entry_type(tar::EntryType::Char);
        header.set_device_major(1).unwrap();
        header.set_device_minor(3).unwrap();
        header.set_size(0);
        header.set_cksum();
        tar.append(&header, io::empty()).unwrap();
        tar.into_inner().unwrap()
    }

    fn config(architecture: &str, diff_id: &Digest) -> Vec<u8> {
        format!(
            r#"{{"os":"linux","architecture":"{architecture}","rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#
        )
        .into_bytes()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::read::GzEncoder::new(bytes, flate2::Compression::fast());
        let mut packed = Vec::new();
        encoder.read_to_end(&mut packed).unwrap();
        packed
    }

    const AMD64: &str = "amd64";

    fn platform(architecture: &str) -> Platform {
        Platform {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            variant: None,
        }
    }

    #[test]
    fn layers_of_a_docker_archive_are_taken_as_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let tar = layer();
        let config = config(AMD64, &Digest::of(&tar));
        let manifest =
            br#"[{"Config":"a.json","RepoTags":["hub.lab:5000/app/web:1"],"Layers":["l/layer.tar"]},
                            {"Config":"a.json","RepoTags":null,"Layers":["l/layer.tar"]}]"#;
        for (layer, kind) in [
            (tar.clone(), MEDIA_TYPE_LAYER_TAR),
            (gzip(&tar), MEDIA_TYPE_LAYER_GZIP),
        ] {
            let path = archive(
                dir.path(),
                &[
                    ("a.json", &config),
                    ("l/layer.tar", &layer),
                    ("manifest.json", manifest),
                ],
            );
            let test = testing::store();
            let images = test.store.take_container_images(&path).unwrap();
            assert_eq!(images.unnamed, 1);
            let [(named, target)] = &images.named[..] else {
                panic!("{images:?}")
            };
            assert_eq!(*named, name("hub.lab:5000/app/web:1"));
            let image = test
                .store
                .archived_image(&target.digest, &platform(AMD64))
                .unwrap()
                .unwrap();
            let digests: Vec<Digest> = image.blobs.iter().map(|blob| blob.digest).collect();
            assert_eq!(digests, [Digest::of(&config), Digest::of(&layer)]);
            assert_eq!(image.blobs[1].media_type, kind);
            assert_eq!(
                test.store
                    .archived_image(&target.digest, &platform("arm64"))
                    .unwrap(),
                None
            );
        }
        let other = gzip(b"something else");
        let path = archive(
            dir.path(),
            &[
                ("a.json", &config),
                ("l/layer.tar", &other),
                ("manifest.json", manifest),
            ],
        );
        let error = testing::store().store.take_container_images(&path).unwrap_err();
        assert!(matches!(error, StoreError::WrongDigest { .. }), "{error}");
    }

    #[test]
    fn an_index_leads_to_the_image_for_the_platform_that_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let tar = gzip(&layer());
        let config = config("arm64", &Digest::of(&layer()));
        let blob = |bytes: &[u8]| format!(r#""digest":"{}","size":{}"#, Digest::of(bytes), bytes.len());
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{{{}}},"layers":[{{"mediaType":"{MEDIA_TYPE_LAYER_GZIP}",{}}}]}}"#,
            blob(&config),
            blob(&tar)
        );
        let inner = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"platform":{{"os":"linux","architecture":"amd64"}},{}}},
                {{"platform":{{"os":"linux","architecture":"arm64","variant":"v8"}},{}}}]}}"#,
            blob(b"that of another platform, which is not there"),
            blob(manifest.as_bytes())
        );
        let index = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{}","annotations":{{"io.containerd.image.name":"docker.io/app/web:1"}},{}}}]}}"#,
            crate::manifest::MEDIA_TYPE_INDEX,
            blob(inner.as_bytes())
        );
        let blobs = [&config[..], &tar, manifest.as_bytes(), inner.as_bytes()];
        let names = blobs.map(|bytes| crate::archive::blob_path(&Digest::of(bytes)));
        let mut entries = vec![("index.json", index.as_bytes()), ("oci-layout", &b"{}"[..])];
        entries.extend(names.iter().map(String::as_str).zip(blobs));
        let path = archive(dir.path(), &entries);
        let test = testing::store();
        let images = test.store.take_container_images(&path).unwrap();
        let digest = images.named[0].1.digest;
        assert_eq!(digest, Digest::of(inner.as_bytes()));
        let image = test
            .store
            .archived_image(&digest, &platform("arm64"))
            .unwrap()
            .unwrap();
        assert_eq!(
            (image.digest, image.manifests.len(), image.blobs.len()),
            (digest, 2, 2)
        );
        assert_eq!(
            test.store.archived_image(&digest, &platform(AMD64)).unwrap(),
            None
        );
        // Its own digest leads to it as well; that of a layer to nothing.
        let own = Digest::of(manifest.as_bytes());
        assert_eq!(
            test.store
                .archived_image(&own, &platform("arm64"))
                .unwrap()
                .unwrap()
                .digest,
            own
        );
    }
}
