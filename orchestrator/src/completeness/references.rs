//! This module owns [`References`]: which container images are named, and where.

use std::collections::BTreeMap;
use std::fmt;

use gantry_model::ImageReference;

/// Most different container images that one ClusterImage may name: with more, what is scanned is no set of manifests.
const MAX_REFERENCES: usize = 10_000;
/// Most places kept of one name.
const MAX_PLACES: usize = 8;
/// Most doubts kept: who has more looks at the first ones first.
const MAX_DOUBTS: usize = 200;
/// Longest text that a doubt quotes, in characters.
const MAX_QUOTED: usize = 120;

/// Where something is named.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Path in the rootfs, or what else names it.
    pub file: String,
    /// Line from 1, where it is known.
    pub line: Option<usize>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}", self.file),
            None => write!(f, "{}", self.file),
        }
    }
}

/// Something that may name a container image, and cannot be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doubt {
    /// Where.
    pub place: Place,
    /// Why it cannot be told: one line.
    pub reason: String,
}

/// The container images that are named, each with its places, and what could not be told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct References {
    named: BTreeMap<ImageReference, Vec<Place>>,
    doubts: Vec<Doubt>,
}

impl References {
    /// Adds what is named at `place`. Whatever is no name of an image becomes a doubt.
    pub fn add(&mut self, text: &str, place: Place) {
        match text.parse() {
            Ok(image) => self.add_image(image, place),
            Err(error) => {
                let quoted: String = error.to_string().chars().take(MAX_QUOTED).collect();
                self.doubt(place, quoted);
            }
        }
    }

    /// Adds an image that is named at `place`.
    pub fn add_image(&mut self, image: ImageReference, place: Place) {
        if self.named.len() >= MAX_REFERENCES && !self.named.contains_key(&image) {
            let reason = format!(
                "more than {MAX_REFERENCES} container images are named; the others are not looked for"
            );
            if self.doubts.last().is_none_or(|last| last.reason != reason) {
                self.doubt(place, reason);
            }
            return;
        }
        let places = self.named.entry(image).or_default();
        if places.len() < MAX_PLACES && !places.contains(&place) {
            places.push(place);
        }
    }

    /// Adds something that cannot be told.
    pub fn doubt(&mut self, place: Place, reason: impl Into<String>) {
        if self.doubts.len() < MAX_DOUBTS {
            self.doubts.push(Doubt {
                place,
                reason: reason.into(),
            });
        }
    }

    /// What is named, by name, each with where.
    pub fn iter(&self) -> impl Iterator<Item = (&ImageReference, &[Place])> {
        self.named
            .iter()
            .map(|(image, places)| (image, places.as_slice()))
    }

    /// How many different images are named.
    #[must_use]
    pub fn len(&self) -> usize {
        self.named.len()
    }

    /// Whether none is named.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.named.is_empty()
    }

    /// What could not be told, in the order it was met.
    #[must_use]
    pub fn doubts(&self) -> &[Doubt] {
        &self.doubts
    }

    /// Forgets the images for which `drop` holds.
    pub fn without(mut self, drop: impl Fn(&ImageReference) -> bool) -> Self {
        self.named.retain(|image, _| !drop(image));
        self
    }
}
