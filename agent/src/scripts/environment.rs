//! Environment → the text of a systemd `EnvironmentFile=` (systemd.exec(5)). So nothing secret is in a command line.

use std::collections::BTreeMap;

/// One assignment per variable, in double quotes. Line breaks stay as they are, blanks at the ends too.
pub(super) fn to_file(env: &BTreeMap<String, String>) -> Vec<u8> {
    let mut text = String::new();
    for (name, value) in env {
        text.push_str(name);
        text.push_str("=\"");
        for character in value.chars() {
            // Within double quotes these four are escaped, and nothing else.
            if matches!(character, '"' | '\\' | '`' | '$') {
                text.push('\\');
            }
            text.push(character);
        }
        text.push_str("\"\n");
    }
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_dollars_and_line_breaks_are_safe() {
        let env = [("A", "plain"), ("B", "a \"b\" $C `d` \\e"), ("C", "two\nlines ")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let text = String::from_utf8(to_file(&env.into())).unwrap();
        assert_eq!(
            text,
            "A=\"plain\"\nB=\"a \\\"b\\\" \\$C \\`d\\` \\\\e\"\nC=\"two\nlines \"\n"
        );
    }
}
