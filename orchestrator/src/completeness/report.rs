//! This module owns [`Report`]: which of the container images that are named are not inside, and which that are inside are damaged.

use std::collections::BTreeSet;

use gantry_model::ImageReference;
use gantry_store::{LayerError, Platform};

use super::references::{Doubt, Place, References};
use super::registry_contents::{Flaw, FoundIn, RegistryContents, places_of};

/// A container image that is named and not inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Its name.
    pub image: ImageReference,
    /// Where it is named.
    pub places: Vec<Place>,
    /// Something inside that it may have been meant to be.
    pub similar: Option<String>,
}

/// What the comparison found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// How many different images are named.
    pub named: usize,
    /// How many names with a tag `registry/` has.
    pub inside: usize,
    /// What is named and not inside.
    pub missing: Vec<Missing>,
    /// What is inside and could not be served.
    pub flaws: Vec<Flaw>,
    /// What could not be told.
    pub doubts: Vec<Doubt>,
}

impl Report {
    /// Compares what is named with what is there, for hosts of `platform`.
    ///
    /// # Errors
    /// When a layer of the ClusterImage is damaged.
    pub fn of(
        references: &References,
        contents: &RegistryContents<'_>,
        platform: &Platform,
    ) -> Result<Self, LayerError> {
        let mut report = Self {
            named: references.len(),
            doubts: references.doubts().to_vec(),
            ..Self::default()
        };
        let mut named = BTreeSet::new();
        for (image, places) in references.iter() {
            match contents.find(image) {
                None => report.missing.push(Missing {
                    image: image.clone(),
                    places: places.to_vec(),
                    similar: similar(image, contents),
                }),
                Some(FoundIn {
                    repository,
                    digest,
                    doubt,
                }) => {
                    report.doubts.extend(doubt.map(|reason| Doubt {
                        place: places[0].clone(),
                        reason,
                    }));
                    // What has a tag is looked at below.
                    if image.digest().is_some()
                        && let Some(reason) = contents.flaw(&repository, &digest, platform)?
                    {
                        report.flaws.push(Flaw {
                            image: format!("{repository}@{digest}"),
                            reason,
                            named: true,
                        });
                    }
                    named.insert((repository, digest));
                }
            }
        }
        for (image, repository, digest) in contents.tagged() {
            report.inside += 1;
            if let Some(reason) = contents.flaw(repository, &digest, platform)? {
                let named = named.contains(&(repository.to_owned(), digest));
                report.flaws.push(Flaw { image, reason, named });
            }
        }
        Ok(report)
    }

    /// Whether everything that is named is inside and whole.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.flaws.is_empty()
    }
}

/// Another tag of the same repository, or the same image where hosts would not look for it.
fn similar(image: &ImageReference, contents: &RegistryContents<'_>) -> Option<String> {
    let wanted = places_of(image);
    let name = image.path().rsplit('/').next()?;
    let tagged = || {
        contents
            .tagged()
            .map(|(tagged, repository, _)| (tagged, repository.to_owned()))
    };
    let same_repository = tagged()
        .find(|(_, repository)| *repository == wanted.shared || wanted.own.as_ref() == Some(repository));
    let same_image = || {
        tagged().find(|(tagged, repository)| {
            let last = repository.rsplit('/').next();
            last == Some(name)
                && image
                    .tag()
                    .is_some_and(|tag| tagged.ends_with(&format!(":{tag}")))
        })
    };
    same_image().or(same_repository).map(|(tagged, _)| tagged)
}
