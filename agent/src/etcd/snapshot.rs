//! This module owns [`Snapshot`]: the data of etcd at one moment, as the member of this host hands it out.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use gantry_model::{Digest, SnapshotCheck};
use gantry_protocol::limits::MAX_SNAPSHOT_LEN;
use serde::Deserialize;
use serde_json::json;

use super::answers::Answers;
use super::client::{EtcdClient, EtcdError};
use super::members::LOCAL;
use super::readiness::read_by_quorum;

/// etcd's `SnapshotResponse`, as far as it matters here.
#[derive(Deserialize)]
struct Part {
    #[serde(default)]
    blob: String,
}

/// A snapshot on its way.
pub(crate) struct Snapshot {
    answers: Answers,
    check: SnapshotCheck,
}

impl Snapshot {
    /// Asks the member of this host for one.
    ///
    /// # Errors
    /// When this host has none, or etcd has no quorum.
    pub(crate) async fn begin() -> Result<Self, EtcdError> {
        let client = EtcdClient::of_this_host()?;
        // A member that lost the others would hand out old data without a word.
        read_by_quorum(&client).await?;
        Ok(Self {
            answers: client.stream(LOCAL, "maintenance/snapshot", &json!({})).await?,
            check: SnapshotCheck::default(),
        })
    }

    /// The next bytes; none when everything came.
    ///
    /// # Errors
    /// When etcd fails.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, EtcdError> {
        let Some(part) = self.answers.next::<Part>().await? else {
            return Ok(None);
        };
        let refused = |reason: String| EtcdError::Refused {
            address: LOCAL,
            reason,
        };
        let bytes = STANDARD
            .decode(part.blob)
            .map_err(|error| refused(format!("a part of its snapshot is not base64: {error}")))?;
        self.check.add(&bytes);
        if self.check.len() > MAX_SNAPSHOT_LEN {
            return Err(refused(format!(
                "its data has more than {MAX_SNAPSHOT_LEN} bytes"
            )));
        }
        Ok(Some(bytes.into()))
    }

    /// The digest of what came, once everything did.
    ///
    /// # Errors
    /// When it is not what etcd wrote.
    pub(crate) fn finish(self) -> Result<Digest, EtcdError> {
        Ok(self.check.finish()?)
    }
}
