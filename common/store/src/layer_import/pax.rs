//! PAX records: `LEN KEY=VALUE\n` again and again (POSIX.1-2001). Values are bytes, newlines and NULs included.

use crate::toc::Mtime;

/// The records of one PAX header.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Pax<'a> {
    records: Vec<(&'a str, &'a [u8])>,
}

impl<'a> Pax<'a> {
    /// Reads all records; none when they do not add up.
    pub(crate) fn parse(mut bytes: &'a [u8]) -> Option<Self> {
        let mut records = Vec::new();
        while !bytes.is_empty() {
            let space = bytes.iter().take(20).position(|byte| *byte == b' ')?;
            let len: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
            let record = bytes.get(space + 1..len)?;
            let record = record.strip_suffix(b"\n")?;
            let equals = record.iter().position(|byte| *byte == b'=')?;
            records.push((
                std::str::from_utf8(&record[..equals]).ok()?,
                &record[equals + 1..],
            ));
            bytes = &bytes[len..];
        }
        Some(Self { records })
    }

    /// The value of `key`: the last one counts.
    pub(crate) fn get(&self, key: &str) -> Option<&'a [u8]> {
        self.records
            .iter()
            .rev()
            .find(|(name, _)| *name == key)
            .map(|(_, value)| *value)
    }

    /// The keys that start with `prefix`, without it, and their values.
    pub(crate) fn with_prefix(&self, prefix: &str) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.records
            .iter()
            .filter_map(move |(key, value)| Some((key.strip_prefix(prefix)?, *value)))
    }
}

/// A decimal number.
pub(crate) fn number<T: std::str::FromStr>(value: &[u8]) -> Option<T> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// A time: seconds, possibly negative, possibly with a fraction.
pub(super) fn time(value: &[u8]) -> Option<Mtime> {
    let text = std::str::from_utf8(value).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    let digits: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
    let nanoseconds: u32 = digits.parse().ok()?;
    if whole.starts_with('-') && nanoseconds > 0 {
        return Some(Mtime {
            seconds: seconds.checked_sub(1)?,
            nanoseconds: 1_000_000_000 - nanoseconds,
        });
    }
    Some(Mtime { seconds, nanoseconds })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_may_hold_newlines_and_nuls() {
        let bytes = b"12 path=a/b\n15 xattr=\n\0=\n\n\n";
        let pax = Pax::parse(bytes).unwrap();
        assert_eq!(pax.get("path"), Some(&b"a/b"[..]));
        assert_eq!(pax.get("xattr"), Some(&b"\n\0=\n\n"[..]));
        assert_eq!(
            pax.with_prefix("xa").collect::<Vec<_>>(),
            [("ttr", &b"\n\0=\n\n"[..])]
        );
    }

    #[test]
    fn records_that_do_not_add_up_are_refused() {
        for bytes in [
            &b"13 path=a/b\n"[..],
            b"x path=a\n",
            b"12 path:a/b\n",
            b"12 path=a/bc",
            b"0 \n",
            b"3 =\n4 =",
            b"5",
        ] {
            assert_eq!(Pax::parse(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn times_have_fractions_and_signs() {
        let mtime = |seconds, nanoseconds| Some(Mtime { seconds, nanoseconds });
        assert_eq!(time(b"12"), mtime(12, 0));
        assert_eq!(time(b"12.5"), mtime(12, 500_000_000));
        assert_eq!(time(b"-1.25"), mtime(-2, 750_000_000));
        assert_eq!(time(b"1.1234567891"), mtime(1, 123_456_789));
        assert_eq!((time(b"x"), time(b"1.x")), (None, None));
    }
}
