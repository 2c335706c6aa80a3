//! The lines of a block of text, each with its place in the file.

use crate::clusterfile::tree::{Node, Span};

/// A line that says something.
pub(super) struct Line<'a> {
    pub(super) text: &'a str,
    pub(super) span: Span,
}

/// The lines of `data`, a value of the file with the text `file`. Empty lines and comments are left out.
pub(super) fn lines<'a>(data: &'a Node, file: &str) -> Vec<Line<'a>> {
    let mut from = data.span.start;
    let mut lines = Vec::new();
    for line in data.text().unwrap_or_default().lines() {
        let text = line.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        // What is written with escapes stands somewhere in the value.
        let found = file.get(from..data.span.end).and_then(|rest| rest.find(text));
        let span = found.map_or(data.span.clone(), |at| from + at..from + at + text.len());
        from = if found.is_some() { span.end } else { from };
        lines.push(Line { text, span });
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clusterfile::tree;

    #[test]
    fn every_line_knows_its_place() {
        let file = "data: |\n  # one\n  a b\n\n  a b c\nquoted: \"x y\\nz\\u0020w\\n\"\n";
        let (documents, _) = tree::parse(file);
        let of = |field: &str| {
            let data = documents[0].get(field).unwrap();
            let lines = lines(data, file).into_iter();
            lines
                .map(|line| (line.text.to_owned(), file[line.span].to_owned()))
                .collect::<Vec<_>>()
        };
        let same = |text: &str| (text.to_owned(), text.to_owned());
        assert_eq!(of("data"), [same("a b"), same("a b c")]);
        assert_eq!(
            of("quoted"),
            [
                same("x y"),
                ("z w".to_owned(), "\"x y\\nz\\u0020w\\n\"".to_owned())
            ]
        );
    }
}
