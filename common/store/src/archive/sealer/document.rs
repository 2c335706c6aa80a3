//! This module owns `Metadata` of sealer's save files: which images there are, and how they are called.
//!
//! They come from Go: what is empty may be missing or `null`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::early_sealer::SaidPlatform;
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
