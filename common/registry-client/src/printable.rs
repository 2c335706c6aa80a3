//! What a registry says, as text that cannot control a terminal.

/// Most characters of a foreign text that are shown.
const MAX_SHOWN: usize = 300;

/// `text` on one line, without control characters and direction marks, not too long.
pub(crate) fn printable(text: &str) -> String {
    let legal = |c: char| !c.is_control() && !matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let line: String = text
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .filter(|c| legal(*c))
        .take(MAX_SHOWN)
        .collect();
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_controls_the_terminal() {
        assert_eq!(printable("a\x1b[2J\r\nb\u{202e}c"), "a[2J bc");
        assert_eq!(printable(&"x".repeat(1000)).len(), MAX_SHOWN);
    }
}
