//! This module owns [`Line`]: one directive's text with its continuations joined, and where each part of it stands.

use crate::clusterfile::tree::Span;

/// One directive as one line of text.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    /// The text: `\` and the line end after it taken out, nothing else changed.
    pub(super) text: String,
    /// Where parts of `text` start in `text` and in the file; at least one, in order.
    parts: Vec<(usize, usize)>,
}

impl Line {
    /// Where `text[start..end]` stands in the file.
    pub(super) fn span(&self, start: usize, end: usize) -> Span {
        let place = |offset: usize| {
            let part = self
                .parts
                .partition_point(|(start, _)| *start <= offset)
                .saturating_sub(1);
            let (in_text, in_file) = self.parts[part];
            in_file + (offset - in_text)
        };
        // The last byte decides where the end is: what comes after it may stand on another line.
        let first = place(start);
        first..if end > start { place(end - 1) + 1 } else { first }
    }

    /// Where the whole line stands.
    pub(super) fn whole(&self) -> Span {
        self.span(0, self.text.len())
    }

    fn push(&mut self, text: &str, in_file: usize) {
        self.parts.push((self.text.len(), in_file));
        self.text.push_str(text);
    }
}

/// The directives' lines. Comments and empty lines are left out, also between continuations; a byte order mark and
/// carriage returns are no part of any line.
pub(super) fn lines(file: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut open: Option<Line> = None;
    let mut offset = 0;
    for (number, raw) in file.split_inclusive('\n').enumerate() {
        let mut start = offset;
        offset += raw.len();
        let mut text = raw.trim_end_matches(['\n', '\r']);
        if number == 0
            && let Some(rest) = text.strip_prefix('\u{feff}')
        {
            start += text.len() - rest.len();
            text = rest;
        }
        let trimmed = text.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        if open.is_none() {
            start += text.len() - text.trim_start().len();
            text = text.trim_start();
        }
        let line = open.get_or_insert_default();
        match text.trim_end().strip_suffix('\\') {
            Some(continued) => line.push(continued, start),
            None => {
                line.push(text.trim_end(), start);
                lines.extend(open.take());
            }
        }
    }
    lines.extend(open.filter(|line| !line.text.trim().is_empty()));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(file: &str) -> Vec<String> {
        lines(file).into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn comments_blank_lines_and_marks_are_no_lines() {
        let file = "\u{feff}  FROM scratch  \r\n\n# a comment\n   # another\nCOPY . .";
        assert_eq!(texts(file), ["FROM scratch", "COPY . ."]);
    }

    #[test]
    fn a_continuation_joins_and_keeps_the_indentation() {
        let file = "RUN a && \\\n    b \\  \n# why\n\n  c\nCMD d \\";
        assert_eq!(texts(file), ["RUN a &&     b   c", "CMD d "]);
    }

    #[test]
    fn a_word_is_found_again_in_the_file() {
        let file = "FROM x\nCOPY one \\\n  two three\n";
        let line = &lines(file)[1];
        let start = line.text.find("two").unwrap();
        assert_eq!(&file[line.span(start, start + 3)], "two");
        assert_eq!(&file[line.span(0, 4)], "COPY");
    }
}
