//! How an image was built, as SLSA has it (<https://slsa.dev/spec/v1.0/provenance>): what went in, and what was asked for.
//!
//! The same build says the same: there is no time in it. Values of arguments are left out, for some are secrets.

use std::collections::BTreeMap;

use gantry_model::{Digest, ImageReference};
use serde::Serialize;
use serde_json::{Value, json};

use super::recipe::Recipe;
use super::{BuildMode, BuildOptions};
use crate::sbom::container_image_purl;

/// What kind of statement this is.
pub const PROVENANCE: &str = "https://slsa.dev/provenance/v1";
/// How to read what was asked for: the directives of a Kubefile.
const BUILD_TYPE: &str = "urn:gantry:build:kubefile:1";
/// Who built it.
const BUILDER: &str = "urn:gantry:build";

/// Something that went into an image (SLSA, "ResourceDescriptor").
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Material {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uri: Option<String>,
    digest: BTreeMap<&'static str, String>,
}

impl Material {
    /// An image, by what its name leads to.
    pub(super) fn image(reference: &ImageReference, digest: Digest) -> Self {
        let tag = reference.tag().map(str::to_owned);
        Self::of_bytes(
            container_image_purl(reference.name(), digest, tag.as_deref()),
            digest,
        )
    }

    /// A file behind an address.
    pub(super) fn file(url: &str, digest: Digest) -> Self {
        Self::of_bytes(url.to_owned(), digest)
    }

    /// What a commit of a repository has.
    pub(super) fn commit(url: &str, commit: &str) -> Self {
        Self {
            name: None,
            uri: Some(format!("git+{url}")),
            digest: BTreeMap::from([("gitCommit", commit.to_owned())]),
        }
    }

    fn of_bytes(uri: String, digest: Digest) -> Self {
        Self {
            name: None,
            uri: Some(uri),
            digest: BTreeMap::from([("sha256", digest.hex())]),
        }
    }
}

/// What is said about an image that `recipe` became, into which `materials` went.
pub(super) fn predicate(recipe: &Recipe, options: &BuildOptions, materials: &[Material]) -> Value {
    let kubefile = Material {
        name: Some("Kubefile"),
        uri: None,
        digest: BTreeMap::from([("sha256", Digest::of(options.kubefile.as_bytes()).hex())]),
    };
    let base = recipe.base.as_ref().map(|base| {
        let image = &base.image;
        match &image.reference {
            Some(reference) => Material::image(reference, image.manifest_digest),
            None => Material::of_bytes(
                format!("pkg:oci/{}", image.manifest_digest),
                image.manifest_digest,
            ),
        }
    });
    let materials: Vec<&Material> = [&kubefile].into_iter().chain(&base).chain(materials).collect();
    let mode = match options.container_images.mode {
        BuildMode::All => "all",
        BuildMode::Lite => "lite",
    };
    json!({
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {
                "platform": recipe.platform.to_string(),
                "arguments": options.build_args.keys().collect::<Vec<_>>(),
                "network": options.network,
                "buildMode": mode,
            },
            "internalParameters": { "sourceDateEpoch": options.epoch },
            "resolvedDependencies": materials,
        },
        "runDetails": {
            "builder": {
                "id": BUILDER,
                "version": { "gantry": env!("CARGO_PKG_VERSION") },
            },
        },
    })
}
