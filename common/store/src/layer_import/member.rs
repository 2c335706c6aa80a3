//! This module owns [`Members`]: what a tar stream holds, one member at a time. Only a parser: nothing touches the disk.
//!
//! Where readers of tar understand a stream differently, it is refused rather than guessed: two programs must not see
//! two trees in one layer.

use std::io::{self, Read};
use std::ops::Range;

use super::pax::{self, Pax};
use crate::LayerError;
use crate::layer_writer::chunked_blob::ChunkedBlob;
use crate::layer_writer::{refused, tar_header};
use crate::limits::{MAX_FILE_LEN, MAX_TAR_HEADER_LEN};
use crate::toc::{Mtime, names};

const BLOCK_LEN: usize = tar_header::BLOCK_LEN as usize;
/// PAX keys of extended attributes, as star, GNU tar, Go and docker write them.
const XATTR_PREFIX: &str = "SCHILY.xattr.";
const SPARSE_PREFIX: &str = "GNU.sparse.";

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    HardLink,
    Symlink,
    Directory,
}

/// One member: its headers, read together.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// Target of a link, empty for others.
    pub(super) link: String,
    /// Bytes of content that follow.
    pub(super) size: u64,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Mtime,
    pub(super) xattrs: Vec<(String, Vec<u8>)>,
}

/// The members of a tar stream, in order.
pub(super) struct Members<'r> {
    tar: &'r mut dyn Read,
}

/// Headers that say more about the member after them.
#[derive(Default)]
struct Extra {
    pax: Option<Vec<u8>>,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl<'r> Members<'r> {
    pub(super) fn new(tar: &'r mut dyn Read) -> Self {
        Self { tar }
    }

    /// The next member; none at the end of the stream. Everything read goes into `blob`. The caller reads the content
    /// and then the padding.
    pub(super) fn next(&mut self, blob: &mut ChunkedBlob) -> Result<Option<Member>, LayerError> {
        let mut extra = Extra::default();
        loop {
            let mut block = [0; BLOCK_LEN];
            let len = fill(self.tar, &mut block).map_err(|error| unreadable(&error))?;
            blob.headers(&block[..len])?;
            let last = len == 0 || block.iter().all(|byte| *byte == 0);
            if last && (extra.pax.is_some() || extra.name.is_some() || extra.link.is_some()) {
                return Err(tar("it ends after a header that announces another member"));
            }
            if last {
                return self.end(blob).map(|()| None);
            }
            if len < BLOCK_LEN {
                return Err(tar("it ends inside a header"));
            }
            let header = tar::Header::from_byte_slice(&block);
            if !sum_is_right(&block, header) {
                return Err(tar("a header's checksum is wrong"));
            }
            match header.as_bytes()[156] {
                b'x' => store_once(&mut extra.pax, self.long(blob, header)?)?,
                b'L' => store_once(&mut extra.name, trimmed(self.long(blob, header)?))?,
                b'K' => store_once(&mut extra.link, trimmed(self.long(blob, header)?))?,
                // Says something about the whole stream, such as the commit it was made from. Docker ignores it too.
                b'g' => drop(self.long(blob, header)?),
                _ => return member(header, &extra).map(Some),
            }
        }
    }

    /// Where the content of the member is read from.
    pub(super) fn reader(&mut self) -> &mut dyn Read {
        self.tar
    }

    /// Passes on what stands between `size` bytes of content and the next header.
    pub(super) fn padding(&mut self, blob: &mut ChunkedBlob, size: u64) -> Result<(), LayerError> {
        let mut padding = [0; BLOCK_LEN];
        let padding = &mut padding[..tar_header::padding(size)];
        // Some writers leave out the padding at the very end.
        let len = fill(self.tar, padding).map_err(|error| unreadable(&error))?;
        blob.headers(&padding[..len])
    }

    /// The content of a header that is text.
    fn long(&mut self, blob: &mut ChunkedBlob, header: &tar::Header) -> Result<Vec<u8>, LayerError> {
        let size = header
            .entry_size()
            .map_err(|_| tar("a header's size is no number"))?;
        if size > MAX_TAR_HEADER_LEN {
            return Err(tar(format!(
                "a header has {size} bytes, at most {MAX_TAR_HEADER_LEN} are allowed"
            )));
        }
        let mut text = vec![0; size as usize];
        if fill(self.tar, &mut text).map_err(|error| unreadable(&error))? < text.len() {
            return Err(tar("it ends inside a long header"));
        }
        blob.headers(&text)?;
        self.padding(blob, size)?;
        Ok(text)
    }

    /// Passes on the zeros at the end.
    fn end(&mut self, blob: &mut ChunkedBlob) -> Result<(), LayerError> {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let len = fill(self.tar, &mut buffer).map_err(|error| unreadable(&error))?;
            if buffer[..len].iter().any(|byte| *byte != 0) {
                return Err(tar("there is something behind its end"));
            }
            blob.headers(&buffer[..len])?;
            if len < buffer.len() {
                return Ok(());
            }
        }
    }
}

fn member(header: &tar::Header, extra: &Extra) -> Result<Member, LayerError> {
    let pax = match &extra.pax {
        Some(bytes) => Pax::parse(bytes).ok_or_else(|| tar("a PAX header is malformed"))?,
        None => Pax::default(),
    };
    let name = pax.get("path").map(<[u8]>::to_vec).or_else(|| extra.name.clone());
    let name = name.unwrap_or_else(|| header.path_bytes().into_owned());
    let shown = String::from_utf8_lossy(&name).into_owned();
    let name = String::from_utf8(name).map_err(|_| {
        refused(
            &shown,
            "its name is not UTF-8, which tables of contents cannot hold; rename it",
        )
    })?;
    let wrong = |what: &str| refused(&name, format!("its {what} is no number within bounds"));
    let kind = kind(header, &name)?;
    if pax.with_prefix(SPARSE_PREFIX).next().is_some() {
        return Err(refused(&name, SPARSE));
    }
    let link = match kind {
        Kind::HardLink | Kind::Symlink => {
            let link = pax
                .get("linkpath")
                .map(<[u8]>::to_vec)
                .or_else(|| extra.link.clone());
            let link = link
                .or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned))
                .unwrap_or_default();
            String::from_utf8(link).map_err(|_| refused(&name, "its target is not UTF-8"))?
        }
        Kind::File | Kind::Directory => String::new(),
    };
    let in_header = number(header, 124..136, || header.entry_size()).ok_or_else(|| wrong("size"));
    let size = pax
        .get("size")
        .map_or(in_header, |size| pax::number(size).ok_or_else(|| wrong("size")))?;
    if size > MAX_FILE_LEN {
        return Err(wrong("size"));
    }
    if kind != Kind::File && size != 0 {
        return Err(refused(
            &name,
            "it is no regular file and has content, which programs understand differently",
        ));
    }
    let id = |key: &str, in_header: Option<u64>| {
        let id = pax
            .get(key)
            .map_or_else(|| in_header.and_then(|id| u32::try_from(id).ok()), pax::number);
        id.ok_or_else(|| wrong(key))
    };
    let in_header =
        number(header, 136..148, || header.mtime()).and_then(|seconds| i64::try_from(seconds).ok());
    let in_header = in_header.map(|seconds| Mtime {
        seconds,
        nanoseconds: 0,
    });
    let mtime = pax
        .get("mtime")
        .map_or(in_header, pax::time)
        .ok_or_else(|| wrong("mtime"))?;
    let mut xattrs: Vec<_> = pax
        .with_prefix(XATTR_PREFIX)
        .filter(|(name, _)| names::carries_xattr(name))
        .map(|(name, value)| (name.to_owned(), value.to_vec()))
        .collect();
    xattrs.sort_unstable();
    xattrs.dedup_by(|later, first| later.0 == first.0);
    names::check_xattrs(&xattrs).map_err(|reason| refused(&name, reason))?;
    Ok(Member {
        kind,
        link,
        size,
        mode: number(header, 100..108, || header.mode().map(u64::from)).ok_or_else(|| wrong("mode"))? as u32
            & 0o7777,
        uid: id("uid", number(header, 108..116, || header.uid()))?,
        gid: id("gid", number(header, 116..124, || header.gid()))?,
        mtime,
        xattrs,
        name,
    })
}

/// A number of the header. A field of NULs and blanks is 0 to Go and GNU tar.
fn number(header: &tar::Header, field: Range<usize>, parse: impl FnOnce() -> io::Result<u64>) -> Option<u64> {
    let blank = header.as_bytes()[field]
        .iter()
        .all(|byte| matches!(byte, b'\0' | b' '));
    if blank { Some(0) } else { parse().ok() }
}

const SPARSE: &str =
    "it is stored as a sparse member, which tools read differently; make the layer again without --sparse";

fn kind(header: &tar::Header, name: &str) -> Result<Kind, LayerError> {
    match header.as_bytes()[156] {
        // Before POSIX, folders were told by their name.
        b'\0' if name.ends_with('/') => Ok(Kind::Directory),
        b'0' | b'7' if name.ends_with('/') => {
            Err(refused(name, "it is a regular file with the name of a folder"))
        }
        b'\0' | b'0' | b'7' => Ok(Kind::File),
        b'1' => Ok(Kind::HardLink),
        b'2' => Ok(Kind::Symlink),
        b'3' | b'4' => Err(refused(
            name,
            "it is a device node; layers may not bring devices to a host",
        )),
        b'5' => Ok(Kind::Directory),
        b'6' => Err(refused(
            name,
            "it is a FIFO; layers carry files, folders and links only",
        )),
        b'S' => Err(refused(name, SPARSE)),
        other => Err(refused(
            name,
            format!("its type {:?} is none that layers have", char::from(other)),
        )),
    }
}

fn sum_is_right(block: &[u8; BLOCK_LEN], header: &tar::Header) -> bool {
    let sum = (0_u32..)
        .zip(block)
        .map(|(at, byte)| if (148..156).contains(&at) { b' ' } else { *byte });
    header
        .cksum()
        .is_ok_and(|stated| stated == sum.map(u32::from).sum::<u32>())
}

/// Two headers of one kind before one member: programs disagree which one counts.
fn store_once(place: &mut Option<Vec<u8>>, text: Vec<u8>) -> Result<(), LayerError> {
    match place.replace(text) {
        None => Ok(()),
        Some(_) => Err(tar("a member has two headers of the same kind")),
    }
}

/// GNU's long names end with a NUL.
fn trimmed(mut text: Vec<u8>) -> Vec<u8> {
    text.truncate(text.iter().position(|byte| *byte == 0).unwrap_or(text.len()));
    text
}

/// Reads until `buffer` is full or the stream ends.
fn fill(reader: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < buffer.len() {
        match reader.read(&mut buffer[len..]) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

fn tar(reason: impl Into<String>) -> LayerError {
    LayerError::Tar {
        reason: reason.into(),
    }
}

fn unreadable(error: &io::Error) -> LayerError {
    tar(error.to_string())
}

/// The content of `name` cannot be read.
pub(super) fn damaged(name: &str, error: &io::Error) -> LayerError {
    let name = names::readable(name);
    match error.kind() {
        io::ErrorKind::UnexpectedEof => tar(format!("it ends inside {name:?}")),
        _ => tar(format!("inside {name:?}: {error}")),
    }
}
