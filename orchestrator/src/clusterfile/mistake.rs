//! This module owns [`Mistake`] and [`Mistakes`]: what is wrong in a file, where, and what was probably meant.

use std::fmt;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use super::tree::Span;

/// Mistakes shown of one file; a file with more is probably another kind of file.
const MAX_SHOWN: usize = 50;
/// Longest message, in characters; it may quote the file.
const MAX_MESSAGE: usize = 300;

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Where.
    pub span: Span,
    /// What is wrong: one line.
    pub message: String,
    /// A second place that belongs to it, and what is there.
    pub beside: Option<(Span, String)>,
    /// What was probably meant, or what to do.
    pub help: Option<String>,
}

impl Mistake {
    /// A mistake at `span`.
    #[must_use]
    pub fn new(span: Span, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if let Some((cut, _)) = message.char_indices().nth(MAX_MESSAGE) {
            message.replace_range(cut.., "…");
        }
        Self {
            span,
            message,
            beside: None,
            help: None,
        }
    }

    /// With a second place.
    #[must_use]
    pub fn beside(self, span: Span, label: impl Into<String>) -> Self {
        Self {
            beside: Some((span, label.into())),
            ..self
        }
    }

    /// With what to do about it.
    #[must_use]
    pub fn help(self, help: impl Into<String>) -> Self {
        Self {
            help: Some(help.into()),
            ..self
        }
    }
}

/// Every mistake of one file, in the order of the text, with the text itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes {
    file: String,
    text: String,
    list: Vec<Mistake>,
}

impl Mistakes {
    /// The mistakes `list` of the file named `file` that has this text.
    #[must_use]
    pub fn new(file: impl Into<String>, text: impl Into<String>, mut list: Vec<Mistake>) -> Self {
        list.sort_by_key(|mistake| mistake.span.start);
        Self {
            file: file.into(),
            text: text.into(),
            list,
        }
    }

    /// The mistakes.
    #[must_use]
    pub fn list(&self) -> &[Mistake] {
        &self.list
    }

    /// Where one of them is: `FILE:LINE:COLUMN`, both from 1, the column in characters.
    #[must_use]
    pub fn place(&self, mistake: &Mistake) -> String {
        let before = &self.text[..self.visible(&mistake.span).start];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        format!("{}:{line}:{column}", self.file)
    }

    /// For people: each with file:line:column, the offending line and what to do.
    #[must_use]
    pub fn render(&self, colours: bool) -> String {
        let renderer = if colours {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        let mut text = String::new();
        for mistake in self.list.iter().take(MAX_SHOWN) {
            text.push_str(&renderer.render(&self.groups(mistake)));
            text.push_str("\n\n");
        }
        if let Some(more) = self.list.len().checked_sub(MAX_SHOWN).filter(|more| *more > 0) {
            text.push_str(&format!("… and {more} more\n\n"));
        }
        text
    }

    fn groups<'a>(&'a self, mistake: &'a Mistake) -> Vec<Group<'a>> {
        let here = AnnotationKind::Primary.span(self.visible(&mistake.span));
        let mut snippet = Snippet::source(self.text.as_str())
            .path(self.file.as_str())
            .annotation(here);
        if let Some((span, label)) = &mistake.beside {
            snippet = snippet.annotation(
                AnnotationKind::Context
                    .span(self.visible(span))
                    .label(label.as_str()),
            );
        }
        let mut group = Level::ERROR
            .primary_title(mistake.message.as_str())
            .element(snippet);
        if let Some(help) = &mistake.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        vec![group]
    }

    /// The first line of `span`, at least one character wide: a whole block underlined says less.
    fn visible(&self, span: &Span) -> Span {
        let mut start = span.start.min(self.text.len());
        while !self.text.is_char_boundary(start) {
            start -= 1;
        }
        let rest = &self.text[start..];
        let line = rest.find('\n').unwrap_or(rest.len());
        let first = rest.chars().next().map_or(0, char::len_utf8);
        let mut end = span
            .end
            .clamp(start, start + line)
            .max(start + first)
            .min(self.text.len());
        while !self.text.is_char_boundary(end) {
            end += 1;
        }
        start..end
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.list.len() {
            1 => write!(f, "{} has a mistake", self.file),
            count => write!(f, "{} has {count} mistakes", self.file),
        }
    }
}

impl std::error::Error for Mistakes {}
