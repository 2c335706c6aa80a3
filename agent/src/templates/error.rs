//! This module owns [`TemplatesError`].

use std::io;

use gantry_template::TemplateError;

/// Why templates are not rendered.
#[derive(Debug, thiserror::Error)]
pub enum TemplatesError {
    /// The template has a mistake.
    #[error("template {path}: {source}; nothing was rendered")]
    Template {
        /// Path below the rootfs.
        path: String,
        /// Which.
        source: TemplateError,
    },
    /// The template is not what templates are.
    #[error("template {path} {reason}; nothing was rendered")]
    Refused {
        /// Path below the rootfs.
        path: String,
        /// What it is.
        reason: String,
    },
    /// The file system said no.
    #[error("cannot {action} {path} of the rootfs: {source}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// Path below the rootfs.
        path: String,
        /// Why it failed.
        source: io::Error,
    },
}

impl TemplatesError {
    /// A [`TemplatesError::Io`] for use with `map_err`.
    pub(super) fn io(action: &'static str, path: &str) -> impl Fn(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path: path.clone(),
            source,
        }
    }
}
