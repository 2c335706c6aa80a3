//! This module owns the escape character: what continues a line and takes a character's meaning away. The first lines of a
//! Kubefile may choose it (`# escape=`), as parser directives of a Dockerfile do.

use crate::clusterfile::Mistake;

/// What it is when nothing is said.
pub(super) const DEFAULT: char = '\\';
/// Parser directives that are known. Only `escape` changes anything: there is one syntax.
const DIRECTIVES: [&str; 3] = ["escape", "syntax", "check"];

/// The escape character of the Kubefile `text`.
pub(super) fn escape(text: &str, mistakes: &mut Vec<Mistake>) -> char {
    let mut escape = None;
    let mut offset = 0;
    for raw in text.split_inclusive('\n') {
        let start = offset;
        offset += raw.len();
        // Anything else ends them, also an ordinary comment.
        let Some((name, value)) = directive(raw) else {
            break;
        };
        if name != "escape" {
            continue;
        }
        let span = start..start + raw.trim_end().len();
        let chosen = match value {
            "\\" => '\\',
            "`" => '`',
            _ => {
                let mistake = Mistake::new(span, format!("{value:?} cannot be the escape character"));
                mistakes.push(mistake.help("write `# escape=\\` or `# escape=` with a backtick after it"));
                continue;
            }
        };
        if escape.replace(chosen).is_some() {
            mistakes.push(
                Mistake::new(span, "the escape character is chosen a second time").help("leave it out"),
            );
        }
    }
    escape.unwrap_or(DEFAULT)
}

/// Name and value of a line `# NAME=VALUE` whose name is known.
fn directive(line: &str) -> Option<(String, &str)> {
    let comment = line.trim_start_matches('\u{feff}').trim().strip_prefix('#')?;
    let (name, value) = comment.split_once('=')?;
    let name = name.trim().to_ascii_lowercase();
    DIRECTIVES
        .contains(&name.as_str())
        .then_some((name, value.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_lines_choose_the_escape_character() {
        for (text, chosen, mistakes) in [
            ("FROM a", '\\', 0),
            ("# escape=`\nFROM a", '`', 0),
            ("\u{feff}#syntax=x\r\n#  Escape = `  \r\nFROM a", '`', 0),
            ("# a comment\n# escape=`\nFROM a", '\\', 0),
            ("FROM a\n# escape=`\n", '\\', 0),
            ("# escape=x\nFROM a", '\\', 1),
            ("# escape=`\n# escape=\\\nFROM a", '\\', 1),
        ] {
            let mut found = Vec::new();
            assert_eq!(escape(text, &mut found), chosen, "{text}");
            assert_eq!(found.len(), mistakes, "{text}");
        }
    }
}
