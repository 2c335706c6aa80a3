//! This module owns [`RegistryError`]: everything that can go wrong with a registry.

use std::path::PathBuf;

use gantry_model::{Digest, ExitCode};
use gantry_store::StoreError;

/// What went wrong: the registry, the cause, and what to do next where there is something.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// A name or an address is none.
    #[error("{0}")]
    Name(String),
    /// A configuration file is not what it should be.
    #[error("{}{place}: {reason}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// `:LINE:COLUMN`, where it is known.
        place: String,
        /// What is wrong there.
        reason: String,
    },
    /// `registries.conf` forbids it.
    #[error("registry {registry} is blocked by {}", path.display())]
    Blocked {
        /// The registry or repository.
        registry: String,
        /// Where it says so.
        path: PathBuf,
    },
    /// The registry does not answer.
    #[error("cannot reach registry {registry}: {reason}")]
    Unreachable {
        /// The registry.
        registry: String,
        /// Why, in words.
        reason: String,
    },
    /// The registry does not speak TLS, or not with a certificate that is trusted.
    #[error("registry {registry} is not trusted: {reason}")]
    Untrusted {
        /// The registry.
        registry: String,
        /// Why, and what to do.
        reason: String,
    },
    /// The registry wants to know who asks.
    #[error(
        "registry {registry} refuses {what}: {reason}; `gantry login {registry}` gives it a name and a password"
    )]
    NotLoggedIn {
        /// The registry.
        registry: String,
        /// What was asked for.
        what: String,
        /// What it says.
        reason: String,
    },
    /// The registry knows who asks and says no.
    #[error("registry {registry} refuses {what} to {user}: {reason}")]
    Denied {
        /// The registry.
        registry: String,
        /// What was asked for.
        what: String,
        /// To whom.
        user: String,
        /// What it says.
        reason: String,
    },
    /// There is no such image.
    #[error("{what} is not in registry {registry}: {reason}")]
    NotFound {
        /// The registry.
        registry: String,
        /// What was asked for.
        what: String,
        /// What it says.
        reason: String,
    },
    /// The registry answers something else than it should.
    #[error("registry {registry} answers {what} with {reason}")]
    Answer {
        /// The registry.
        registry: String,
        /// What was asked for.
        what: String,
        /// What it says.
        reason: String,
    },
    /// A body ended or stood still on its way.
    #[error(
        "registry {registry} broke off {what}: {reason}; run the same command again to go on where it stopped"
    )]
    BrokenOff {
        /// The registry.
        registry: String,
        /// What was on its way.
        what: String,
        /// How it was noticed.
        reason: String,
    },
    /// What came is not what was asked for.
    #[error(
        "{what} of registry {registry} does not match its digest: announced {expected}, got {found}; nothing of it was kept"
    )]
    WrongDigest {
        /// The registry.
        registry: String,
        /// The object.
        what: String,
        /// The digest it was announced with.
        expected: Digest,
        /// The digest it has.
        found: Digest,
    },
    /// What came is more or less than announced.
    #[error(
        "{what} of registry {registry} is larger than {limit} bytes, which is {why}; nothing of it was kept"
    )]
    TooLarge {
        /// The registry.
        registry: String,
        /// The object.
        what: String,
        /// The bound in bytes.
        limit: u64,
        /// Whose bound it is.
        why: &'static str,
    },
    /// What came contradicts itself, or is nothing Gantry can use.
    #[error("{what} of registry {registry} is not valid: {reason}; nothing of it was kept")]
    Malformed {
        /// The registry.
        registry: String,
        /// The object.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The image cannot be pushed as it is in the store.
    #[error("{0}")]
    Incomplete(String),
    /// No user name or password could be had.
    #[error("{0}")]
    Credentials(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl RegistryError {
    /// The exit code a command ends with when this is its error.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Name(_) | Self::Config { .. } | Self::NotFound { .. } | Self::Incomplete(_) => {
                ExitCode::Input
            }
            Self::Blocked { .. } => ExitCode::Preflight,
            // Whether it vanished before or in the middle of a transfer is the same to whoever runs the command again.
            Self::Unreachable { .. } | Self::BrokenOff { .. } => ExitCode::Unreachable,
            Self::NotLoggedIn { .. } | Self::Denied { .. } | Self::Answer { .. } | Self::Credentials(_) => {
                ExitCode::Failed
            }
            Self::Untrusted { .. }
            | Self::WrongDigest { .. }
            | Self::TooLarge { .. }
            | Self::Malformed { .. } => ExitCode::Verification,
            Self::Store(error) => error.exit_code(),
        }
    }

    /// Whether another registry that holds the same (a mirror) may do better.
    pub(crate) const fn is_of_this_registry(&self) -> bool {
        !matches!(self, Self::Store(_) | Self::Name(_) | Self::Config { .. })
    }

    /// What it says where this program goes on by itself: nobody has to run a command again.
    pub(crate) fn on_the_way(&self) -> String {
        match self {
            Self::BrokenOff {
                registry,
                what,
                reason,
            } => format!("registry {registry} broke off {what}: {reason}"),
            other => other.to_string(),
        }
    }

    /// Whether it is about what lies in the registry, and not about the registry or the way to it.
    pub(crate) const fn is_of_what_was_asked(&self) -> bool {
        matches!(
            self,
            Self::NotFound { .. } | Self::WrongDigest { .. } | Self::TooLarge { .. } | Self::Malformed { .. }
        )
    }
}
