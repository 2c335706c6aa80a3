//! Fetches a file over HTTP. Nothing is remembered of who asks: no cookies, no credentials.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use gantry_model::{Digest, ExitCode};
use gantry_registry_client::web_client;
use reqwest::{Client, StatusCode, Url};
use sha2::{Digest as _, Sha256};

use super::{FetchError, shown};

/// Most bytes of a file: more than any program or archive that a cluster needs.
const MAX_LEN: u64 = 64 << 30;
/// How often it is asked for.
const TRIES: u32 = 3;
/// How long it is left alone between two tries.
const WAIT: Duration = Duration::from_secs(1);

/// A try that failed.
enum Failure {
    /// The next may do better.
    Passing(String),
    /// Another would end the same way.
    Final(FetchError),
}

/// Writes the file behind `url` to `place`, and gives its digest. It has to have this digest, if one is given.
///
/// # Errors
/// When it cannot be had, or is something else: nothing is at `place` then.
pub(super) fn download(url: &Url, checksum: Option<Digest>, place: &Path) -> Result<Digest, FetchError> {
    let failed = |message: String| FetchError {
        code: ExitCode::Failed,
        message,
        help: "",
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| failed(format!("cannot speak HTTP: {error}")))?;
    let client = web_client().map_err(|error| failed(error.to_string()))?;
    let mut tries = 0;
    let found = loop {
        tries += 1;
        match runtime.block_on(once(&client, url, place)) {
            Ok(found) => break found,
            Err(Failure::Final(error)) => return Err(error),
            Err(Failure::Passing(reason)) if tries == TRIES => {
                return Err(FetchError {
                    code: ExitCode::Unreachable,
                    message: format!("cannot fetch {}: {reason}", shown(url)),
                    help: "run the same command again, or fetch it into the build context and COPY it from there",
                });
            }
            Err(Failure::Passing(_)) => std::thread::sleep(WAIT),
        }
    };
    if let Some(expected) = checksum.filter(|expected| *expected != found) {
        let _ = fs::remove_file(place);
        return Err(FetchError {
            code: ExitCode::Verification,
            message: format!(
                "{} is not what --checksum says: it has {found}, and not {expected}",
                shown(url)
            ),
            help: "nothing of it was kept; ask its vendor which of them is right",
        });
    }
    // The same for whoever builds: an image does not depend on a umask.
    fs::set_permissions(place, fs::Permissions::from_mode(0o644))
        .map_err(|error| failed(format!("cannot write {}: {error}", place.display())))?;
    Ok(found)
}

async fn once(client: &Client, url: &Url, place: &Path) -> Result<Digest, Failure> {
    let failed = |code, message: String, help| Failure::Final(FetchError { code, message, help });
    let passing = |error: reqwest::Error| Failure::Passing(causes(&error));
    let mut response = client.get(url.clone()).send().await.map_err(passing)?;
    match response.status() {
        status if status.is_success() => {}
        status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            return Err(Failure::Passing(format!("the server answers with {status}")));
        }
        status => {
            let message = format!("cannot fetch {}: the server answers with {status}", shown(url));
            return Err(failed(ExitCode::Input, message, "look at the address"));
        }
    }
    let announced = response.content_length();
    let unwritable = |error| {
        let message = format!("cannot write {}: {error}", place.display());
        failed(ExitCode::Failed, message, "")
    };
    let mut file = File::create(place).map_err(unwritable)?;
    let (mut hasher, mut len) = (Sha256::new(), 0_u64);
    while let Some(piece) = response.chunk().await.map_err(passing)? {
        len += piece.len() as u64;
        if len > MAX_LEN {
            let message = format!("{} is larger than {} GiB", shown(url), MAX_LEN >> 30);
            return Err(failed(ExitCode::Input, message, "nothing of it was kept"));
        }
        hasher.update(&piece);
        file.write_all(&piece).map_err(unwritable)?;
    }
    if announced.is_some_and(|announced| announced != len) {
        return Err(Failure::Passing(format!("it ended after {len} bytes")));
    }
    Ok(Digest::from_bytes(hasher.finalize().into()))
}

/// An error with what is behind it; the address is said elsewhere.
fn causes(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
