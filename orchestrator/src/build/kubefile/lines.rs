//! This module owns [`Line`]: one directive's text with its continuations joined, and where each part of it stands.

use crate::clusterfile::{Mistake, tree::Span};

use super::heredoc::{Heredoc, announced};

/// One directive as one line of text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// The text: the escape character and the line end after it taken out, nothing else changed.
    pub(super) text: String,
    /// The Kubefile's escape character.
    pub(super) escape: char,
    /// Texts that stand below it.
    pub(super) heredocs: Vec<Heredoc>,
    /// Where parts of `text` start in `text` and in the file, in order.
    parts: Vec<(usize, usize)>,
}

impl Line {
    /// A line without text.
    pub(super) fn empty(escape: char) -> Self {
        Self {
            text: String::new(),
            escape,
            heredocs: Vec::new(),
            parts: Vec::new(),
        }
    }

    /// Where `text[start..end]` stands in the file.
    pub(super) fn span(&self, start: usize, end: usize) -> Span {
        let place = |offset: usize| {
            let part = self
                .parts
                .partition_point(|(start, _)| *start <= offset)
                .saturating_sub(1);
            let (in_text, in_file) = self.parts.get(part).copied().unwrap_or_default();
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

    /// Adds `text`, which stands at `in_file`.
    pub(super) fn push(&mut self, text: &str, in_file: usize) {
        self.parts.push((self.text.len(), in_file));
        self.text.push_str(text);
    }
}

/// The directives' lines. Comments and empty lines are left out, also between continuations; a byte order mark and
/// carriage returns are no part of any line.
pub(super) fn lines(file: &str, escape: char, mistakes: &mut Vec<Mistake>) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut open: Option<Line> = None;
    let mut offset = 0;
    let mut raws = file.split_inclusive('\n').enumerate();
    while let Some((number, raw)) = raws.next() {
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
        let line = open.get_or_insert_with(|| Line::empty(escape));
        if let Some(continued) = text.trim_end().strip_suffix(escape) {
            line.push(continued, start);
            continue;
        }
        line.push(text.trim_end(), start);
        for mut heredoc in announced(line) {
            let ended = raws.by_ref().any(|(_, raw)| {
                let start = offset;
                offset += raw.len();
                heredoc.take(raw, start)
            });
            if !ended {
                mistakes.push(heredoc.unclosed(line));
            }
            line.heredocs.push(heredoc);
        }
        lines.extend(open.take());
    }
    lines.extend(open.filter(|line| !line.text.trim().is_empty()));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(file: &str) -> Vec<String> {
        let mut mistakes = Vec::new();
        let lines = lines(file, '\\', &mut mistakes);
        assert_eq!(mistakes, []);
        lines.into_iter().map(|line| line.text).collect()
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
        let line = &lines(file, '\\', &mut Vec::new())[1];
        let start = line.text.find("two").unwrap();
        assert_eq!(&file[line.span(start, start + 3)], "two");
        assert_eq!(&file[line.span(0, 4)], "COPY");
    }

    #[test]
    fn text_below_a_directive_is_kept_as_it_is() {
        let file = "RUN <<A && cat <<-'B'\n# no comment \\\n\nA\n\t\tx\n\tB\nCOPY a b\n";
        let lines = lines(file, '\\', &mut Vec::new());
        assert_eq!(lines.len(), 2);
        let contents: Vec<&str> = lines[0]
            .heredocs
            .iter()
            .map(|one| one.content.text.as_str())
            .collect();
        assert_eq!(contents, ["# no comment \\\n\n", "x\n"]);
        assert_eq!(&file[lines[0].heredocs[1].content.span(0, 1)], "x");
        assert_eq!(lines[1].text, "COPY a b");
    }
}
