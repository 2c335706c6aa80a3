//! This module owns [`TemplateError`].

/// Why a template cannot be rendered: `LINE:COLUMN: what`, or just what where the place is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.text())]
pub struct TemplateError {
    /// Line and column, from 1; columns count characters.
    pub place: Option<(usize, usize)>,
    /// What is wrong, in words.
    pub message: String,
}

impl TemplateError {
    pub(crate) fn at(text: &str, offset: usize, message: impl Into<String>) -> Self {
        let before = &text[..offset];
        let line = before.matches('\n').count() + 1;
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            place: Some((line, before[start..].chars().count() + 1)),
            message: message.into(),
        }
    }

    pub(crate) fn nowhere(message: impl Into<String>) -> Self {
        Self {
            place: None,
            message: message.into(),
        }
    }

    fn text(&self) -> String {
        match self.place {
            Some((line, column)) => format!("{line}:{column}: {}", self.message),
            None => self.message.clone(),
        }
    }
}

impl From<gotmpl::TemplateError> for TemplateError {
    fn from(error: gotmpl::TemplateError) -> Self {
        match error {
            gotmpl::TemplateError::Parse {
                line, col, message, ..
            }
            | gotmpl::TemplateError::Lex {
                line, col, message, ..
            } => Self {
                place: Some((line, col)),
                message,
            },
            other => Self::nowhere(other.to_string()),
        }
    }
}
