//! This module owns the OCI documents: index, manifest, config (OCI image-spec 1.1).
//!
//! Only what Gantry reads or writes is here. Unknown fields are ignored on reading; nothing that arrived is ever
//! written again from these types, so nothing is lost.

use std::collections::BTreeMap;

use gantry_model::{Digest, LayerDescriptor, TocLocation};
use serde::{Deserialize, Serialize};

/// Most bytes of a manifest or index, as registries have it.
pub const MAX_MANIFEST_LEN: u64 = 4 << 20;
/// Most bytes of a config.
pub const MAX_CONFIG_LEN: u64 = 8 << 20;
/// Most layers of an image.
pub const MAX_LAYERS: usize = 128;

/// An OCI image index.
pub const MEDIA_TYPE_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// An OCI image manifest.
pub const MEDIA_TYPE_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// An OCI image config.
pub const MEDIA_TYPE_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// A zstd compressed layer, which is what chunked layers are.
pub const MEDIA_TYPE_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// A gzip compressed layer.
pub const MEDIA_TYPE_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// A layer that is not compressed.
pub const MEDIA_TYPE_LAYER_TAR: &str = "application/vnd.oci.image.layer.v1.tar";
/// Docker's manifest list.
pub const MEDIA_TYPE_DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker's manifest.
pub const MEDIA_TYPE_DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// Annotation of a layer: `offset:compressed length:length:1` of its table of contents.
pub const ANNOTATION_TOC_POSITION: &str = "io.github.containers.zstd-chunked.manifest-position";
/// Annotation of a layer: digest of its compressed table of contents.
pub const ANNOTATION_TOC_DIGEST: &str = "io.github.containers.zstd-chunked.manifest-checksum";
/// Annotation in an index: the name of the image.
pub const ANNOTATION_REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Annotation in an index: the whole reference, as containerd writes it.
pub const ANNOTATION_IMAGE_NAME: &str = "io.containerd.image.name";
/// Annotation of an index's entry that is a statement about an image, e.g. `attestation-manifest`.
pub const ANNOTATION_REFERENCE_TYPE: &str = "vnd.docker.reference.type";
/// Label of a ClusterImage: what it launches as a JSON list of shell lines; see [`crate::launch_lines`].
pub const LABEL_COMMANDS: &str = "io.gantry.commands";

/// Points at a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    #[serde(default)]
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// For which platform, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// More about it, sorted by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// An operating system and a processor architecture, in Go's words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// `amd64`, `arm64`, …
    pub architecture: String,
    /// `linux`.
    pub os: String,
    /// E.g. `v8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// The platform this program was built for.
    #[must_use]
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "powerpc64" => "ppc64le",
            other => other,
        };
        Self {
            architecture: architecture.to_owned(),
            os: "linux".to_owned(),
            variant: None,
        }
    }

    /// The platform that a config says its image is for (OCI image-spec, "Image Configuration"); none when it says none, as those
    /// of artifacts that are no images.
    #[must_use]
    pub fn of_config(config: &[u8]) -> Option<Self> {
        let platform: Self = serde_json::from_slice(config).ok()?;
        let said = !platform.os.is_empty() && !platform.architecture.is_empty();
        said.then_some(platform)
    }

    /// Whether hosts of the platform `wanted` run what is for this one. Whoever wants no variant takes any.
    #[must_use]
    pub fn fits(&self, wanted: &Self) -> bool {
        let same = self.os == wanted.os && self.architecture == wanted.architecture;
        same && (wanted.variant.is_none() || self.variant_in_full() == wanted.variant_in_full())
    }

    /// The variant, also where it goes without saying (containerd's platforms, "Normalization").
    fn variant_in_full(&self) -> Option<&str> {
        let said = self.variant.as_deref().filter(|variant| !variant.is_empty());
        said.or(match self.architecture.as_str() {
            "arm64" => Some("v8"),
            "arm" => Some("v7"),
            "amd64" => Some("v1"),
            _ => None,
        })
    }
}

/// `OS/ARCH[/VARIANT]`.
impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

/// Several manifests under one digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// [`MEDIA_TYPE_INDEX`] or docker's.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// The manifests.
    pub manifests: Vec<Descriptor>,
}

/// One image for one platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// [`MEDIA_TYPE_MANIFEST`] or docker's.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// The config.
    pub config: Descriptor,
    /// The layers, bottom first.
    pub layers: Vec<Descriptor>,
    /// More about it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Manifest {
    /// The media type; a manifest of OCI need not say its own.
    #[must_use]
    pub fn media_type_or_oci(&self) -> String {
        if self.media_type.is_empty() {
            MEDIA_TYPE_MANIFEST.to_owned()
        } else {
            self.media_type.clone()
        }
    }
}

/// The config of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// When it was made, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it, as the image says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Processor architecture, in Go's words.
    #[serde(default)]
    pub architecture: String,
    /// Operating system, in Go's words.
    #[serde(default)]
    pub os: String,
    /// Variant of the architecture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// What users of the image are told.
    #[serde(default)]
    pub config: RunConfig,
    /// The layers' uncompressed digests.
    #[serde(default)]
    pub rootfs: RootFs,
    /// How it was made, bottom first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
}

/// What users of an image are told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RunConfig {
    /// Environment, `NAME=VALUE`.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub env: Vec<String>,
    /// What a container of the image runs; a ClusterImage's commands are in [`LABEL_COMMANDS`].
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub cmd: Vec<String>,
    /// Labels.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub labels: BTreeMap<String, String>,
}

/// The uncompressed digests of an image's layers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// Digest of each uncompressed layer, bottom first.
    #[serde(default)]
    pub diff_ids: Vec<Digest>,
}

/// One line of how an image was made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// When, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The directive.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub created_by: String,
    /// Whether it made no layer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

impl Descriptor {
    /// A blob, and nothing about it.
    #[must_use]
    pub fn of_blob(digest: &Digest, size: u64) -> Self {
        Self {
            media_type: String::new(),
            digest: *digest,
            size,
            platform: None,
            annotations: BTreeMap::new(),
        }
    }

    /// The layer this descriptor speaks of, when its annotations say it is in chunked form.
    #[must_use]
    pub fn chunked_layer(&self, diff_id: Digest) -> Option<LayerDescriptor> {
        let digest = self.annotations.get(ANNOTATION_TOC_DIGEST)?.parse().ok()?;
        let mut position = self.annotations.get(ANNOTATION_TOC_POSITION)?.split(':');
        let mut number = || position.next()?.parse::<u64>().ok();
        let (offset, compressed_len, len, kind) = (number()?, number()?, number()?, number()?);
        let toc = TocLocation {
            offset,
            compressed_len,
            len,
            digest,
        };
        (kind == 1).then_some(LayerDescriptor {
            digest: self.digest,
            size: self.size,
            diff_id,
            toc,
        })
    }

    /// Whether an entry of an index is an image, and not a statement about one: those have the platform
    /// `unknown/unknown` (docker buildx attestations).
    #[must_use]
    pub fn is_image(&self) -> bool {
        let unknown = self
            .platform
            .as_ref()
            .is_some_and(|platform| platform.os == "unknown" || platform.architecture == "unknown");
        !unknown && !self.annotations.contains_key(ANNOTATION_REFERENCE_TYPE)
    }

    /// The descriptor a manifest has for a chunked layer.
    #[must_use]
    pub fn of_chunked_layer(layer: &LayerDescriptor) -> Self {
        let TocLocation {
            offset,
            compressed_len,
            len,
            digest,
        } = &layer.toc;
        let annotations = BTreeMap::from([
            (ANNOTATION_TOC_DIGEST.to_owned(), digest.to_string()),
            (
                ANNOTATION_TOC_POSITION.to_owned(),
                format!("{offset}:{compressed_len}:{len}:1"),
            ),
        ]);
        Self {
            media_type: MEDIA_TYPE_LAYER_ZSTD.to_owned(),
            digest: layer.digest,
            size: layer.size,
            platform: None,
            annotations,
        }
    }
}

/// Go programs write `null` for empty lists and maps.
pub(crate) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_map, vec};
    use proptest::option;
    use proptest::prelude::*;
    use serde::de::DeserializeOwned;

    use super::*;

    fn platform() -> impl Strategy<Value = Platform> {
        ("[a-z0-9]{1,8}", "[a-z]{1,8}", option::of("v[5-9]")).prop_map(|(architecture, os, variant)| {
            Platform {
                architecture,
                os,
                variant,
            }
        })
    }

    fn descriptor() -> impl Strategy<Value = Descriptor> {
        let annotations = btree_map("[a-z./]{1,20}", ".{0,20}", 0..3);
        let parts = (
            "[a-z/.+]{0,30}",
            any::<[u8; 32]>(),
            any::<u64>(),
            option::of(platform()),
            annotations,
        );
        parts.prop_map(|(media_type, digest, size, platform, annotations)| Descriptor {
            media_type,
            digest: Digest::from_bytes(digest),
            size,
            platform,
            annotations,
        })
    }

    fn manifest() -> impl Strategy<Value = Manifest> {
        let annotations = btree_map("[a-z./]{1,20}", ".{0,20}", 0..3);
        (descriptor(), vec(descriptor(), 0..5), annotations).prop_map(|(config, layers, annotations)| {
            Manifest {
                schema_version: 2,
                media_type: MEDIA_TYPE_MANIFEST.to_owned(),
                config,
                layers,
                annotations,
            }
        })
    }

    fn config() -> impl Strategy<Value = ImageConfig> {
        let env = vec("[A-Z]{1,8}=.{0,20}", 0..3);
        let layers = vec(any::<[u8; 32]>(), 0..4);
        (platform(), env, vec(".{0,20}", 0..3), layers).prop_map(|(platform, env, cmd, layers)| {
            let mut config = ImageConfig {
                architecture: platform.architecture,
                os: platform.os,
                variant: platform.variant,
                ..ImageConfig::default()
            };
            (config.config.env, config.config.cmd) = (env, cmd);
            config.rootfs = RootFs {
                kind: "layers".to_owned(),
                diff_ids: layers.into_iter().map(Digest::from_bytes).collect(),
            };
            config
        })
    }

    /// It is read as it was written, also with fields that nobody knows; cut anywhere, it is refused.
    fn holds<T>(document: &T, cut: &prop::sample::Index) -> Result<(), TestCaseError>
    where
        T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
    {
        let text = serde_json::to_string(document).unwrap();
        prop_assert_eq!(&serde_json::from_str::<T>(&text).unwrap(), document);
        let more = format!("{{\"unknown\": {{\"a\": [1]}}, {}", &text[1..]);
        prop_assert_eq!(&serde_json::from_str::<T>(&more).unwrap(), document);
        let part = &text.as_bytes()[..cut.index(text.len())];
        prop_assert!(serde_json::from_slice::<T>(part).is_err());
        Ok(())
    }

    proptest! {
        #[test]
        fn documents_are_read_as_they_were_written(
            manifest in manifest(),
            manifests in vec(descriptor(), 0..5),
            config in config(),
            cut: prop::sample::Index,
        ) {
            holds(&manifest, &cut)?;
            holds(&config, &cut)?;
            let index = Index {
                schema_version: 2,
                media_type: MEDIA_TYPE_INDEX.to_owned(),
                manifests,
            };
            holds(&index, &cut)?;
        }

        #[test]
        fn a_chunked_layer_is_said_and_understood(
            digests in any::<[[u8; 32]; 3]>(),
            numbers in any::<[u64; 4]>(),
            position in ".{0,40}",
        ) {
            let [digest, diff_id, toc] = digests.map(Digest::from_bytes);
            let [size, offset, compressed_len, len] = numbers;
            let toc = TocLocation { offset, compressed_len, len, digest: toc };
            let layer = LayerDescriptor { digest, size, diff_id, toc };
            let mut said = Descriptor::of_chunked_layer(&layer);
            prop_assert_eq!(said.chunked_layer(diff_id), Some(layer));
            said.annotations.insert(ANNOTATION_TOC_POSITION.to_owned(), position);
            let _ = said.chunked_layer(diff_id);
        }
    }
}
