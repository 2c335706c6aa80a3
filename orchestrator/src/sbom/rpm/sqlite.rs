//! Databases of SQLite, `rpmdb.sqlite` (sqlite.org/fileformat2.html): as much of the form as the rows of one table take. Indexes,
//! free pages and the log of changes are not looked at.

use super::database_file::{DatabaseFile, u16_be, u32_be};
use super::{MAX_HEADER_LEN, Unread, damaged};

const MAGIC: &[u8] = b"SQLite format 3\0";
/// What stands before the first page's own header.
const HEADER_LEN: usize = 100;
/// Smallest part of a page that has to be of use.
const MIN_USABLE: usize = 480;
/// Kinds of pages of tables.
const INTERIOR: u8 = 0x05;
const LEAF: u8 = 0x0d;
/// UTF-8, the encoding of texts that RPM's databases have.
const UTF_8: u32 = 1;
/// The table with the headers, whose second column they are.
const TABLE: &[u8] = b"Packages";
/// Longest row of the table that says which tables there are.
const MAX_SCHEMA_LEN: usize = 1 << 20;

/// Whether it is such a database.
pub(super) fn is_one(file: &DatabaseFile) -> Result<bool, Unread> {
    Ok(file.len() >= HEADER_LEN as u64 && file.read(0, MAGIC.len())? == MAGIC)
}

/// Gives every package's header to `take`.
pub(super) fn each_header(
    file: &DatabaseFile,
    take: &mut impl FnMut(&[u8]) -> Result<(), Unread>,
) -> Result<(), Unread> {
    let database = Database::of(file)?;
    let mut root = None;
    database.each_row(1, MAX_SCHEMA_LEN, &mut |row| {
        let columns = columns(row)?;
        if let [kind, name, _, page, ..] = columns[..]
            && (kind, name) == (b"table", TABLE)
        {
            let number = page
                .iter()
                .fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
            root = u32::try_from(number).ok();
        }
        Ok(())
    })?;
    let Some(root) = root else {
        return Err(Unread::new("it has no table of packages"));
    };
    // A row is its header, and a few bytes that say so.
    database.each_row(root, MAX_HEADER_LEN, &mut |row| match columns(row)?.get(1) {
        Some(header) => take(header),
        None => damaged("a package has no header"),
    })
}

struct Database<'f> {
    file: &'f DatabaseFile,
    page_len: usize,
    /// Bytes of a page without what is kept for extensions.
    usable: usize,
    pages: u64,
}

impl<'f> Database<'f> {
    fn of(file: &'f DatabaseFile) -> Result<Self, Unread> {
        let header = file.read(0, HEADER_LEN)?;
        let page_len = match u16_be(&header, 16)? {
            1 => 65_536,
            len => usize::from(len),
        };
        let usable = page_len.saturating_sub(header[20].into());
        if !page_len.is_power_of_two() || usable < MIN_USABLE {
            return damaged("its pages have no length");
        }
        if u32_be(&header, 56)? != UTF_8 {
            return Err(Unread::new("its texts are not in UTF-8"));
        }
        Ok(Self {
            file,
            page_len,
            usable,
            pages: file.len() / page_len as u64,
        })
    }

    /// Gives every row of the table whose tree begins at `root` to `take`.
    fn each_row(
        &self,
        root: u32,
        max_len: usize,
        take: &mut impl FnMut(&[u8]) -> Result<(), Unread>,
    ) -> Result<(), Unread> {
        let (mut next, mut seen) = (vec![root], 0_u64);
        while let Some(number) = next.pop() {
            // A tree has every page once: more of them is a circle.
            seen += 1;
            if seen > self.pages {
                return damaged("its pages lead in a circle");
            }
            let page = self.page(number)?;
            let at = if number == 1 { HEADER_LEN } else { 0 };
            let cells = usize::from(u16_be(&page, at + 3)?);
            let is_leaf = match page[at] {
                LEAF => true,
                INTERIOR => false,
                _ => return damaged("a page of the table is none"),
            };
            let pointers = at + if is_leaf { 8 } else { 12 };
            if !is_leaf {
                next.push(u32_be(&page, at + 8)?);
            }
            // The last that is pushed is the first that is read.
            for cell in (0..cells).rev() {
                let cell = usize::from(u16_be(&page, pointers + 2 * cell)?);
                if !is_leaf {
                    next.push(u32_be(&page, cell)?);
                }
            }
            if is_leaf {
                for cell in 0..cells {
                    let cell = usize::from(u16_be(&page, pointers + 2 * cell)?);
                    take(&self.payload(&page, cell, max_len)?)?;
                }
            }
            if next.len() as u64 > self.pages {
                return damaged("its pages lead in a circle");
            }
        }
        Ok(())
    }

    /// What a cell of a leaf has: as much as there is room for in the page, the rest in pages of its own.
    fn payload(&self, page: &[u8], cell: usize, max_len: usize) -> Result<Vec<u8>, Unread> {
        let mut at = cell;
        let len = varint(page, &mut at)?;
        varint(page, &mut at)?;
        let Some(len) = usize::try_from(len).ok().filter(|len| *len <= max_len) else {
            return Err(Unread::new(format!(
                "a row of it is longer than {} MiB",
                max_len >> 20
            )));
        };
        let local = self.local_len(len);
        let Some(bytes) = page.get(at..at + local) else {
            return damaged("a row ends early");
        };
        let mut payload = bytes.to_vec();
        let mut number = if local < len { u32_be(page, at + local)? } else { 0 };
        while payload.len() < len {
            let more = self.page(number)?;
            number = u32_be(&more, 0)?;
            let wanted = (len - payload.len()).min(self.usable - 4);
            payload.extend(&more[4..4 + wanted]);
        }
        Ok(payload)
    }

    /// How much of a row of `len` bytes lies in the leaf itself ("Cell Payload Overflow Pages").
    const fn local_len(&self, len: usize) -> usize {
        if len <= self.usable - 35 {
            return len;
        }
        let least = (self.usable - 12) * 32 / 255 - 23;
        let filled = least + (len - least) % (self.usable - 4);
        if filled <= self.usable - 35 { filled } else { least }
    }

    fn page(&self, number: u32) -> Result<Vec<u8>, Unread> {
        match u64::from(number).checked_sub(1) {
            Some(before) => self.file.read(before * self.page_len as u64, self.page_len),
            None => damaged("something lies in no page"),
        }
    }
}

/// The columns of a row, as the bytes that they are ("Record Format").
fn columns(row: &[u8]) -> Result<Vec<&[u8]>, Unread> {
    let mut at = 0;
    let end = varint(row, &mut at)?;
    let Some(end) = usize::try_from(end).ok().filter(|end| *end <= row.len()) else {
        return damaged("a row ends early");
    };
    let (mut columns, mut content) = (Vec::new(), &row[end..]);
    while at < end {
        let len = match varint(row, &mut at)? {
            0 | 8 | 9 => 0,
            len @ 1..=4 => len,
            5 => 6,
            6 | 7 => 8,
            10 | 11 => return damaged("a column has no kind"),
            kind => (kind - 12) / 2,
        };
        let split = usize::try_from(len)
            .ok()
            .and_then(|len| content.split_at_checked(len));
        let Some((column, rest)) = split else {
            return damaged("a row ends early");
        };
        columns.push(column);
        content = rest;
    }
    Ok(columns)
}

/// A number of one to nine bytes ("Variable-Length Integers").
fn varint(bytes: &[u8], at: &mut usize) -> Result<u64, Unread> {
    let mut number = 0_u64;
    for index in 0..9 {
        let Some(byte) = bytes.get(*at) else {
            return damaged("a number lies behind the end");
        };
        *at += 1;
        if index == 8 {
            return Ok(number << 8 | u64::from(*byte));
        }
        number = number << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            break;
        }
    }
    Ok(number)
}
