//! Every bound on what a registry, a token server or a configuration file may ask of this program.

use std::time::Duration;

/// Most bytes of an error's body that are read.
pub const MAX_ERROR_LEN: usize = 64 << 10;
/// Most bytes of a token server's answer.
pub const MAX_TOKEN_LEN: usize = 1 << 20;
/// Most bytes of one page of a list of tags.
pub const MAX_TAGS_PAGE_LEN: usize = 8 << 20;
/// Most tags of one repository that are listed.
pub const MAX_TAGS: usize = 100_000;
/// Most bytes of a `WWW-Authenticate` header.
pub const MAX_CHALLENGE_LEN: usize = 8 << 10;
/// Most redirects on the way to one body.
pub const MAX_REDIRECTS: usize = 5;
/// Most manifests that an index may name.
pub const MAX_INDEX_ENTRIES: usize = 1000;
/// Most bytes of an auth file, a `registries.conf` or a certificate.
pub const MAX_FILE_LEN: u64 = 4 << 20;
/// Most bytes a credential helper may answer.
pub const MAX_HELPER_LEN: u64 = 64 << 10;
/// How long a credential helper may take: it may ask a person.
pub const HELPER_PATIENCE: Duration = Duration::from_mins(1);
/// How long connecting may take.
pub const CONNECT_PATIENCE: Duration = Duration::from_secs(20);
/// How long nothing may move on a connection.
pub const IDLE_PATIENCE: Duration = Duration::from_mins(1);
/// How long a registry may think about a whole blob: some hash it again before they answer.
pub const COMMIT_PATIENCE: Duration = Duration::from_mins(10);
/// Longest wait that a registry may ask for with `Retry-After`.
pub const MAX_RETRY_AFTER: Duration = Duration::from_mins(10);
/// Blobs on the way at the same time, of one image.
pub const PARALLEL_BLOBS: usize = 4;
/// Blobs up to this size are sent in one request.
pub const SMALL_BLOB_LEN: u64 = 4 << 20;
/// Bytes read from a file and handed to a connection at a time.
pub const PIECE_LEN: usize = 256 << 10;
