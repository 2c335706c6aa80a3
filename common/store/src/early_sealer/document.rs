//! This module owns the document of an image of sealer before 0.9, as far as it says what the image is.
//!
//! It comes from Go: what is empty may be missing or `null`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::manifest::null_as_default;

/// What an image is made of.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct ImageDocument {
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) metadata: ObjectMeta,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) spec: Spec,
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct ObjectMeta {
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) annotations: BTreeMap<String, String>,
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Spec {
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) layers: Vec<Layer>,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) sealer_version: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) platform: SaidPlatform,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) image_config: ImageSettings,
}

/// One directive: those that make no layer have no id.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Layer {
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) id: String,
    #[serde(default, rename = "type", deserialize_with = "null_as_default")]
    pub(crate) kind: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) value: String,
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct ImageSettings {
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) image_type: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) cmd: Inherited<Vec<String>>,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) args: Inherited<BTreeMap<String, String>>,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) labels: BTreeMap<String, String>,
}

/// What the base image has, and what this one adds.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(bound = "T: Default + DeserializeOwned")]
pub(crate) struct Inherited<T> {
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) parent: T,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) current: T,
}

/// A platform, as far as it is said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct SaidPlatform {
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) architecture: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) os: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(crate) variant: String,
}
