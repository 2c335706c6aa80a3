//! This module owns [`ImageSignature`]: a signature over an image, and what it says is signed.
//!
//! The form is cosign's (sigstore/cosign `specs/SIGNATURE_SPEC.md`): what is signed is a short JSON document, the *payload*, that
//! names the image by the digest of its manifest.

use serde::{Deserialize, Serialize};

use crate::Digest;

/// A payload, and a signature over its bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ImageSignature {
    /// The payload as it was signed; at most [`ImageSignature::MAX_PAYLOAD_LEN`] bytes.
    pub payload: Vec<u8>,
    /// The signature: for ECDSA in DER, for Ed25519 its 64 bytes.
    pub signature: Vec<u8>,
}

impl ImageSignature {
    /// Most bytes of a payload: its few fields, and annotations that people add.
    pub const MAX_PAYLOAD_LEN: u64 = 16 << 10;
    /// Most bytes of a signature: RSA with 8,192 bits, of those that others make the longest.
    pub const MAX_SIGNATURE_LEN: usize = 1024;
    /// Most signatures of one image.
    pub const MAX_SIGNATURES: usize = 64;
}

/// What a payload says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedPayload {
    /// Digest of the manifest, or of the index, that was signed.
    pub image: Digest,
    /// The repository it was signed as: a name without a tag.
    pub identity: String,
    /// How its layers travel to hosts, where its manifest does not say so: that of layers that arrived as gzip. See
    /// [`LayerDescriptor::digest_as_they_travel`](crate::LayerDescriptor::digest_as_they_travel). An annotation, which other readers pass
    /// over.
    pub layers: Option<Digest>,
}

/// Why a payload is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the payload of a signature is not one that cosign would write: {0}")]
pub struct PayloadError(String);

/// What cosign writes for the kind of payload.
const KIND: &str = "cosign container image signature";
/// The annotation that says how layers travel.
const ANNOTATION_LAYERS: &str = "io.gantry.layers";

#[derive(Serialize, Deserialize)]
struct Document {
    critical: Critical,
    /// Annotations; no other than [`ANNOTATION_LAYERS`] is looked at.
    optional: Option<serde_json::Value>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Critical {
    identity: Identity,
    image: Image,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {
    #[serde(rename = "docker-reference")]
    docker_reference: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    docker_manifest_digest: Digest,
}

impl SignedPayload {
    /// Reads a payload.
    ///
    /// # Errors
    /// When it is not one that cosign would write. What stands under `critical` and is not known is refused: whoever wrote it
    /// meant it to count.
    pub fn parse(payload: &[u8]) -> Result<Self, PayloadError> {
        if payload.len() as u64 > ImageSignature::MAX_PAYLOAD_LEN {
            let limit = ImageSignature::MAX_PAYLOAD_LEN;
            return Err(PayloadError(format!("it has more than {limit} bytes")));
        }
        let document: Document =
            serde_json::from_slice(payload).map_err(|error| PayloadError(error.to_string()))?;
        if document.critical.kind != KIND {
            return Err(PayloadError(format!("its type is not \"{KIND}\"")));
        }
        let layers = document.optional.as_ref().and_then(|annotations| {
            let text = annotations.get(ANNOTATION_LAYERS)?.as_str()?;
            text.parse().ok()
        });
        Ok(Self {
            image: document.critical.image.docker_manifest_digest,
            identity: document.critical.identity.docker_reference,
            layers,
        })
    }

    /// The payload, byte for byte as cosign writes it.
    ///
    /// # Panics
    /// Never: a payload is plain data and always has a JSON form.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let document = Document {
            critical: Critical {
                identity: Identity {
                    docker_reference: self.identity.clone(),
                },
                image: Image {
                    docker_manifest_digest: self.image,
                },
                kind: KIND.to_owned(),
            },
            optional: self
                .layers
                .map(|layers| serde_json::json!({ANNOTATION_LAYERS: layers.to_string()})),
        };
        serde_json::to_vec(&document).expect("a payload is plain data")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload() -> SignedPayload {
        SignedPayload {
            image: Digest::of(b"manifest"),
            identity: "sea.hub:5000/demo".to_owned(),
            layers: None,
        }
    }

    #[test]
    fn a_payload_is_written_as_cosign_writes_it() {
        let text = String::from_utf8(payload().to_bytes()).unwrap();
        assert_eq!(
            text,
            format!(
                r#"{{"critical":{{"identity":{{"docker-reference":"sea.hub:5000/demo"}},"image":{{"docker-manifest-digest":"{}"}},"type":"cosign container image signature"}},"optional":null}}"#,
                Digest::of(b"manifest")
            )
        );
        assert_eq!(SignedPayload::parse(text.as_bytes()).unwrap(), payload());
    }

    #[test]
    fn how_layers_travel_is_an_annotation() {
        let said = SignedPayload {
            layers: Some(Digest::of(b"layers")),
            ..payload()
        };
        let text = String::from_utf8(said.to_bytes()).unwrap();
        let annotation = format!(
            r#""optional":{{"io.gantry.layers":"{}"}}}}"#,
            Digest::of(b"layers")
        );
        assert!(text.ends_with(&annotation), "{text}");
        assert_eq!(SignedPayload::parse(text.as_bytes()).unwrap(), said);
        // What is no digest says nothing.
        let quoted = format!("\"{}\"", Digest::of(b"layers"));
        for nothing in ["17", "\"sha256:12\"", "null"] {
            let text = text.replace(&quoted, nothing);
            assert_eq!(SignedPayload::parse(text.as_bytes()).unwrap(), payload());
        }
    }

    #[test]
    fn annotations_are_passed_over_and_what_is_critical_is_not() {
        let text = String::from_utf8(payload().to_bytes()).unwrap();
        let annotated = text.replace("null", r#"{"creator":"somebody","timestamp":1}"#);
        assert_eq!(SignedPayload::parse(annotated.as_bytes()).unwrap(), payload());
        for (from, to) in [
            (r#""type":"#, r#""until":"noon","type":"#),
            ("cosign container image signature", "atomic container signature"),
            ("sha256:", "sha512:"),
            (r#""docker-reference":"#, r#""name":"#),
        ] {
            let wrong = text.replace(from, to);
            assert!(SignedPayload::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
        assert!(SignedPayload::parse(&vec![b' '; 1 << 20]).is_err());
    }
}
