//! How a host without a certificate gets one: a one-time token proves both sides to each other.
//!
//! The operator puts the token on the host and keeps its record; the agent then listens with a self-signed
//! certificate. Neither side trusts the other's certificate: each proves that it knows the token, bound to this
//! very TLS connection (see [`gantry_protocol::enrolment`]), the orchestrator first. So a stranger who connects to
//! the agent gets no signing request out of it, and a listener in the middle learns nothing it could use and
//! gets nothing signed.

mod agent;
mod orchestrator;
mod proof;
mod token;

use gantry_protocol::{Refusal, RefusalKind};

pub use agent::EnrolmentListener;
pub use orchestrator::{EnrolledAgent, enrol};
pub use token::{Token, TokenBook, TokenRecord, TokenRefusal};

/// Largest enrolment message: certificates and revocation lists, as one text.
const MAX_ENROLMENT_MESSAGE: usize = crate::trust::MAX_TRUST_LEN;
/// How long each step of an enrolment may take.
const STEP_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

/// Why an enrolment did not happen. One line: what, why, what to do next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct EnrolmentError {
    /// The line.
    pub message: String,
    /// Whether trying again, as it is, may help: the agent has not seen its token yet, the network comes back.
    pub transient: bool,
}

impl EnrolmentError {
    /// One that trying again does not heal.
    fn lasting(message: String) -> Self {
        Self {
            message,
            transient: false,
        }
    }
}

/// A refusal for the other side.
fn forbidden(message: impl Into<String>) -> Refusal {
    Refusal {
        kind: RefusalKind::Forbidden,
        message: message.into(),
    }
}
