//! This module owns [`Problem`]: an answer that is an error, with the codes of the OCI distribution specification.

use hyper::StatusCode;
use serde_json::{Value, json};

use super::tree::TreeError;

/// An answer that is an error.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Problem {
    /// The answer's status.
    pub(super) status: StatusCode,
    code: &'static str,
    message: &'static str,
    detail: Option<Value>,
}

impl Problem {
    const fn new(status: StatusCode, code: &'static str, message: &'static str) -> Self {
        Self {
            status,
            code,
            message,
            detail: None,
        }
    }

    fn with(self, detail: Value) -> Self {
        Self {
            detail: Some(detail),
            ..self
        }
    }

    /// Nothing is served at this path.
    pub(super) const fn no_such_path() -> Self {
        Self::new(StatusCode::NOT_FOUND, "NAME_INVALID", "invalid repository name")
    }

    /// Nothing is written here.
    pub(super) const fn read_only() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "UNSUPPORTED",
            "The operation is unsupported.",
        )
    }

    /// A digest that is none.
    pub(super) fn bad_digest() -> Self {
        let message = "provided digest did not match uploaded content";
        Self::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", message).with(json!({}))
    }

    /// More entries are asked for than one page holds.
    pub(super) fn page_too_large(n: u64) -> Self {
        let message = "invalid number of results requested";
        Self::new(StatusCode::BAD_REQUEST, "PAGINATION_NUMBER_INVALID", message).with(json!({ "n": n }))
    }

    /// The registry has no such repository.
    pub(super) fn no_repository(name: &str) -> Self {
        let message = "repository name not known to registry";
        Self::new(StatusCode::NOT_FOUND, "NAME_UNKNOWN", message).with(json!({ "name": name }))
    }

    /// The repository has no such manifest.
    pub(super) fn no_manifest(detail: Value) -> Self {
        Self::new(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", "manifest unknown").with(detail)
    }

    /// There is a manifest, of a kind that was not asked for.
    pub(super) const fn not_acceptable(message: &'static str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", message)
    }

    /// The repository has no such blob.
    pub(super) fn no_blob(digest: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", "blob unknown to registry").with(digest.into())
    }

    /// What `error` means where `missing` is what it means that something is not there.
    pub(super) fn of(error: TreeError, missing: impl FnOnce() -> Self) -> Self {
        match error {
            TreeError::Missing => missing(),
            TreeError::NoTree => {
                tracing::warn!("{error}");
                Self::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "UNAVAILABLE",
                    "the images of this host are not mounted at the moment",
                )
            }
            TreeError::Io(error) => {
                tracing::error!("cannot read the registry's tree: {error}");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", "unknown error")
            }
        }
    }

    /// The text of the answer.
    pub(super) fn to_text(&self) -> String {
        let mut error = json!({ "code": self.code, "message": self.message });
        if let Some(detail) = &self.detail {
            error["detail"] = detail.clone();
        }
        format!("{}\n", json!({ "errors": [error] }))
    }
}
