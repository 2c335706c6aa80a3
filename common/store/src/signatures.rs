//! This module owns signatures over images, as cosign keeps them in registries: a manifest of its own per image that was signed,
//! whose layers are the payloads, with the signature over each in an annotation (sigstore/cosign `specs/SIGNATURE_SPEC.md`).
//!
//! A signature belongs to a digest, not to a name: it is kept as long as the store has that manifest or index, and goes
//! wherever it goes. Manifests of signatures that came stay as they came, with what they hold beyond key pairs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gantry_model::{Digest, ImageSignature, SignedPayload};

use crate::images::parse;
use crate::manifest::{MAX_MANIFEST_LEN, MEDIA_TYPE_CONFIG, MEDIA_TYPE_MANIFEST, Manifest};
use crate::reachable::Reachable;
use crate::{Descriptor, ImageConfig, Store, StoreError, StoreLock, documents};

/// Media type of a payload.
pub const MEDIA_TYPE_PAYLOAD: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// Annotation of a payload: the signature over it, in base64.
pub const ANNOTATION_SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// Most bytes of the config of a manifest of signatures: it says nothing but the payloads' digests.
const MAX_CONFIG_LEN: u64 = 64 << 10;

/// The signatures of one image as an OCI image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureContents {
    /// Digest of what was signed.
    pub image: Digest,
    /// The manifest of the signatures.
    pub manifest: Descriptor,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its config and the payloads.
    pub blobs: Vec<Descriptor>,
}

/// The tag that signatures of an image have in its repository.
#[must_use]
pub fn signature_tag(image: &Digest) -> String {
    format!("sha256-{}.sig", image.hex())
}

/// Whether a manifest of signatures is one that is read: its blobs are few and small.
///
/// # Errors
/// What is wrong with it.
pub fn check_signature_manifest(manifest: &Manifest) -> Result<(), String> {
    if !is_of_signatures(manifest) {
        return Err("it has layers that are no payloads of signatures".to_owned());
    }
    check_count(manifest.layers.len())?;
    let config = (&manifest.config, MAX_CONFIG_LEN);
    let payloads = manifest
        .layers
        .iter()
        .map(|layer| (layer, ImageSignature::MAX_PAYLOAD_LEN));
    match std::iter::once(config)
        .chain(payloads)
        .find(|(blob, limit)| blob.size > *limit)
    {
        Some((blob, limit)) => Err(format!(
            "blob {} is larger than {limit} bytes, the most that is accepted",
            blob.digest.short()
        )),
        None => Ok(()),
    }
}

/// Whether a manifest is one of signatures.
#[must_use]
pub fn is_of_signatures(manifest: &Manifest) -> bool {
    let of_payloads = |layer: &Descriptor| layer.media_type == MEDIA_TYPE_PAYLOAD;
    !manifest.layers.is_empty() && manifest.layers.iter().all(of_payloads)
}

impl Store {
    /// The signatures over the manifest or index with this digest. They are not verified.
    ///
    /// # Errors
    /// When what there is of them is damaged.
    pub fn signatures(&self, image: &Digest) -> Result<Vec<ImageSignature>, StoreError> {
        let Some(contents) = self.signature_contents(image)? else {
            return Ok(Vec::new());
        };
        let manifest: Manifest = parse(&contents.bytes, &what(image))?;
        manifest
            .layers
            .iter()
            .map(|layer| self.read_signature(layer, image))
            .collect()
    }

    /// The signatures over the manifest or index with this digest as documents and blobs; none where there are none.
    ///
    /// # Errors
    /// When what there is of them is damaged.
    pub fn signature_contents(&self, image: &Digest) -> Result<Option<SignatureContents>, StoreError> {
        let path = self.signatures_path(image);
        let Some(manifest) = documents::read::<Descriptor>(&path)? else {
            return Ok(None);
        };
        let bytes = self
            .blobs()
            .read(&manifest.digest, &what(image), MAX_MANIFEST_LEN)?;
        let document: Manifest = parse(&bytes, &what(image))?;
        let mut blobs = vec![document.config];
        blobs.extend(document.layers);
        // The same payload may have been signed by several.
        let mut seen = BTreeSet::new();
        blobs.retain(|blob| seen.insert(blob.digest));
        Ok(Some(SignatureContents {
            image: *image,
            manifest,
            bytes,
            blobs,
        }))
    }

    /// Adds a signature to those over the manifest or index with this digest, which is in the store.
    ///
    /// # Errors
    /// When there would be too many, or the store cannot be written.
    pub fn add_signature(&self, image: &Digest, signature: &ImageSignature) -> Result<(), StoreError> {
        let _nothing_vanishes = self.share()?;
        let layer = Descriptor {
            media_type: MEDIA_TYPE_PAYLOAD.to_owned(),
            digest: self.blobs().put_bytes(&signature.payload)?,
            size: signature.payload.len() as u64,
            platform: None,
            annotations: BTreeMap::from([(
                ANNOTATION_SIGNATURE.to_owned(),
                STANDARD.encode(&signature.signature),
            )]),
        };
        self.join_signatures(image, vec![layer], None)
    }

    /// Adds the signatures of the manifest `bytes` that came to those over `image`. Its config and payloads are in the store.
    ///
    /// # Errors
    /// When it is not one of signatures over that image, has too many, or the store cannot be written.
    pub fn add_signature_manifest(&self, image: &Digest, bytes: &[u8]) -> Result<(), StoreError> {
        let _nothing_vanishes = self.share()?;
        let manifest: Manifest = parse(bytes, &what(image))?;
        check_signature_manifest(&manifest).map_err(|reason| StoreError::malformed(what(image), reason))?;
        for layer in &manifest.layers {
            let signature = self.read_signature(layer, image)?;
            let signed = SignedPayload::parse(&signature.payload)
                .map_err(|error| StoreError::malformed(what(image), error.to_string()))?;
            if signed.image != *image {
                let reason = format!("it has a signature over another image, {}", signed.image);
                return Err(StoreError::malformed(what(image), reason));
            }
        }
        let config = what(image);
        self.blobs()
            .read(&manifest.config.digest, &config, MAX_CONFIG_LEN)?;
        self.join_signatures(image, manifest.layers, Some(bytes))
    }

    /// The digest of the image that the manifest of signatures `bytes` is about, by its first payload.
    pub(crate) fn signed_image(&self, bytes: &[u8], archive: &str) -> Result<Digest, StoreError> {
        let name = format!("manifest of signatures in {archive}");
        let manifest: Manifest = parse(bytes, &name)?;
        let first = manifest
            .layers
            .first()
            .ok_or_else(|| StoreError::malformed(&name, "there is none"))?;
        let payload = self
            .blobs()
            .read(&first.digest, &name, ImageSignature::MAX_PAYLOAD_LEN)?;
        let signed = SignedPayload::parse(&payload);
        signed
            .map(|signed| signed.image)
            .map_err(|error| StoreError::malformed(name, error.to_string()))
    }

    /// Makes `more` part of the signatures over `image`. Where they are all there is, their manifest `arrived` stays as it came.
    fn join_signatures(
        &self,
        image: &Digest,
        more: Vec<Descriptor>,
        arrived: Option<&[u8]>,
    ) -> Result<(), StoreError> {
        let _alone = StoreLock::exclusive(&self.store_dir().join("images.lock"))?;
        let present: Vec<Descriptor> = match self.signature_contents(image)? {
            Some(contents) => parse::<Manifest>(&contents.bytes, &what(image))?.layers,
            None => Vec::new(),
        };
        let is_there = |layer: &Descriptor, layers: &[Descriptor]| {
            let signature = |layer: &Descriptor| layer.annotations.get(ANNOTATION_SIGNATURE).cloned();
            let same =
                |other: &Descriptor| other.digest == layer.digest && signature(other) == signature(layer);
            layers.iter().any(same)
        };
        if more.iter().all(|layer| is_there(layer, &present)) {
            return Ok(());
        }
        let target = match arrived.filter(|_| present.iter().all(|layer| is_there(layer, &more))) {
            Some(bytes) => Descriptor {
                media_type: parse::<Manifest>(bytes, &what(image))?.media_type_or_oci(),
                digest: self.blobs().put_bytes(bytes)?,
                size: bytes.len() as u64,
                platform: None,
                annotations: BTreeMap::new(),
            },
            None => {
                let mut layers = present;
                for layer in more {
                    if !is_there(&layer, &layers) {
                        layers.push(layer);
                    }
                }
                check_count(layers.len()).map_err(|reason| StoreError::malformed(what(image), reason))?;
                self.put_signature_manifest(layers)?
            }
        };
        documents::write(&self.signatures_path(image), &target)
    }

    /// Stores a manifest of these payloads, with the config that cosign gives it.
    fn put_signature_manifest(&self, layers: Vec<Descriptor>) -> Result<Descriptor, StoreError> {
        let mut config = ImageConfig::default();
        config.rootfs.kind = "layers".to_owned();
        config.rootfs.diff_ids = layers.iter().map(|layer| layer.digest).collect();
        let config = serde_json::to_vec(&config).expect("a config is plain data");
        self.put_manifest(&Manifest {
            schema_version: 2,
            media_type: MEDIA_TYPE_MANIFEST.to_owned(),
            config: Descriptor {
                media_type: MEDIA_TYPE_CONFIG.to_owned(),
                digest: self.blobs().put_bytes(&config)?,
                size: config.len() as u64,
                platform: None,
                annotations: BTreeMap::new(),
            },
            layers,
            annotations: BTreeMap::new(),
        })
    }

    fn read_signature(&self, layer: &Descriptor, image: &Digest) -> Result<ImageSignature, StoreError> {
        let payload = self
            .blobs()
            .read(&layer.digest, &what(image), ImageSignature::MAX_PAYLOAD_LEN)?;
        let signature = layer
            .annotations
            .get(ANNOTATION_SIGNATURE)
            .and_then(|text| STANDARD.decode(text).ok())
            .filter(|signature| signature.len() <= ImageSignature::MAX_SIGNATURE_LEN);
        match signature {
            Some(signature) => Ok(ImageSignature { payload, signature }),
            None => {
                let reason = format!("its annotation {ANNOTATION_SIGNATURE} is not a signature in base64");
                Err(StoreError::malformed(what(image), reason))
            }
        }
    }

    /// Adds what the signatures over `image` need.
    pub(crate) fn reach_signatures(
        &self,
        image: &Digest,
        reachable: &mut Reachable,
    ) -> Result<(), StoreError> {
        if let Some(contents) = self.signature_contents(image)? {
            reachable.blobs.insert(contents.manifest.digest);
            reachable
                .blobs
                .extend(contents.blobs.iter().map(|blob| blob.digest));
        }
        Ok(())
    }

    /// `ROOT/store/signatures`: what was signed -> the manifest of its signatures.
    pub(crate) fn signatures_dir(&self) -> PathBuf {
        self.store_dir().join("signatures")
    }

    fn signatures_path(&self, image: &Digest) -> PathBuf {
        self.signatures_dir().join(format!("{}.json", image.hex()))
    }
}

fn check_count(count: usize) -> Result<(), String> {
    let limit = ImageSignature::MAX_SIGNATURES;
    if count > limit {
        return Err(format!(
            "there are {count}, more than the {limit} that are accepted"
        ));
    }
    Ok(())
}

fn what(image: &Digest) -> String {
    format!("signatures over image {}", image.short())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::tests::{image_for, name};
    use crate::testing;

    fn signature(image: Digest, bytes: &[u8]) -> ImageSignature {
        let payload = SignedPayload {
            image,
            identity: "demo".to_owned(),
        };
        ImageSignature {
            payload: payload.to_bytes(),
            signature: bytes.to_vec(),
        }
    }

    #[test]
    fn signatures_are_added_once_and_go_with_their_image() {
        let test = testing::store();
        let store = &test.store;
        image_for(store, "demo:v1", "amd64", "amd64");
        let image = store.target(&name("demo:v1")).unwrap().digest;
        let before = store.blobs().list().unwrap().len();
        assert_eq!(store.signatures(&image).unwrap(), []);
        let (first, second) = (signature(image, b"first"), signature(image, b"second"));
        for one in [&first, &second, &first] {
            store.add_signature(&image, one).unwrap();
        }
        assert_eq!(store.signatures(&image).unwrap(), [first, second]);
        // The manifest of the first signature alone is nobody's any more.
        store.sweep([]).unwrap();
        assert_eq!(store.blobs().list().unwrap().len(), before + 3);
        assert!(store.check().unwrap().damage.is_empty());
        store.tag(&name("demo:v1"), &name("hub/demo:v2")).unwrap();
        store.remove_image(&name("demo:v1")).unwrap();
        assert_eq!(store.signatures(&image).unwrap().len(), 2);
        store.remove_image(&name("hub/demo:v2")).unwrap();
        assert_eq!(store.signatures(&image).unwrap(), []);
        assert_eq!(store.blobs().list().unwrap(), []);
        assert_eq!(std::fs::read_dir(store.signatures_dir()).unwrap().count(), 0);
    }

    #[test]
    fn a_manifest_of_signatures_that_came_stays_as_it_came() {
        let (from, to) = (testing::store(), testing::store());
        for test in [&from, &to] {
            image_for(&test.store, "demo:v1", "amd64", "amd64");
        }
        let image = from.store.target(&name("demo:v1")).unwrap().digest;
        from.store
            .add_signature(&image, &signature(image, b"first"))
            .unwrap();
        let contents = from.store.signature_contents(&image).unwrap().unwrap();
        for blob in &contents.blobs {
            let bytes = from.store.blobs().read(&blob.digest, "blob", 1 << 20).unwrap();
            to.store.blobs().put_bytes(&bytes).unwrap();
        }
        // Others write more into it than we do.
        let mut bytes = contents.bytes.clone();
        bytes.push(b'\n');
        to.store.add_signature_manifest(&image, &bytes).unwrap();
        let came = to.store.signature_contents(&image).unwrap().unwrap();
        assert_eq!(came.bytes, bytes);
        // What adds nothing changes nothing; what adds something is joined to it.
        to.store.add_signature_manifest(&image, &contents.bytes).unwrap();
        assert_eq!(to.store.signature_contents(&image).unwrap().unwrap(), came);
        to.store
            .add_signature(&image, &signature(image, b"second"))
            .unwrap();
        assert_eq!(to.store.signatures(&image).unwrap().len(), 2);

        let other = Digest::of(b"other");
        let error = to.store.add_signature_manifest(&other, &bytes).unwrap_err();
        assert!(error.to_string().contains("over another image"), "{error}");
    }

    #[test]
    fn there_is_a_bound() {
        let test = testing::store();
        let image = Digest::of(b"image");
        for number in 0..ImageSignature::MAX_SIGNATURES {
            let one = signature(image, number.to_string().as_bytes());
            test.store.add_signature(&image, &one).unwrap();
        }
        let error = test.store.add_signature(&image, &signature(image, b"more"));
        assert!(error.unwrap_err().to_string().contains("more than the 64"));
    }
}
