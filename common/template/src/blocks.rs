//! Are all blocks closed? The engine takes `{{if .A}}x` without its end for a whole template, so a file that was cut
//! off would be rendered; and it goes into blocks and parentheses as deep as the text does.

use crate::TemplateError;

/// Deepest nesting of blocks, and of parentheses within an action.
const MAX_DEPTH: usize = 64;
const OPEN: &str = "{{";
const CLOSE: &str = "}}";

/// Checks that blocks are opened and closed in pairs, and not nested deeper than the engine can stand.
///
/// # Errors
/// Where that does not hold.
pub fn check(text: &str) -> Result<(), TemplateError> {
    let mut open: Vec<(&str, usize)> = Vec::new();
    let mut at = 0;
    while let Some(start) = text[at..].find(OPEN).map(|found| at + found) {
        let inner = start + OPEN.len();
        let (action, after) = action(text, start, inner)?;
        at = after;
        let word: &str = action
            .trim_start_matches('-')
            .trim_start()
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .next()
            .unwrap_or_default();
        match word {
            "if" | "range" | "with" | "define" | "block" => {
                if open.len() == MAX_DEPTH {
                    let message = format!("blocks are nested deeper than {MAX_DEPTH}");
                    return Err(TemplateError::at(text, start, message));
                }
                open.push((word, start));
            }
            "else" => match open.last() {
                Some(("if" | "range" | "with", _)) => {}
                _ => {
                    let message = "{{else}} stands in no {{if}}, {{range}} or {{with}}";
                    return Err(TemplateError::at(text, start, message));
                }
            },
            "end" if open.pop().is_none() => {
                return Err(TemplateError::at(text, start, "{{end}} ends nothing"));
            }
            _ => {}
        }
    }
    match open.pop() {
        Some((word, start)) => {
            let message = format!("{{{{{word}}}}} has no {{{{end}}}}: was the file cut off?");
            Err(TemplateError::at(text, start, message))
        }
        None => Ok(()),
    }
}

/// The text of the action whose `{{` is at `start`, and where the text goes on behind its `}}`.
fn action(text: &str, start: usize, inner: usize) -> Result<(&str, usize), TemplateError> {
    let unclosed = || TemplateError::at(text, start, "this {{ has no }}");
    let body = &text[inner..];
    // A comment may hold anything; trim markers stand outside of it.
    if body.trim_start_matches("- ").starts_with("/*") {
        let end = body
            .find("*/")
            .and_then(|end| Some(end + body[end..].find(CLOSE)?))
            .ok_or_else(unclosed)?;
        return Ok(("", inner + end + CLOSE.len()));
    }
    let (mut depth, mut chars) = (0_usize, body.char_indices());
    while let Some((at, c)) = chars.next() {
        match c {
            '}' if body[at..].starts_with(CLOSE) => return Ok((&body[..at], inner + at + CLOSE.len())),
            '"' | '\'' | '`' => {
                // Escapes mean nothing in raw strings.
                let mut escaped = false;
                let closed = chars.by_ref().any(|(_, next)| {
                    let ends = next == c && !escaped;
                    escaped = next == '\\' && !escaped && c != '`';
                    ends
                });
                if !closed {
                    let message = format!("the text in {c} has no end");
                    return Err(TemplateError::at(text, inner + at, message));
                }
            }
            '(' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    let message = format!("parentheses are nested deeper than {MAX_DEPTH}");
                    return Err(TemplateError::at(text, inner + at, message));
                }
            }
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Err(unclosed())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistake(text: &str) -> String {
        check(text).unwrap_err().to_string()
    }

    #[test]
    fn whole_templates_pass() {
        for text in [
            "",
            "plain } text {",
            "{{if .A}}x{{else if .B}}y{{else}}z{{end}}",
            "{{- with .A -}}{{range $i, $v := .B}}{{end}}{{- end -}}",
            "{{define \"t\"}}{{end}}{{template \"t\" .}}",
            "{{/* {{if}} }} never closed */}}x",
            "{{- /* trimmed */ -}}",
            "{{ \"}}\" }}{{ `\\` }}{{ '\\'' }}",
            "{{iffy .A}}{{.end}}{{$end}}",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn what_is_not_closed_is_shown_where_it_begins() {
        assert_eq!(
            mistake("a\n  {{if .A}}x"),
            "2:3: {{if}} has no {{end}}: was the file cut off?"
        );
        assert_eq!(
            mistake("{{if .A}}{{range .B}}{{end}}"),
            "1:1: {{if}} has no {{end}}: was the file cut off?"
        );
        assert_eq!(mistake("x{{end}}"), "1:2: {{end}} ends nothing");
        assert_eq!(
            mistake("{{define \"a\"}}{{else}}{{end}}"),
            "1:15: {{else}} stands in no {{if}}, {{range}} or {{with}}"
        );
        assert_eq!(mistake("é {{ .A }"), "1:3: this {{ has no }}");
        assert_eq!(mistake("{{/* x"), "1:1: this {{ has no }}");
        assert_eq!(mistake("{{ \"x }}"), "1:4: the text in \" has no end");
    }

    #[test]
    fn depth_is_bounded() {
        assert!(mistake(&"{{if .A}}".repeat(100_000)).contains("deeper than 64"));
        assert!(mistake(&format!("{{{{{}", "(".repeat(100_000))).contains("deeper than 64"));
    }
}
