//! This module owns [`Pages`]: the pages of a bbolt database (bbolt's `page.go`, `bucket.go`, `db.go`), walked from the
//! root of a bucket to its leaves.
//!
//! Two meta pages come first; the newer one that is whole says where the root bucket is. A bucket is a B+tree: branch
//! pages name pages, leaf pages hold keys and values. Numbers are written as the machine that made the file writes them;
//! etcd runs on machines that begin with the low byte.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::{DatabaseError, MAX_VALUE_LEN, Place, damaged};

/// What a meta page begins with.
const MAGIC: u32 = 0xED0C_DAED;
/// The version of the format.
const VERSION: u32 = 2;
/// Sizes that pages have.
const PAGE_SIZES: std::ops::RangeInclusive<u32> = 512..=65_536;
/// Length of a page's header, and of each of its elements, in bytes.
const HEADER_LEN: usize = 16;
/// Length of what a meta page says, without its checksum, in bytes.
const META_LEN: usize = 56;
/// Length of what stands before the pages of a bucket in its parent, in bytes.
const BUCKET_LEN: usize = 16;
/// Longest page, in bytes: of one key and its value.
const MAX_PAGE_LEN: u64 = MAX_VALUE_LEN + (1 << 20);
/// Most levels of a tree; with pages of 4 KiB, 16 GiB need five.
const MAX_DEPTH: usize = 32;
/// A page that names pages.
const BRANCH: u16 = 0x01;
/// A page that holds keys.
const LEAF: u16 = 0x02;
/// The value of a key is a bucket.
const IS_BUCKET: u32 = 0x01;

/// The pages of a file.
#[derive(Debug)]
pub(super) struct Pages {
    file: File,
    len: u64,
    page_size: u64,
    /// Where the root bucket's tree begins.
    root: u64,
}

/// A page in memory.
struct Page {
    offset: u64,
    bytes: Vec<u8>,
}

/// What an element of a leaf says.
struct Leaf<'a> {
    is_bucket: bool,
    key: &'a [u8],
    value: Place,
}

impl Pages {
    pub(super) fn open(path: &Path) -> Result<Self, DatabaseError> {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        let mut pages = Self {
            file,
            len,
            page_size: 0,
            root: 0,
        };
        let first = pages.meta(0).ok();
        // The second meta page is one page further. Where the first is damaged, its size is not known.
        let sizes = first
            .as_ref()
            .map_or_else(|| vec![4096, 8192, 16_384, 65_536], |meta| vec![meta.page_size]);
        let second = sizes.iter().find_map(|&size| pages.meta(size).ok());
        let newest = first
            .into_iter()
            .chain(second)
            .max_by_key(|meta| meta.transaction);
        let Some(meta) = newest else {
            return damaged("it does not begin as a database does");
        };
        (pages.page_size, pages.root) = (meta.page_size, meta.root);
        Ok(pages)
    }

    /// Calls `visit` with every key of the bucket `name` and the place of its value, in the order of the keys.
    pub(super) fn walk(
        &self,
        name: &[u8],
        mut visit: impl FnMut(&[u8], Place) -> Result<(), DatabaseError>,
    ) -> Result<(), DatabaseError> {
        let mut bucket = None;
        self.tree(self.root, &mut |leaf: Leaf<'_>| {
            if leaf.is_bucket && leaf.key == name {
                bucket = Some(leaf.value);
            }
            Ok(())
        })?;
        let Some(place) = bucket else {
            return damaged(format!("it has no bucket {:?}", String::from_utf8_lossy(name)));
        };
        let value = self.read(place)?;
        let mut before: Option<Vec<u8>> = None;
        let mut visit = |leaf: Leaf<'_>| {
            if leaf.is_bucket {
                return damaged("a bucket where a change should be");
            }
            if before.as_deref().is_some_and(|before| before >= leaf.key) {
                return damaged("its keys are not in order");
            }
            before = Some(leaf.key.to_owned());
            visit(leaf.key, leaf.value)
        };
        match number(&value, 0)? {
            // A small bucket has no pages of its own: one stands right here.
            0 => {
                let page = Page {
                    offset: place.offset + BUCKET_LEN as u64,
                    bytes: value.get(BUCKET_LEN..).unwrap_or_default().to_owned(),
                };
                let (flags, count) = page.header()?;
                if flags & LEAF == 0 {
                    return damaged("a small bucket without keys");
                }
                (0..count).try_for_each(|index| visit(page.leaf(index)?))
            }
            root => self.tree(root, &mut visit),
        }
    }

    /// The bytes at `place`.
    pub(super) fn read(&self, place: Place) -> Result<Vec<u8>, DatabaseError> {
        if place.len > MAX_PAGE_LEN {
            return Err(DatabaseError::TooMuch(format!(
                "{MAX_VALUE_LEN} bytes in one key"
            )));
        }
        let end = place.offset.checked_add(place.len);
        if end.is_none_or(|end| end > self.len) {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let mut bytes = vec![0; usize::try_from(place.len).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut bytes, place.offset)?;
        Ok(bytes)
    }

    /// Calls `visit` with every element of every leaf of the tree at page `root`.
    fn tree(
        &self,
        root: u64,
        visit: &mut impl FnMut(Leaf<'_>) -> Result<(), DatabaseError>,
    ) -> Result<(), DatabaseError> {
        // A page that is met more often than there are pages leads in a circle.
        let mut room = self.len / self.page_size + 1;
        // Pages to visit, the next one last, each with its level.
        let mut waiting = vec![(root, 0)];
        while let Some((id, depth)) = waiting.pop() {
            if room == 0 || depth > MAX_DEPTH {
                return damaged("its pages lead in a circle");
            }
            room -= 1;
            let page = self.page(id)?;
            let (flags, count) = page.header()?;
            if flags & LEAF != 0 {
                (0..count).try_for_each(|index| visit(page.leaf(index)?))?;
            } else if flags & BRANCH != 0 {
                for index in (0..count).rev() {
                    waiting.push((number(&page.bytes, HEADER_LEN * (index + 1) + 8)?, depth + 1));
                }
            } else {
                return damaged(format!("page {id} is neither branch nor leaf"));
            }
        }
        Ok(())
    }

    fn page(&self, id: u64) -> Result<Page, DatabaseError> {
        let Some(offset) = id.checked_mul(self.page_size) else {
            return damaged(format!("a page {id}"));
        };
        let header = self.read(Place {
            offset,
            len: HEADER_LEN as u64,
        })?;
        if number::<u64>(&header, 0)? != id {
            return damaged(format!("page {id} is another one"));
        }
        let more: u32 = number(&header, 12)?;
        let len = (u64::from(more) + 1) * self.page_size;
        Ok(Page {
            offset,
            bytes: self.read(Place { offset, len })?,
        })
    }

    fn meta(&self, offset: u64) -> Result<Meta, DatabaseError> {
        let len = (HEADER_LEN + META_LEN + 8) as u64;
        let page = self.read(Place { offset, len })?;
        let meta = &page[HEADER_LEN..];
        let page_size = number(meta, 8)?;
        if number::<u32>(meta, 0)? != MAGIC
            || number::<u32>(meta, 4)? != VERSION
            || !PAGE_SIZES.contains(&page_size)
            || fnv1a(&meta[..META_LEN]) != number::<u64>(meta, META_LEN)?
        {
            return damaged("a meta page");
        }
        Ok(Meta {
            page_size: page_size.into(),
            root: number(meta, 16)?,
            transaction: number(meta, 48)?,
        })
    }
}

/// What a meta page says.
struct Meta {
    page_size: u64,
    root: u64,
    transaction: u64,
}

impl Page {
    /// Flags, and how many elements it has.
    fn header(&self) -> Result<(u16, usize), DatabaseError> {
        Ok((number(&self.bytes, 8)?, number::<u16>(&self.bytes, 10)?.into()))
    }

    fn leaf(&self, index: usize) -> Result<Leaf<'_>, DatabaseError> {
        let element = HEADER_LEN * (index + 1);
        let part = |at: usize| number::<u32>(&self.bytes, element + at).map(|number| number as usize);
        let (flags, position, key_len, value_len) = (part(0)?, part(4)?, part(8)?, part(12)?);
        let key = element.saturating_add(position);
        let value = key.saturating_add(key_len);
        let end = value.saturating_add(value_len);
        match self.bytes.get(key..value) {
            Some(name) if end <= self.bytes.len() => Ok(Leaf {
                is_bucket: flags & IS_BUCKET as usize != 0,
                key: name,
                value: Place {
                    offset: self.offset + value as u64,
                    len: value_len as u64,
                },
            }),
            _ => damaged("an element that is not within its page"),
        }
    }
}

/// A number as bbolt writes it.
trait Number: Sized {
    fn of(bytes: &[u8]) -> Option<Self>;
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl Number for $number {
            fn of(bytes: &[u8]) -> Option<Self> {
                bytes.first_chunk().map(|bytes| Self::from_le_bytes(*bytes))
            }
        }
    )*};
}
numbers!(u16, u32, u64);

fn number<N: Number>(bytes: &[u8], at: usize) -> Result<N, DatabaseError> {
    let number = bytes.get(at..).and_then(N::of);
    number.map_or_else(|| damaged("a page that is cut"), Ok)
}

/// The checksum of meta pages (FNV-1a, 64 bits).
fn fnv1a(bytes: &[u8]) -> u64 {
    let mix = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, mix)
}
