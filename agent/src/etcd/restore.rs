//! Brings the keys of etcd back to what a snapshot holds, by changes like any others: its members stay who they are, its
//! revisions go on, and so nobody who watches keys misses a change (that is what happens when a member's files are
//! exchanged: etcd issue 16028). What is the same is not written again, so it can be begun anew at any moment.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gantry_model::SnapshotCheck;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use tokio::net::TcpStream;
use tokio::task;
use tokio::time::timeout;

use super::EtcdError;
use super::client::EtcdClient;
use super::members::{LOCAL, members};
use super::{Database, DatabaseError, Place};

/// The namespace by whose id clusters are told apart.
const NAMESPACE: &[u8] = b"/registry/namespaces/kube-system";
/// Where API servers note how far they compacted: a matter of this etcd, not of what it holds.
const COMPACTED: &[u8] = b"compact_rev_key";
/// How many keys are asked for at a time.
const PAGE: usize = 32;
/// Longest answer with so many, in bytes: values of 1.5 MiB each, in base64.
const MAX_PAGE_LEN: usize = 72 << 20;
/// Where API servers answer.
const API_SERVER_PORT: u16 = 6443;
/// How long one may take to answer.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// How much of a snapshot is read at a time, in bytes.
const READ_LEN: usize = 1 << 20;
/// Most changes in one request: etcd takes 128.
const MAX_CHANGES: usize = 100;
/// Most bytes of keys and values in one request, unless a single one has more: etcd takes 1.5 MiB.
const MAX_REQUEST_LEN: usize = 1 << 20;

/// Why etcd does not hold what the snapshot holds.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RestoreError {
    /// etcd cannot be asked.
    #[error(transparent)]
    Etcd(#[from] EtcdError),
    /// The snapshot cannot be read.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// It holds something else.
    #[error("the snapshot is not of this cluster: {0}; nothing was changed in etcd")]
    OtherCluster(String),
    /// Somebody goes on changing the cluster.
    #[error("an API server still answers at {0}; nothing was changed in etcd")]
    ApiServer(SocketAddr),
    /// A thread of the agent ended.
    #[error("reading the snapshot was cut off: {0}")]
    CutOff(#[from] task::JoinError),
}

/// What a restore came to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Restored {
    /// Keys that were the same.
    pub(crate) kept: u64,
    /// Keys that were given another value.
    pub(crate) written: u64,
    /// Keys that went.
    pub(crate) removed: u64,
}

/// etcd's `RangeResponse`, as far as it matters here. What is empty is left out.
#[derive(Debug, Default, Deserialize)]
struct Range {
    #[serde(default)]
    kvs: Vec<KeyValue>,
    #[serde(default)]
    more: bool,
}

#[derive(Debug, Deserialize)]
struct KeyValue {
    key: Base64,
    #[serde(default)]
    value: Base64,
    #[serde(default)]
    lease: String,
}

#[derive(Debug, Default)]
struct Base64(Vec<u8>);

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        STANDARD
            .decode(&*text)
            .map(Self)
            .map_err(serde::de::Error::custom)
    }
}

/// Makes etcd hold what the snapshot at `path` holds; what has a lease is left alone.
///
/// # Errors
/// When the snapshot is of another cluster, or etcd fails meanwhile: what was changed by then stays changed.
pub(crate) async fn restore(path: &Path) -> Result<Restored, RestoreError> {
    Restore::of(path).await?.run().await
}

/// Whether the snapshot at `path` is one of this host's cluster.
///
/// # Errors
/// When it is not, or that cannot be found out.
pub(crate) async fn check_origin(path: &Path) -> Result<(), RestoreError> {
    Restore::of(path).await?.is_of_this_cluster().await
}

struct Restore {
    client: EtcdClient,
    database: Arc<Database>,
    /// What the snapshot holds and etcd was not yet seen to hold.
    wanted: BTreeMap<Vec<u8>, Place>,
    changes: Changes,
    restored: Restored,
}

impl Restore {
    async fn of(path: &Path) -> Result<Self, RestoreError> {
        let path = path.to_owned();
        let read = task::spawn_blocking(move || {
            check_whole(&path)?;
            let database = Database::open(&path)?;
            let keys = database.keys()?;
            Ok::<_, DatabaseError>((database, keys))
        });
        let (database, wanted) = read.await??;
        let client = EtcdClient::of_this_host()?;
        Ok(Self {
            changes: Changes::new(client.clone()),
            client,
            database: Arc::new(database),
            wanted,
            restored: Restored::default(),
        })
    }

    async fn run(mut self) -> Result<Restored, RestoreError> {
        self.is_of_this_cluster().await?;
        no_api_server_answers().await?;
        self.wanted.remove(COMPACTED);
        let mut from = vec![0];
        loop {
            let page = self.page(&from).await?;
            let Some(last) = page.kvs.last() else { break };
            from = [&last.key.0[..], &[0]].concat();
            let more = page.more;
            for present in page.kvs {
                self.compare(present).await?;
            }
            if !more {
                break;
            }
        }
        for (key, place) in std::mem::take(&mut self.wanted) {
            let value = self.value(place).await?;
            self.restored.written += 1;
            self.changes.put(&key, &value).await?;
        }
        self.changes.send().await?;
        Ok(self.restored)
    }

    async fn compare(&mut self, present: KeyValue) -> Result<(), RestoreError> {
        let (key, leased) = (present.key.0, !matches!(present.lease.as_str(), "" | "0"));
        if key == COMPACTED {
            return Ok(());
        }
        match self.wanted.remove(&key) {
            Some(place) => {
                let value = self.value(place).await?;
                if value == present.value.0 && !leased {
                    self.restored.kept += 1;
                } else {
                    self.restored.written += 1;
                    self.changes.put(&key, &value).await?;
                }
            }
            None if leased => {}
            None => {
                self.restored.removed += 1;
                self.changes.remove(&key).await?;
            }
        }
        Ok(())
    }

    /// The snapshot of another cluster would give this one its certificates, tokens and nodes.
    async fn is_of_this_cluster(&self) -> Result<(), RestoreError> {
        let other = |why: &str| Err(RestoreError::OtherCluster(why.to_owned()));
        let Some(place) = self.wanted.get(NAMESPACE) else {
            return other("it holds no namespace kube-system");
        };
        let body = json!({ "key": STANDARD.encode(NAMESPACE) });
        let ours: Range = self.client.call(LOCAL, "kv/range", &body).await?;
        let theirs = self.value(*place).await?;
        let ours = ours.kvs.first().map(|ours| ours.value.0.as_slice());
        match (ours.and_then(uid), uid(&theirs)) {
            (Some(ours), Some(theirs)) if ours == theirs => Ok(()),
            (Some(ours), Some(theirs)) => other(&format!(
                "its namespace kube-system is {theirs}, this cluster's is {ours}"
            )),
            // Encrypted values are the same while nobody changes them.
            (None, None) if ours == Some(&theirs) => Ok(()),
            (None, _) if ours.is_none() => other("this etcd holds no namespace kube-system to compare with"),
            _ => other("its namespace kube-system is another one"),
        }
    }

    async fn page(&self, from: &[u8]) -> Result<Range, EtcdError> {
        // Every key from there on (etcd.io, "Range"): a single zero byte stands for the end of all keys.
        let body = json!({ "key": STANDARD.encode(from), "range_end": STANDARD.encode([0]), "limit": PAGE });
        self.client.call_for(LOCAL, "kv/range", &body, MAX_PAGE_LEN).await
    }

    async fn value(&self, place: Place) -> Result<Vec<u8>, RestoreError> {
        let database = Arc::clone(&self.database);
        Ok(task::spawn_blocking(move || database.value(place)).await??)
    }
}

/// Kept snapshots may be old: what etcd wrote behind them still has to fit.
fn check_whole(path: &Path) -> Result<(), DatabaseError> {
    let mut file = File::open(path)?;
    let mut check = SnapshotCheck::default();
    let mut part = vec![0; READ_LEN];
    loop {
        match file.read(&mut part)? {
            0 => break,
            len => check.add(&part[..len]),
        }
    }
    check
        .finish()
        .map(drop)
        .map_err(|error| DatabaseError::Damaged(error.to_string()))
}

/// Wherever etcd has a member there is a control plane, known to whoever planned or not.
async fn no_api_server_answers() -> Result<(), RestoreError> {
    for member in members().await?.0 {
        let address = SocketAddr::new(member.address, API_SERVER_PORT);
        if let Ok(Ok(_)) = timeout(CONNECT_LIMIT, TcpStream::connect(address)).await {
            return Err(RestoreError::ApiServer(address));
        }
    }
    Ok(())
}

/// Changes that are sent together.
struct Changes {
    client: EtcdClient,
    waiting: Vec<Json>,
    len: usize,
}

impl Changes {
    const fn new(client: EtcdClient) -> Self {
        Self {
            client,
            waiting: Vec::new(),
            len: 0,
        }
    }

    async fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), EtcdError> {
        let change =
            json!({ "requestPut": { "key": STANDARD.encode(key), "value": STANDARD.encode(value) } });
        self.add(change, key.len() + value.len()).await
    }

    async fn remove(&mut self, key: &[u8]) -> Result<(), EtcdError> {
        let change = json!({ "requestDeleteRange": { "key": STANDARD.encode(key) } });
        self.add(change, key.len()).await
    }

    async fn add(&mut self, change: Json, len: usize) -> Result<(), EtcdError> {
        if self.waiting.len() == MAX_CHANGES || self.len + len > MAX_REQUEST_LEN {
            self.send().await?;
        }
        self.waiting.push(change);
        self.len += len;
        Ok(())
    }

    async fn send(&mut self) -> Result<(), EtcdError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let body = json!({ "success": std::mem::take(&mut self.waiting) });
        self.len = 0;
        let _: Json = self.client.call_for(LOCAL, "kv/txn", &body, MAX_PAGE_LEN).await?;
        Ok(())
    }
}

/// The id in an object as API servers store it: the first UUID (RFC 9562) there is.
fn uid(object: &[u8]) -> Option<&str> {
    const LEN: usize = 36;
    let is_uid = |bytes: &&[u8]| {
        bytes.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
    };
    let found = object.windows(LEN).find(is_uid)?;
    std::str::from_utf8(found).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_told_by_the_id_of_its_first_namespace() {
        let stored = b"k8s\0\n\x0f\n\x02v1\x12\tNamespace\x12\x80\n\x0bkube-system*$0b7f1c52-3d6e-4f3a-9a55-0d8b3a1c7e21\x32\0";
        assert_eq!(uid(stored), Some("0b7f1c52-3d6e-4f3a-9a55-0d8b3a1c7e21"));
        assert_eq!(uid(b"k8s:enc:aescbc:v1:key1:\xff\x01-"), None);
    }

    #[test]
    fn an_answer_is_read_as_etcd_writes_it() {
        let text = r#"{"header":{"revision":"9"},"kvs":[{"key":"az","create_revision":"2","lease":"7"},
            {"key":"ag==","value":"d29yZA=="}],"more":true,"count":"3"}"#;
        assert!(serde_json::from_str::<Range>(text).is_err(), "that is no base64");
        let range: Range = serde_json::from_str(&text.replace("\"az\"", "\"aw==\"")).unwrap();
        assert_eq!(
            (range.kvs[0].key.0.as_slice(), range.kvs[0].lease.as_str()),
            (&b"k"[..], "7")
        );
        assert_eq!(range.kvs[1].value.0, b"word");
        assert!(range.more);
        let empty: Range = serde_json::from_str(r#"{"header":{}}"#).unwrap();
        assert!(empty.kvs.is_empty() && !empty.more);
    }
}
