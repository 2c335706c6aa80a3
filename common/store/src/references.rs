//! This module owns [`References`]: the content of `images.json`, and how a name that people give is found in it.

use std::collections::BTreeMap;

use gantry_model::ImageReference;
use serde::{Deserialize, Serialize};

use crate::{Descriptor, StoreError};

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
            known: names,
        }
    }
}

#[cfg(test)]
mod tests {
    use gantry_model::Digest;

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
            (
                &format!("other@{}", Digest::of(b"kubernetes:v1.19.8")),
                "kubernetes:v1.19.8",
            ),
        ] {
            let found = references.find(&text.parse().unwrap()).unwrap().0;
            assert_eq!(found.to_string(), name, "{text}");
        }
    }

    #[test]
    fn a_name_that_is_not_there_leads_to_what_is() {
        let error = |references: &References, text: &str| {
            references.no_such_image(&text.parse().unwrap()).to_string()
        };
        let references = references(&["kubernetes:v1.19.8"]);
        let said = error(&references, "kubernets:v1.19.8");
        assert!(said.ends_with("did you mean kubernetes:v1.19.8?"), "{said}");
        let said = error(&references, "nginx");
        assert!(said.ends_with("it holds kubernetes:v1.19.8"), "{said}");
        let many: Vec<String> = (0..11).map(|number| format!("kubernetes:v{number:02}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let said = error(&self::references(&many), "nginx");
        assert!(said.ends_with("kubernetes:v07 and 3 more"), "{said}");
        let said = error(&References::default(), "nginx");
        assert!(said.contains("the store is empty"), "{said}");
    }
}
