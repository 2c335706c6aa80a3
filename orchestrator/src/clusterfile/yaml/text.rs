//! The text of YAML documents.

use super::{Scalar, Yaml};

const INDENT: usize = 2;

/// The text of `documents`, each in block style.
#[must_use]
pub fn to_text(documents: &[Yaml]) -> String {
    let texts: Vec<String> = documents.iter().map(document).collect();
    texts.join("---\n")
}

fn document(value: &Yaml) -> String {
    let mut text = String::new();
    match value {
        Yaml::Map(fields) if !fields.is_empty() => map(fields, 0, &mut text),
        Yaml::List(items) if !items.is_empty() => list(items, 0, &mut text),
        value => {
            inline(value, &mut text);
            text.push('\n');
        }
    }
    text
}

fn map(fields: &[(Scalar, Yaml)], indent: usize, text: &mut String) {
    for (name, value) in fields {
        pad(indent, text);
        text.push_str(&word(name));
        text.push(':');
        below(value, indent, text);
    }
}

fn list(items: &[Yaml], indent: usize, text: &mut String) {
    for item in items {
        pad(indent, text);
        text.push('-');
        let mut block = String::new();
        match item {
            Yaml::Map(fields) if !fields.is_empty() => map(fields, indent + INDENT, &mut block),
            Yaml::List(items) if !items.is_empty() => list(items, indent + INDENT, &mut block),
            scalar => {
                below(scalar, indent, text);
                continue;
            }
        }
        // Its first line stands behind the dash.
        text.push(' ');
        text.push_str(block.trim_start_matches(' '));
    }
}

/// What stands behind the colon of a field, to the end of its last line.
fn below(value: &Yaml, indent: usize, text: &mut String) {
    match value {
        Yaml::Map(fields) if !fields.is_empty() => {
            text.push('\n');
            map(fields, indent + INDENT, text);
        }
        Yaml::List(items) if !items.is_empty() => {
            text.push('\n');
            list(items, indent, text);
        }
        Yaml::Scalar(scalar) if !scalar.plain && is_literal(&scalar.text) => {
            text.push(' ');
            literal(&scalar.text, indent + INDENT, text);
        }
        value => {
            text.push(' ');
            inline(value, text);
            text.push('\n');
        }
    }
}

fn inline(value: &Yaml, text: &mut String) {
    match value {
        Yaml::Null => text.push_str("null"),
        Yaml::Scalar(scalar) => text.push_str(&word(scalar)),
        Yaml::List(_) => text.push_str("[]"),
        Yaml::Map(_) => text.push_str("{}"),
    }
}

/// A scalar on one line.
fn word(scalar: &Scalar) -> String {
    // A plain scalar of several lines is text: nothing else has any.
    let is_plain = scalar.plain && !scalar.text.is_empty() && !scalar.text.contains('\n');
    if is_plain && !is_mark(&scalar.text) {
        return scalar.text.clone();
    }
    let mut quoted = String::from('"');
    for c in scalar.text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            c if is_printable(c) => quoted.push(c),
            c => quoted.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    quoted.push('"');
    quoted
}

/// Whether `text` would begin or end a document at the start of a line (YAML 1.2, section 9.1), or begin an item or a field in a
/// block; within brackets it is a word.
fn is_mark(text: &str) -> bool {
    let rests = ["---", "...", "-", "?", ":"].map(|mark| text.strip_prefix(mark));
    let mut rests = rests.into_iter().flatten();
    rests.any(|rest| rest.is_empty() || rest.starts_with([' ', '\t']))
}

/// Printable and no line break by any version of YAML (1.2, section 5.1; 1.1, section 4.2).
fn is_printable(c: char) -> bool {
    !matches!(c, '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

/// Whether a text can be read as it stands, in a block of lines.
fn is_literal(text: &str) -> bool {
    text.contains('\n')
        && !text.starts_with([' ', '\t', '\n'])
        && text.chars().all(|c| c == '\n' || c == '\t' || is_printable(c))
        // Of a line that is only blanks nobody sees where it ends.
        && !text.lines().any(|line| !line.is_empty() && line.trim_matches([' ', '\t']).is_empty())
}

fn literal(content: &str, indent: usize, text: &mut String) {
    let kept = content.trim_end_matches('\n');
    text.push_str(match content.len() - kept.len() {
        0 => "|-\n",
        1 => "|\n",
        _ => "|+\n",
    });
    let whole = content.strip_suffix('\n').unwrap_or(content);
    for line in whole.split('\n') {
        if !line.is_empty() {
            pad(indent, text);
            text.push_str(line);
        }
        text.push('\n');
    }
}

fn pad(indent: usize, text: &mut String) {
    text.extend(std::iter::repeat_n(' ', indent));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_not_changed_keeps_its_meaning() {
        let text = "\
apiVersion: v1
data:
  empty: \"\"
  mode: 0644
  on: \"on\"
  \"8080\": \"yes\"
  none: null
  nothing: {}
  script: |
    #!/bin/sh
      indented: {{ .Value }}

    echo \"done\"
  last: |-
    a
    b
spec:
  list:
  - name: a
    ports:
    - 80
    - - 1
      - 2
  - text # with no comment
  - []
  url: http://sea.hub:5000/a#b
---
kind: Secret
";
        let documents = Yaml::documents(text).unwrap();
        assert_eq!(to_text(&documents), text.replace(" # with no comment", ""));
    }

    #[test]
    fn what_begins_and_ends_documents_does_not_as_a_value() {
        for mark in ["...", "---", "--- a", "...\t!!%", "?", "- a"] {
            let text = to_text(&[Yaml::Scalar(Scalar::plain(mark))]);
            assert_eq!(
                Yaml::documents(&text),
                Ok(vec![Yaml::Scalar(Scalar::quoted(mark))])
            );
        }
    }

    fn value() -> impl Strategy<Value = Yaml> {
        let text = prop_oneof![
            any::<String>(),
            "[ \\t\\n#:a-z'\"|>-]{0,12}",
            Just("\u{85}\u{2028}x".to_owned())
        ];
        let scalar = text.prop_map(Scalar::quoted);
        let leaf = prop_oneof![
            Just(Yaml::Null),
            scalar.clone().prop_map(Yaml::Scalar),
            "[a-z0-9.]{1,8}"
                .prop_filter("null is nothing, and the end of a document is quoted", |word| {
                    !matches!(word.as_str(), "null" | "...")
                })
                .prop_map(|word| Yaml::Scalar(Scalar::plain(word)))
        ];
        leaf.prop_recursive(4, 24, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Yaml::List),
                prop::collection::vec((scalar.clone(), inner), 0..4).prop_map(|mut fields| {
                    let mut seen = std::collections::BTreeSet::new();
                    fields.retain(|(name, _)| seen.insert(name.text.clone()));
                    Yaml::Map(fields)
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn every_value_comes_back(values in prop::collection::vec(value(), 1..4)) {
            let values: Vec<Yaml> = values.into_iter().filter(|value| *value != Yaml::Null).collect();
            let text = to_text(&values);
            prop_assert_eq!(Yaml::documents(&text), Ok(values), "{}", text);
        }
    }
}
