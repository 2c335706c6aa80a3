//! This module owns how the images of a save file are put together from its documents and layers.

use gantry_model::{Digest, ImageReference};
use serde_json::Value;

use super::document::{Metadata, OneManifest};
use super::{IMAGE_METADATA, METADATA, Saved, YamlReader};
use crate::early_sealer::{ImageDocument, SaidPlatform};
use crate::layer_import::layer_from_plain_tar;
use crate::{Descriptor, Platform, Store, StoreError};

/// The images of a save file: for each its manifest or index in the store, and its name.
pub(in crate::archive) fn images(
    store: &Store,
    saved: &Saved,
    read_yaml: YamlReader,
    archive: &str,
) -> Result<Vec<(Descriptor, Vec<ImageReference>)>, StoreError> {
    let what = format!("{METADATA} of {archive}");
    let metadata = saved.metadata.as_deref().unwrap_or_default();
    let metadata = Metadata::read(metadata).map_err(|reason| StoreError::malformed(&what, reason))?;
    let making = Making {
        store,
        saved,
        read_yaml,
        archive,
    };
    let name = |text: &str| -> Result<ImageReference, StoreError> {
        text.parse()
            .map_err(|error| StoreError::malformed(&what, format!("its image name {error}")))
    };
    match metadata {
        Metadata::One(one) => {
            let (target, _) = making.image(IMAGE_METADATA, &SaidPlatform::default(), &one.created)?;
            Ok(vec![(target, vec![name(&one.name)?])])
        }
        Metadata::Named(named) => {
            let mut images = Vec::new();
            for (text, manifests) in named {
                images.push((making.named(&manifests.manifests)?, vec![name(&text)?]));
            }
            Ok(images)
        }
        Metadata::List(_) => Err(StoreError::malformed(
            what,
            "it names an image, and no image is there",
        )),
    }
}

/// The name of the image whose platforms are archives in the archive.
pub(in crate::archive) fn list_name(saved: &Saved, archive: &str) -> Result<ImageReference, StoreError> {
    let what = format!("{METADATA} of {archive}");
    match Metadata::read(saved.metadata.as_deref().unwrap_or_default()) {
        Ok(Metadata::List(name)) => {
            let name = name.parse();
            name.map_err(|error| StoreError::malformed(what, format!("its image name {error}")))
        }
        _ => Err(StoreError::malformed(
            what,
            "beside archives it is the name of an image, and nothing else",
        )),
    }
}

struct Making<'a> {
    store: &'a Store,
    saved: &'a Saved,
    read_yaml: YamlReader,
    archive: &'a str,
}

impl Making<'_> {
    /// The images of one name: an index, if they are several.
    fn named(&self, manifests: &[OneManifest]) -> Result<Descriptor, StoreError> {
        if manifests.is_empty() {
            return Err(StoreError::malformed(
                self.archive,
                "there is no image under a name of it",
            ));
        }
        let mut made = Vec::new();
        for one in manifests {
            let hex = one.id.strip_prefix("sha256:").unwrap_or(&one.id);
            let (target, platform) = self.image(&format!("{hex}.yaml"), &one.platform, &one.created)?;
            made.push(Descriptor {
                platform: Some(platform),
                ..target
            });
        }
        if made.len() == 1 {
            let only = made.remove(0);
            return Ok(Descriptor {
                platform: None,
                ..only
            });
        }
        self.store.put_index(made)
    }

    fn image(
        &self,
        document: &str,
        said: &SaidPlatform,
        created: &str,
    ) -> Result<(Descriptor, Platform), StoreError> {
        let what = format!("{document} of {}", self.archive);
        let document = self.read(document, &what)?;
        let mut layers = Vec::new();
        for id in document.layer_ids() {
            layers.push(self.layer(id, &what)?);
        }
        let image = document.image(layers, said, created);
        let platform = image.platform();
        Ok((self.store.put_image(&image, &what)?, platform))
    }

    fn read(&self, document: &str, what: &str) -> Result<ImageDocument, StoreError> {
        let Some(bytes) = self.saved.documents.get(document) else {
            return Err(StoreError::CutShort {
                what: self.archive.to_owned(),
                reason: format!("{document} is missing"),
            });
        };
        let text = std::str::from_utf8(bytes).map_err(|_| StoreError::malformed(what, "it is no text"))?;
        let value: Result<Value, String> = (self.read_yaml)(text);
        let read = value.and_then(|value| serde_json::from_value(value).map_err(|error| error.to_string()));
        read.map_err(|reason| StoreError::malformed(what, reason))
    }

    fn layer(&self, id: &str, what: &str) -> Result<(Descriptor, Digest), StoreError> {
        let hex = id.strip_prefix("sha256:").unwrap_or(id);
        let digest = Digest::from_hex(hex)
            .map_err(|_| StoreError::malformed(what, format!("{id:?} is no id of a layer")))?;
        let layer = match self.saved.layers.get(&digest) {
            Some(layer) => layer.clone(),
            // A folder with nothing in it is a layer with nothing in it.
            None if self.saved.folders.contains(&digest) => {
                layer_from_plain_tar(self.store, &mut &[0; 1024][..])
                    .map_err(StoreError::layer(format!("layer {hex}")))?
            }
            None => {
                return Err(StoreError::CutShort {
                    what: self.archive.to_owned(),
                    reason: format!("layer {hex} is missing"),
                });
            }
        };
        Ok((Descriptor::of_chunked_layer(&layer), layer.diff_id))
    }
}
