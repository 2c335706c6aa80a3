//! Bytes from elsewhere → a sound [`Toc`]. Entries are checked as they are read, so a table that lies costs no more
//! memory than one that does not.

use std::borrow::Cow;
use std::fmt;

use gantry_model::{Digest, TocLocation};
use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::builder::Builder;
use super::document::{EntryDocument, VERSION};
use super::{Toc, TocError};
use crate::limits::MAX_TOC_LEN;

/// What is wrong, and with which entry if with one.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) entry: Option<String>,
    pub(super) reason: Cow<'static, str>,
}

impl Fault {
    pub(super) fn table(reason: impl Into<Cow<'static, str>>) -> Self {
        Self {
            entry: None,
            reason: reason.into(),
        }
    }

    pub(super) fn entry(name: &str, reason: impl Into<Cow<'static, str>>) -> Self {
        Self {
            entry: Some(super::names::readable(name)),
            reason: reason.into(),
        }
    }
}

pub(super) fn parse(compressed: &[u8], location: &TocLocation) -> Result<Toc, TocError> {
    let found = Digest::of(compressed);
    if found != location.digest {
        return Err(TocError::WrongDigest {
            expected: location.digest,
            found,
        });
    }
    check(compressed, location).map_err(|fault| {
        let reason = fault.reason.into_owned();
        match fault.entry {
            Some(entry) => TocError::Entry {
                toc: location.digest,
                entry,
                reason,
            },
            None => TocError::Malformed {
                toc: location.digest,
                reason,
            },
        }
    })
}

fn check(compressed: &[u8], location: &TocLocation) -> Result<Toc, Fault> {
    let json = decompress(compressed, location)?;
    let mut builder = Builder::new(location.offset);
    let mut deserializer = serde_json::Deserializer::from_slice(&json);
    let mut fault = None;
    let read = TableSeed {
        builder: &mut builder,
        fault: &mut fault,
    }
    .deserialize(&mut deserializer)
    .and_then(|()| deserializer.end());
    // A fault of an entry stops the reader too; it is the better story.
    if let Some(fault) = fault {
        return Err(fault);
    }
    read.map_err(|error| Fault::table(format!("is not the JSON it should be: {error}")))?;
    drop(json);
    builder.finish()
}

fn decompress(compressed: &[u8], location: &TocLocation) -> Result<Vec<u8>, Fault> {
    let len = compressed.len() as u64;
    if len != location.compressed_len {
        return Err(Fault::table(format!(
            "has {len} compressed bytes, {} were announced",
            location.compressed_len
        )));
    }
    if len > MAX_TOC_LEN || location.len > MAX_TOC_LEN {
        let larger = len.max(location.len);
        return Err(Fault::table(format!(
            "is announced with {larger} bytes, at most {MAX_TOC_LEN} are allowed"
        )));
    }
    let room = usize::try_from(location.len).map_err(|_| Fault::table("does not fit into memory"))?;
    let mut json = Vec::with_capacity(room);
    zstd::bulk::Decompressor::new()
        .and_then(|mut decompressor| decompressor.decompress_to_buffer(compressed, &mut json))
        .map_err(|error| {
            Fault::table(format!(
                "cannot be decompressed within the {room} bytes it announces: {error}"
            ))
        })?;
    if json.len() != room {
        return Err(Fault::table(format!(
            "decompresses to {} bytes, {room} were announced",
            json.len()
        )));
    }
    Ok(json)
}

/// Reads `{"version":1,"entries":[…]}`.
struct TableSeed<'b> {
    builder: &'b mut Builder,
    fault: &'b mut Option<Fault>,
}

impl<'de> DeserializeSeed<'de> for TableSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for TableSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table of contents")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let (mut version, mut entries) = (None, false);
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            match &*key {
                "version" if version.is_none() => version = Some(map.next_value::<u32>()?),
                "entries" if !entries => {
                    entries = true;
                    map.next_value_seed(EntriesSeed {
                        builder: &mut *self.builder,
                        fault: &mut *self.fault,
                    })?;
                }
                "version" | "entries" => return Err(A::Error::custom(format!("{key} is there twice"))),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        if version != Some(VERSION) {
            let found = version.map_or_else(|| "none".to_owned(), |version| version.to_string());
            *self.fault = Some(Fault::table(format!(
                "has version {found}, only {VERSION} is known"
            )));
        }
        if entries {
            Ok(())
        } else {
            Err(A::Error::missing_field("entries"))
        }
    }
}

struct EntriesSeed<'b> {
    builder: &'b mut Builder,
    fault: &'b mut Option<Fault>,
}

impl<'de> DeserializeSeed<'de> for EntriesSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for EntriesSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of entries")
    }

    // Go writes an empty list that was never made as null.
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(Borrowed(entry)) = seq.next_element::<Borrowed<'de>>()? {
            if let Err(fault) = self.builder.add(&entry) {
                *self.fault = Some(fault);
                return Err(A::Error::custom("an entry is refused"));
            }
        }
        Ok(())
    }
}

/// Borrows text from the JSON where it has no escapes.
#[derive(Deserialize)]
struct Borrowed<'a>(#[serde(borrow)] EntryDocument<'a>);
