//! This module owns [`Kubefile`]: what a Kubefile says, as text, before variables have values.
//!
//! ```text
//! text ─ lines ─▶ one directive per line ─ words ─▶ arguments ─ parse ─▶ Kubefile
//! ```

mod complaints;
mod escape;
mod heredoc;
mod lines;
mod order;
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
    /// `FROM [--platform=PLATFORM] IMAGE`.
    From {
        /// The image.
        image: Word,
        /// The platform that is built for.
        platform: Option<Word>,
    },
    /// `COPY SRC… DST`, `ADD SRC… DST`.
    Copy {
        /// What to copy; at least one.
        sources: Vec<Source>,
        /// Where to.
        destination: Word,
        /// Whether tar archives are unpacked (`ADD`).
        unpack: bool,
        /// `--checksum=DIGEST`: what a source that lies elsewhere has to be.
        checksum: Option<Word>,
        /// `--chmod=MODE`: the mode of everything that is copied.
        chmod: Option<Word>,
    },
    /// `LABEL NAME=VALUE…`.
    Label(Vec<(Word, Word)>),
    /// `ENV NAME=VALUE…`.
    Env(Vec<(Word, Word)>),
    /// `ARG NAME[=DEFAULT]…`.
    Arg(Vec<(Word, Option<Word>)>),
    /// `RUN [--network=none] COMMAND`.
    Run {
        /// The command.
        command: Command,
        /// Whether it has no network, whatever the build has.
        offline: bool,
    },
    /// `CMD COMMAND`.
    Cmd(Command),
    /// `CMDS ["COMMAND", …]`.
    Cmds(Vec<String>),
    /// `LAUNCH APP…`, `LAUNCH ["APP", …]`.
    Launch(Vec<Word>),
    /// `MAINTAINER NAME`.
    Maintainer(Word),
    /// `KUBEVERSION CONSTRAINT`.
    KubeVersion(Word),
    /// `APP NAME SRC…`, `CNI NAME SRC…`, `CSI NAME SRC…`.
    App {
        /// What it is for.
        role: AppRole,
        /// Its name.
        name: Word,
        /// Its files; at least one.
        sources: Vec<Word>,
    },
    /// `APPCMDS APP ["COMMAND", …]`.
    AppCmds {
        /// The application.
        app: Word,
        /// Parts of one command line.
        commands: Vec<String>,
    },
    /// `APPENV APP NAME=VALUE…`.
    AppEnv {
        /// The application.
        app: Word,
        /// The variables.
        pairs: Vec<(Word, Word)>,
    },
}

/// What an application is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppRole {
    /// `APP`: whatever it likes.
    Any,
    /// `CNI`: the cluster's network.
    Cni,
    /// `CSI`: the cluster's storage.
    Csi,
}

/// What `COPY` or `ADD` takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A path or pattern in the context.
    Path(Word),
    /// A file that stands in the Kubefile (`<<NAME`).
    Text {
        /// Its name.
        name: String,
        /// What is in it.
        content: Word,
    },
}

/// A command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// For the shell, as written.
    Shell(String),
    /// A program and its arguments (`["helm", "install"]`).
    Arguments(Vec<String>),
}
