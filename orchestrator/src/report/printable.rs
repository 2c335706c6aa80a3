//! Output of scripts, and names of files, are data of somebody else: they must not move the cursor or change the terminal's title.

use std::fmt::Write as _;

/// `bytes` as one line of text in which nothing controls the terminal. Escape sequences and bells are dropped, a carriage return
/// starts the line again as it would on a terminal, other control characters are shown as escapes.
#[must_use]
pub fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text = anstream::adapter::strip_str(&text).to_string();
    let text = text.trim_end_matches('\r');
    let last = text.rsplit('\r').next().unwrap_or_default();
    let mut line = String::with_capacity(last.len());
    for c in last.chars() {
        match c {
            '\t' => line.push_str("    "),
            c if c.is_control() || is_direction(c) => {
                let _ = write!(line, "{}", c.escape_default());
            }
            c => line.push(c),
        }
    }
    line
}

/// `name` as text in which nothing controls the terminal, and nothing is missing: what would is shown as an escape.
#[must_use]
pub fn printable_name(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            c if c.is_control() || is_direction(c) => text.extend(c.escape_default()),
            c => text.push(c),
        }
    }
    text
}

/// Characters that reorder what follows them.
const fn is_direction(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_controls_the_terminal() {
        assert_eq!(printable(b"\x1b[31mred\x1b[0m \x07bell\tend"), "red bell    end");
        assert_eq!(printable(b"10%\r50%\r100%\r"), "100%");
        assert_eq!(printable("\u{9b}31m\u{202e}x".as_bytes()), "\\u{9b}31m\\u{202e}x");
        assert_eq!(printable(&[0xff, b'a']), "\u{fffd}a");
    }

    #[test]
    fn of_a_name_nothing_is_missing() {
        assert_eq!(printable_name("etc/\x1b[31mred"), "etc/\\u{1b}[31mred");
        assert_eq!(printable_name("a\rb\tc\n\u{202e}ü"), "a\\rb\\tc\\n\\u{202e}ü");
    }
}
