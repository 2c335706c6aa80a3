//! Sizes and numbers of parts, as people write them.

use std::ops::RangeInclusive;

/// Bytes: `700M`, `4G`, `4GB` are powers of 1,000 as media are sold, `4GiB` of 1,024.
///
/// # Errors
/// When it is none.
pub(super) fn parse_size(text: &str) -> Result<u64, String> {
    let end = text
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let number: u64 = digits
        .parse()
        .map_err(|_| "it has no number, e.g. 4GB".to_owned())?;
    let unit = unit.trim().to_ascii_lowercase();
    let (letter, base) = match unit.strip_suffix("ib") {
        Some(letter) => (letter, 1024_u64),
        None => (unit.strip_suffix('b').unwrap_or(&unit), 1000),
    };
    let power = match letter {
        "" if base == 1000 => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return Err("units are kB, MB, GB and TB, or KiB, MiB, GiB and TiB".to_owned()),
    };
    let size = number.checked_mul(base.pow(power)).filter(|size| *size > 0);
    size.ok_or_else(|| "it is no size that a file can have".to_owned())
}

/// Numbers of parts: `3`, `3-5`, `3-`.
///
/// # Errors
/// When it is none.
pub(super) fn parse_numbers(text: &str) -> Result<RangeInclusive<u32>, String> {
    let number = |text: &str| text.parse::<u32>().ok().filter(|number| *number > 0);
    let (first, last) = match text.split_once('-') {
        None => (number(text), number(text)),
        Some((first, "")) => (number(first), Some(u32::MAX)),
        Some((first, last)) => (number(first), number(last)),
    };
    match (first, last) {
        (Some(first), Some(last)) if first <= last => Ok(first..=last),
        _ => Err("parts are numbered from 1: 3, 3-5, or 3- for all from the third".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_media_are_sold() {
        for (text, size) in [
            ("4G", 4_000_000_000),
            ("4GB", 4_000_000_000),
            ("4gib", 4 << 30),
            ("650MiB", 650 << 20),
            ("1500", 1500),
            ("10 kB", 10_000),
        ] {
            assert_eq!(parse_size(text), Ok(size), "{text}");
        }
        for text in ["", "G", "0", "4X", "4ib", "-4G", "99999999999T", "4.5G"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_of_parts_begin_at_one() {
        assert_eq!(parse_numbers("3"), Ok(3..=3));
        assert_eq!(parse_numbers("3-5"), Ok(3..=5));
        assert_eq!(parse_numbers("3-"), Ok(3..=u32::MAX));
        for text in ["", "0", "5-3", "a", "-3", "1-2-3"] {
            assert!(parse_numbers(text).is_err(), "{text}");
        }
    }
}
