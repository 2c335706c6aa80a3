//! Which bytes a `Range` header asks for: RFC 9110, 14.1.2. Of several ranges none is served: the whole is sent, as the
//! RFC allows.

/// What to send of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Everything.
    Whole,
    /// These bytes: the first one's place and how many.
    Part {
        /// Place of the first byte.
        start: u64,
        /// How many bytes, at least one.
        len: u64,
    },
    /// The blob has none of the bytes asked for, or the header makes no sense.
    Unsatisfiable,
}

/// What `header` asks for of `len` bytes.
pub(super) fn wanted(header: Option<&str>, len: u64) -> Wanted {
    let Some(header) = header else {
        return Wanted::Whole;
    };
    let Some(ranges) = header.trim().strip_prefix("bytes=") else {
        return Wanted::Unsatisfiable;
    };
    if ranges.contains(',') {
        return Wanted::Whole;
    }
    part(ranges.trim(), len).unwrap_or(Wanted::Unsatisfiable)
}

fn part(range: &str, len: u64) -> Option<Wanted> {
    let (first, last) = range.split_once('-')?;
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<u64>().unwrap_or(u64::MAX))
    };
    let (start, end) = match (first, last) {
        ("", suffix) => (len.saturating_sub(number(suffix)?), len),
        (first, "") => (number(first)?, len),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return None;
            }
            (first, last.saturating_add(1).min(len))
        }
    };
    (start < end).then(|| Wanted::Part {
        start,
        len: end - start,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_what_the_rfc_says() {
        let part = |start, len| Wanted::Part { start, len };
        for (header, expected) in [
            ("bytes=0-9", part(0, 10)),
            ("bytes=90-1000", part(90, 10)),
            ("bytes=90-", part(90, 10)),
            ("bytes=-5", part(95, 5)),
            ("bytes=-500", part(0, 100)),
            ("bytes=0-18446744073709551615", part(0, 100)),
            ("bytes=100-", Wanted::Unsatisfiable),
            ("bytes=200-", Wanted::Unsatisfiable),
            ("bytes=200-300", Wanted::Unsatisfiable),
            ("bytes=5-2", Wanted::Unsatisfiable),
            ("bytes=-0", Wanted::Unsatisfiable),
            ("bytes=-", Wanted::Unsatisfiable),
            ("bytes=+1-2", Wanted::Unsatisfiable),
            ("lines=1-2", Wanted::Unsatisfiable),
            ("bytes=0-1,4-5", Wanted::Whole),
        ] {
            assert_eq!(wanted(Some(header), 100), expected, "{header}");
        }
        assert_eq!(wanted(None, 100), Wanted::Whole);
        assert_eq!(wanted(Some("bytes=0-"), 0), Wanted::Unsatisfiable);
    }
}
