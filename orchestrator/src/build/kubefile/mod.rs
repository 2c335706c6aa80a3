//! This module owns [`Kubefile`]: what a Kubefile says, as text, before variables have values.
//!
//! ```text
//! text ─ lines ─▶ one directive per line ─ words ─▶ arguments ─ parse ─▶ Kubefile
//! ```

mod complaints;
mod lines;
mod parse;
mod words;

pub use parse::parse;
pub use words::{Otherwise, Piece, Word};

use crate::clusterfile::tree::Span;

/// Most bytes of a Kubefile: a thousand times what people write.
pub const MAX_LEN: u64 = 1 << 20;

/// The directives, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Kubefile {
    /// The directives.
    pub directives: Vec<Directive>,
}

/// One directive.
#[derive(Debug, PartialEq, Eq)]
pub struct Directive {
    /// Where it stands.
    pub span: Span,
    /// Its text on one line, as it is shown and kept in the image's history.
    pub text: String,
    /// What it says.
    pub kind: DirectiveKind,
}

/// What a directive says.
#[derive(Debug, PartialEq, Eq)]
pub enum DirectiveKind {
    /// `FROM IMAGE`.
    From(Word),
    /// `COPY SRC… DST`.
    Copy {
        /// What to copy; at least one.
        sources: Vec<Word>,
        /// Where to.
        destination: Word,
    },
    /// `LABEL NAME=VALUE…`.
    Label(Vec<(Word, Word)>),
    /// `ENV NAME=VALUE…`.
    Env(Vec<(Word, Word)>),
    /// `ARG NAME[=DEFAULT]…`.
    Arg(Vec<(Word, Option<Word>)>),
    /// `RUN COMMAND`.
    Run(Command),
    /// `CMD COMMAND`.
    Cmd(Command),
}

/// A command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// For the shell, as written.
    Shell(String),
    /// A program and its arguments (`["helm", "install"]`).
    Arguments(Vec<String>),
}
