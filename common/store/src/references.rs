//! This module owns [`References`]: the content of `images.json`, and how a name that people give is found in it.

use std::collections::BTreeMap;

use gantry_model::{Digest, ImageReference};
use serde::{Deserialize, Serialize};

use crate::{Descriptor, StoreError};

/// Fewest digits of a digest that name an image.
const MIN_ID_LEN: usize = 6;
/// Most names an error lists.
const LISTED: usize = 8;

/// `images.json`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct References {
    /// What each name leads to: a manifest, or an index of several.
    pub(crate) images: BTreeMap<ImageReference, Descriptor>,
}

impl References {
    /// The name of the image that `wanted` means, and what it leads to.
    ///
    /// A name with a digest is found by its digest. A short name also finds what other programs call
    /// `docker.io/library/NAME` or `localhost/NAME` when they write it into an archive.
    pub(crate) fn find(&self, wanted: &ImageReference) -> Option<(&ImageReference, &Descriptor)> {
        if let Some(digest) = wanted.digest() {
            return self.images.iter().find(|(_, target)| target.digest == *digest);
        }
        let exact = self.images.get_key_value(wanted);
        if exact.is_some() || wanted.domain().is_some() {
            return exact;
        }
        ["docker.io/library/", "docker.io/", "localhost/"]
            .iter()
            .filter_map(|prefix| format!("{prefix}{wanted}").parse().ok())
            .find_map(|long: ImageReference| self.images.get_key_value(&long))
    }

    /// The name of the image that a person means by `text`: a name, or the first digits of a digest that names lead
    /// to; of several names of one image the first.
    pub(crate) fn find_text(&self, text: &str) -> Result<&ImageReference, StoreError> {
        let wanted = text.parse::<ImageReference>();
        if let Some((name, _)) = wanted.as_ref().ok().and_then(|wanted| self.find(wanted)) {
            return Ok(name);
        }
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        if digits.len() >= MIN_ID_LEN && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            let fitting = self.images.iter().rev();
            let fitting = fitting.filter(|(_, target)| target.digest.hex().starts_with(digits));
            let by_digest: BTreeMap<Digest, _> =
                fitting.map(|(name, target)| (target.digest, name)).collect();
            match by_digest.len() {
                0 => {}
                1 => return Ok(by_digest.into_values().next().expect("there is one")),
                _ => {
                    return Err(StoreError::malformed(
                        format!("image id {text}"),
                        "it fits several images",
                    ));
                }
            }
        }
        match wanted {
            Ok(wanted) => Err(self.no_such_image(&wanted)),
            Err(error) => Err(StoreError::malformed("image name", error.to_string())),
        }
    }

    /// The error that says so, with the names that were perhaps meant.
    pub(crate) fn no_such_image(&self, wanted: &ImageReference) -> StoreError {
        let wanted = wanted.to_string();
        let names: Vec<String> = self.images.keys().map(ToString::to_string).collect();
        let mut near: Vec<_> = names
            .iter()
            .map(|name| (strsim::damerau_levenshtein(name, &wanted), name))
            .filter(|(distance, name)| *distance <= wanted.len().max(name.len()) / 3)
            .collect();
        near.sort();
        let near = near.into_iter().take(3).map(|(_, name)| name.clone()).collect();
        StoreError::NoSuchImage {
            wanted,
            near,
            known: names.into_iter().take(LISTED).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn references(names: &[&str]) -> References {
        let target = |name: &str| Descriptor {
            media_type: String::new(),
            digest: Digest::of(name.rsplit('/').next().unwrap().as_bytes()),
            size: 0,
            platform: None,
            annotations: BTreeMap::new(),
        };
        References {
            images: names
                .iter()
                .map(|name| (name.parse().unwrap(), target(name)))
                .collect(),
        }
    }

    #[test]
    fn an_image_is_found_by_its_names_and_its_digest() {
        let references = references(&[
            "docker.io/library/nginx:1",
            "kubernetes:v1.19.8",
            "sea.hub:5000/kubernetes:v1.19.8",
        ]);
        for (text, name) in [
            ("nginx:1", "docker.io/library/nginx:1"),
            ("kubernetes:v1.19.8", "kubernetes:v1.19.8"),
            (&Digest::of(b"nginx:1").short(), "docker.io/library/nginx:1"),
            (
                &format!("other@{}", Digest::of(b"kubernetes:v1.19.8")),
                "kubernetes:v1.19.8",
            ),
            (
                &Digest::of(b"kubernetes:v1.19.8").to_string(),
                "kubernetes:v1.19.8",
            ),
        ] {
            assert_eq!(references.find_text(text).unwrap().to_string(), name, "{text}");
        }
    }

    #[test]
    fn a_name_that_is_not_there_leads_to_what_is() {
        let references = references(&["kubernetes:v1.19.8"]);
        let error = references.find_text("kubernets:v1.19.8").unwrap_err().to_string();
        assert!(error.ends_with("did you mean kubernetes:v1.19.8?"), "{error}");
        let error = references.find_text("nginx").unwrap_err().to_string();
        assert!(error.ends_with("it holds kubernetes:v1.19.8"), "{error}");
        let error = References::default().find_text("nginx").unwrap_err().to_string();
        assert!(error.contains("the store is empty"), "{error}");
        let error = references.find_text("Kubernetes").unwrap_err().to_string();
        assert!(error.contains("lower case"), "{error}");
    }
}
