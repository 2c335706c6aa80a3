//! This module owns the documents of sealer's save files before 0.9, as far as they say what an image is.
//!
//! They come from Go: what is empty may be missing or `null`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::manifest::null_as_default;

/// `Metadata`: the name of one image, or names with their images.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Metadata {
    /// To 0.6.
    One(OneImage),
    /// 0.7 and 0.8.
    Named(BTreeMap<String, Manifests>),
    /// From 0.9 on.
    List(String),
}

/// The one image of an early save file.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(super) struct OneImage {
    pub(super) name: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) created: String,
}

/// The images of one name.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Manifests {
    pub(super) manifests: Vec<OneManifest>,
}

/// One of them.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(super) struct OneManifest {
    pub(super) id: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) created: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) platform: SaidPlatform,
}

/// A platform, as far as it is said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(super) struct SaidPlatform {
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) architecture: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) os: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) variant: String,
}

/// What an image is made of.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct ImageDocument {
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) metadata: ObjectMeta,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) spec: Spec,
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct ObjectMeta {
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) annotations: BTreeMap<String, String>,
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Spec {
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) layers: Vec<Layer>,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) sealer_version: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) platform: SaidPlatform,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) image_config: ImageSettings,
}

/// One directive: those that make no layer have no id.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Layer {
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) id: String,
    #[serde(default, rename = "type", deserialize_with = "null_as_default")]
    pub(super) kind: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) value: String,
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct ImageSettings {
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) image_type: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) cmd: Inherited<Vec<String>>,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) args: Inherited<BTreeMap<String, String>>,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) labels: BTreeMap<String, String>,
}

/// What the base image has, and what this one adds.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(bound = "T: Default + DeserializeOwned")]
pub(super) struct Inherited<T> {
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) parent: T,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) current: T,
}

impl Metadata {
    /// Reads `Metadata` of any version.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "it is no text".to_owned())?;
        if !text.trim_start().starts_with('{') {
            return Ok(Self::List(text.trim().to_owned()));
        }
        let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let read = if value["name"].is_string() {
            serde_json::from_value(value).map(Self::One)
        } else {
            serde_json::from_value(value).map(Self::Named)
        };
        read.map_err(|error| error.to_string())
    }
}
