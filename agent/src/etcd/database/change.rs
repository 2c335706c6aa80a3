//! This module owns [`Change`]: one change of one key, as etcd writes it: a `KeyValue` of its `mvccpb` (protocol buffers),
//! under the revision that made it.

use std::ops::Range;

use super::{DatabaseError, damaged};

/// Length of a revision, in bytes: the transaction's, `_`, and which of its changes.
const REVISION_LEN: usize = 17;
/// What stands behind the revision of a change by which a key goes.
const GONE: u8 = b't';
/// Number of the field with the key, the value and the lease.
const KEY: u64 = 1;
const VALUE: u64 = 5;
const LEASE: u64 = 6;

/// What became of a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It was removed.
    Gone {
        /// The key.
        key: Vec<u8>,
    },
    /// It was given a value.
    Put {
        /// The key.
        key: Vec<u8>,
        /// Where in the change the value stands.
        value: Range<usize>,
        /// Whether it ends with a lease.
        leased: bool,
    },
}

impl Change {
    /// The change under `revision`.
    pub(super) fn read(revision: &[u8], bytes: &[u8]) -> Result<Self, DatabaseError> {
        let (mut key, mut value, mut leased) = (0..0, 0..0, false);
        let mut fields = Fields { bytes, at: 0 };
        while fields.at < bytes.len() {
            match fields.next()? {
                (KEY, Field::Bytes(range)) => key = range,
                (VALUE, Field::Bytes(range)) => value = range,
                (LEASE, Field::Number(lease)) => leased = lease != 0,
                _ => {}
            }
        }
        let key = bytes[key].to_owned();
        if key.is_empty() {
            return damaged("a change of no key");
        }
        match revision.get(REVISION_LEN..) {
            Some([]) => Ok(Self::Put { key, value, leased }),
            Some([GONE]) => Ok(Self::Gone { key }),
            _ => damaged("a revision of odd length"),
        }
    }
}

enum Field {
    Number(u64),
    Bytes(Range<usize>),
}

/// The fields of a message (protobuf.dev, "Encoding").
struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Fields<'_> {
    /// The number of the next field, and what it holds.
    fn next(&mut self) -> Result<(u64, Field), DatabaseError> {
        let tag = self.number()?;
        let field = match tag & 7 {
            0 => Field::Number(self.number()?),
            1 => Field::Bytes(self.skip(8)?),
            2 => {
                let len = self.number()?;
                Field::Bytes(self.skip(len)?)
            }
            5 => Field::Bytes(self.skip(4)?),
            kind => return damaged(format!("a field of kind {kind}")),
        };
        Ok((tag >> 3, field))
    }

    fn number(&mut self) -> Result<u64, DatabaseError> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let Some(&byte) = self.bytes.get(self.at) else {
                return damaged("a change that is cut");
            };
            self.at += 1;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        damaged("a number that does not end")
    }

    fn skip(&mut self, len: u64) -> Result<Range<usize>, DatabaseError> {
        let end = usize::try_from(len).ok().and_then(|len| self.at.checked_add(len));
        match end.filter(|end| *end <= self.bytes.len()) {
            Some(end) => Ok(std::mem::replace(&mut self.at, end)..end),
            None => damaged("a field that is longer than its change"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REVISION: [u8; 17] = *b"\0\0\0\0\0\0\0\x02_\0\0\0\0\0\0\0\0";

    #[test]
    fn a_change_names_its_key_and_where_its_value_is() {
        // key "k", created in 2, changed in 2, version 1, value "word", lease 7.
        let bytes = b"\x0a\x01k\x10\x02\x18\x02\x20\x01\x2a\x04word\x30\x07";
        let Change::Put { key, value, leased } = Change::read(&REVISION, bytes).unwrap() else {
            panic!("a value is given");
        };
        assert_eq!(
            (key.as_slice(), &bytes[value], leased),
            (&b"k"[..], &b"word"[..], true)
        );
        let gone = [&REVISION[..], b"t"].concat();
        assert_eq!(
            Change::read(&gone, b"\x0a\x01k").unwrap(),
            Change::Gone { key: b"k".to_vec() }
        );
    }

    #[test]
    fn what_is_cut_or_makes_no_sense_is_damage() {
        for odd in [
            &b""[..],
            b"\x0a\x05k",
            b"\x0a",
            b"\x0b\x01k",
            b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01k",
        ] {
            assert!(Change::read(&REVISION, odd).is_err(), "{odd:?}");
        }
        assert!(Change::read(b"short", b"\x0a\x01k").is_err());
    }
}
