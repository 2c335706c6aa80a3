//! This module owns [`Binding`]: what both sides of an enrolment have in common, and the proofs over it.

use ring::digest::{SHA256, digest};
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};

/// Who proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Prover {
    Orchestrator,
    Agent,
}

impl Prover {
    /// The labels differ, so that neither side's proof can be sent back to it as the other's.
    const fn label(self) -> &'static [u8] {
        match self {
            Self::Orchestrator => b"gantry enrolment: orchestrator",
            Self::Agent => b"gantry enrolment: agent",
        }
    }
}

/// Everything the proofs are bound to.
#[derive(Debug, Clone)]
pub(super) struct Binding {
    /// TLS exporter of this connection: a party in the middle has two connections and two exporters.
    pub(super) exporter: [u8; 32],
    pub(super) orchestrator_nonce: [u8; 32],
    pub(super) agent_nonce: [u8; 32],
    /// SHA-256 of the certificate the agent showed in TLS.
    pub(super) agent_certificate: [u8; 32],
    /// SHA-256 of the CAs to trust, as they are sent.
    pub(super) ca: [u8; 32],
    pub(super) token_id: String,
    /// The name the agent will have.
    pub(super) host: String,
}

impl Binding {
    /// The proof of one side.
    pub(super) fn prove(&self, key: &[u8], prover: Prover) -> [u8; 32] {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), &self.text(prover));
        let mut mac = [0; 32];
        mac.copy_from_slice(tag.as_ref());
        mac
    }

    /// Whether `mac` is the proof of that side. Takes the same time whatever differs.
    pub(super) fn holds(&self, key: &[u8], prover: Prover, mac: &[u8; 32]) -> bool {
        hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, key), &self.text(prover), mac).is_ok()
    }

    /// Every part with its length before it, so that no two bindings give the same text.
    fn text(&self, prover: Prover) -> Vec<u8> {
        let parts: [&[u8]; 8] = [
            prover.label(),
            &self.exporter,
            &self.orchestrator_nonce,
            &self.agent_nonce,
            &self.agent_certificate,
            &self.ca,
            self.token_id.as_bytes(),
            self.host.as_bytes(),
        ];
        let mut text = vec![];
        for part in parts {
            text.extend_from_slice(&(part.len() as u64).to_be_bytes());
            text.extend_from_slice(part);
        }
        text
    }
}

/// 32 random bytes; none when the system has no random numbers.
pub(super) fn nonce() -> Option<[u8; 32]> {
    let mut nonce = [0; 32];
    SystemRandom::new().fill(&mut nonce).ok()?;
    Some(nonce)
}

/// SHA-256.
pub(super) fn hash(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding() -> Binding {
        Binding {
            exporter: [1; 32],
            orchestrator_nonce: [2; 32],
            agent_nonce: [3; 32],
            agent_certificate: [4; 32],
            ca: [5; 32],
            token_id: "id".into(),
            host: "host".into(),
        }
    }

    #[test]
    fn a_proof_holds_for_its_side_key_and_every_part_of_the_binding() {
        let mac = binding().prove(b"key", Prover::Agent);
        assert!(binding().holds(b"key", Prover::Agent, &mac));
        assert!(!binding().holds(b"key", Prover::Orchestrator, &mac));
        assert!(!binding().holds(b"yek", Prover::Agent, &mac));
        let changes: [fn(&mut Binding); 7] = [
            |b| b.exporter[0] = 0,
            |b| b.orchestrator_nonce[31] = 0,
            |b| b.agent_nonce[0] = 0,
            |b| b.agent_certificate[0] = 0,
            |b| b.ca[0] = 0,
            |b| b.token_id = "idh".into(),
            |b| b.host = "ost".into(),
        ];
        for change in changes {
            let mut other = binding();
            change(&mut other);
            assert!(!other.holds(b"key", Prover::Agent, &mac));
        }
    }
}
