//! Envelopes (DSSE, secure-systems-lab/dsse `envelope.md`) and the statements in them (in-toto/attestation `spec/v1/statement.md`).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gantry_model::Digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::StoreError;
use crate::images::parse;

/// Media type of a statement.
pub const MEDIA_TYPE_STATEMENT: &str = "application/vnd.in-toto+json";
/// What a statement of version 1 says it is.
const STATEMENT: &str = "https://in-toto.io/Statement/v1";
/// What those of before said: cosign writes it until today.
const STATEMENTS: [&str; 2] = [STATEMENT, "https://in-toto.io/Statement/v0.1"];
/// The algorithm of digests of subjects that is looked at.
const SHA256: &str = "sha256";
/// Most subjects of a statement.
const MAX_SUBJECTS: usize = 1024;

/// A payload, and signatures over it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Envelope {
    /// What the payload is.
    pub payload_type: String,
    /// The payload, in base64.
    pub payload: String,
    /// The signatures over both.
    pub signatures: Vec<EnvelopeSignature>,
}

/// A signature of an envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvelopeSignature {
    /// A hint whose it is.
    #[serde(default)]
    pub keyid: String,
    /// The signature, in base64.
    pub sig: String,
}

impl Envelope {
    /// An envelope with this statement, that nobody signed yet.
    #[must_use]
    pub fn of(statement: &Statement) -> Self {
        let payload = serde_json::to_vec(statement).expect("a statement is plain data");
        Self {
            payload_type: MEDIA_TYPE_STATEMENT.to_owned(),
            payload: STANDARD.encode(payload),
            signatures: Vec::new(),
        }
    }

    /// Adds a signature over [`Envelope::signed_bytes`].
    pub fn add_signature(&mut self, signature: &[u8]) {
        self.signatures.push(EnvelopeSignature {
            keyid: String::new(),
            sig: STANDARD.encode(signature),
        });
    }

    /// What is signed: kind and payload, each with its length ("Pre-Authentication Encoding"); none when the payload is no base64.
    #[must_use]
    pub fn signed_bytes(&self) -> Option<Vec<u8>> {
        let payload = STANDARD.decode(&self.payload).ok()?;
        let kind = &self.payload_type;
        let mut bytes = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
        bytes.extend(payload);
        Some(bytes)
    }

    /// The signatures that are base64.
    pub fn signatures(&self) -> impl Iterator<Item = Vec<u8>> {
        self.signatures
            .iter()
            .filter_map(|one| STANDARD.decode(&one.sig).ok())
    }

    /// The statement in it, which `what` names in errors.
    ///
    /// # Errors
    /// When there is none.
    pub fn statement(&self, what: &str) -> Result<Statement, StoreError> {
        self.about(what)?;
        parse(&self.payload(what)?, what)
    }

    /// What its statement is about. What it says is passed over: a stranger may have made it costly to read.
    ///
    /// # Errors
    /// When there is no statement in it.
    pub fn about(&self, what: &str) -> Result<About, StoreError> {
        let about: About = parse(&self.payload(what)?, what)?;
        if STATEMENTS.contains(&about.kind.as_str()) && about.subject.len() <= MAX_SUBJECTS {
            return Ok(about);
        }
        Err(StoreError::malformed(
            what,
            format!("it is no statement but {:?}", about.kind),
        ))
    }

    fn payload(&self, what: &str) -> Result<Vec<u8>, StoreError> {
        let payload = STANDARD
            .decode(&self.payload)
            .ok()
            .filter(|_| self.payload_type == MEDIA_TYPE_STATEMENT);
        payload.ok_or_else(|| StoreError::malformed(what, "there is no statement in its envelope"))
    }
}

/// A statement without what it says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct About {
    /// What it is.
    #[serde(rename = "_type")]
    pub kind: String,
    /// What it is about.
    pub subject: Vec<Subject>,
    /// What kind of thing is said.
    pub predicate_type: String,
}

impl About {
    /// The digests that it is about.
    #[must_use]
    pub fn subjects(&self) -> Vec<Digest> {
        let digests = self
            .subject
            .iter()
            .filter_map(|subject| subject.digest.get(SHA256));
        digests.filter_map(|hex| Digest::from_hex(hex).ok()).collect()
    }
}

/// Something that is said about subjects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Statement {
    /// What it is.
    #[serde(rename = "_type")]
    pub kind: String,
    /// What it is about.
    pub subject: Vec<Subject>,
    /// What kind of thing is said.
    pub predicate_type: String,
    /// What is said.
    #[serde(default)]
    pub predicate: Value,
}

/// Something that a statement is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// How it is called.
    #[serde(default)]
    pub name: String,
    /// Its digests, by algorithm.
    pub digest: BTreeMap<String, String>,
}

impl Statement {
    /// A statement of this kind about `image`, which is called `name`.
    #[must_use]
    pub fn about(image: &Digest, name: &str, predicate_type: &str, predicate: Value) -> Self {
        Self {
            kind: STATEMENT.to_owned(),
            subject: vec![Subject {
                name: name.to_owned(),
                digest: BTreeMap::from([(SHA256.to_owned(), image.hex())]),
            }],
            predicate_type: predicate_type.to_owned(),
            predicate,
        }
    }
}
