//! The targets, by what they read.

pub(crate) mod archives;
pub(crate) mod databases;
pub(crate) mod documents;
pub(crate) mod files;
pub(crate) mod messages;
pub(crate) mod registries;
pub(crate) mod rehearsals;
pub(crate) mod signatures;
pub(crate) mod texts;

use std::str;

/// Calls `read` with an input that is text.
fn with_text(data: &[u8], read: impl FnOnce(&str)) {
    if let Ok(text) = str::from_utf8(data) {
        read(text);
    }
}

fn texts(seeds: &[&str]) -> Vec<Vec<u8>> {
    seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect()
}
