//! This module owns [`PolicyError`]: why there is no policy to go by.

use std::io;

/// Why a policy cannot be used. Whoever asks for one refuses every image then.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The file cannot be read.
    #[error("cannot read the signature policy {file}: {source}")]
    Io {
        /// The file.
        file: String,
        /// Why.
        source: io::Error,
    },
    /// It says something that is not understood.
    #[error("{file}:{line}:{column}: {reason}; no image is accepted until the policy can be read")]
    Wrong {
        /// The file.
        file: String,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What is wrong there.
        reason: String,
    },
}
