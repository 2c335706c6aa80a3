//! This module owns how the agent gets its identity: it waits for a token, then for the orchestrator that has it too.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use gantry_system::files;
use gantry_transport::{AgentKey, EnrolmentListener, Identity, Token};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::image_keys::ImageKeys;
use crate::systemd;

/// How often the token's file is looked at.
const LOOK_AT_TOKEN: Duration = Duration::from_secs(1);

/// Why the agent cannot be enrolled.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The identity on disk cannot be used.
    #[error(transparent)]
    Identity(#[from] gantry_transport::IdentityError),
    /// The port is not to be had.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// Waits until this host is enrolled. None: `stop` was cancelled before.
///
/// # Errors
/// When the key cannot be made or the port is taken.
pub async fn enrol(config: &Config, stop: &CancellationToken) -> Result<Option<Identity>, EnrolError> {
    let folder = config.identity();
    let key = AgentKey::load_or_create(&folder)?;
    let address = config.listen_address();
    loop {
        let Some(text) = wait_for_token(config, &key, stop).await else {
            return Ok(None);
        };
        let token = match usable(&text) {
            Ok(token) => token,
            Err(reason) => {
                tracing::error!(
                    "the token in {} cannot be used: {reason}",
                    config.token_file.display()
                );
                systemd::status(&format!("not enrolled: {reason}"));
                if wait_for_change(&config.token_file, &text, stop).await {
                    continue;
                } else {
                    return Ok(None);
                }
            }
        };
        let remaining = token
            .expires()
            .duration_since(SystemTime::now())
            .unwrap_or_default();
        let listener =
            EnrolmentListener::bind(address, key.clone(), token.clone(), env!("CARGO_PKG_VERSION"))
                .await
                .map_err(|source| EnrolError::Listen { address, source })?;
        tracing::info!(
            token = token.id(),
            "waiting on {} to be enrolled; run gantry enroll",
            listener.local_addr()
        );
        systemd::ready("waiting to be enrolled");
        let store = |identity: &Identity| {
            identity
                .save(&folder)
                .map_err(|error| io::Error::other(error.to_string()))
        };
        tokio::select! {
            enrolled = listener.wait(store) => match enrolled {
                Ok(identity) => {
                    tracing::info!(name = identity.name(), serial = identity.serial(), "enrolled");
                    remove_token(&config.token_file);
                    return Ok(Some(identity));
                }
                Err(error) => {
                    tracing::error!("{error}");
                    sleep(LOOK_AT_TOKEN).await;
                }
            },
            // Another token, or the same one past its end: read it again.
            changed = wait_for_change(&config.token_file, &text, stop) => if !changed { return Ok(None) },
            () = sleep(remaining) => {}
        }
    }
}

/// Writes `token` where the running agent finds it.
///
/// # Errors
/// When it is no token, has ended, or the file cannot be written.
pub fn drop_token(path: &Path, text: &str) -> anyhow::Result<()> {
    use anyhow::Context as _;
    let text = text.trim();
    usable(text).map_err(|reason| anyhow::anyhow!("this token cannot be used: {reason}"))?;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let line = format!("{text}\n");
    files::write_atomically(path, line.as_bytes(), 0o600)
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Removes a used token: it is of no use to anybody, and nobody should have to find that out.
pub fn remove_token(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!("cannot remove the used token {}: {error}", path.display());
        }
        _ => {}
    }
}

/// Removes this host's identity, key and all: a host that is enrolled anew has a new one. With it go the keys for images that those
/// brought who were trusted by it. False when there is none.
///
/// # Errors
/// When it cannot be removed.
pub fn forget_identity(config: &Config) -> anyhow::Result<bool> {
    use anyhow::Context as _;
    let folder = config.identity();
    if !Identity::exists(&folder) {
        return Ok(false);
    }
    ImageKeys::new(&config.image_keys()).keep_owners()?;
    fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    Ok(true)
}

fn usable(text: &str) -> Result<Token, String> {
    let token: Token = text
        .parse()
        .map_err(|error: gantry_transport::EnrolmentError| error.to_string())?;
    if token.expires() <= SystemTime::now() {
        return Err("it has ended by this host's clock; run gantry token create for a new one".into());
    }
    Ok(token)
}

async fn wait_for_token(config: &Config, key: &AgentKey, stop: &CancellationToken) -> Option<String> {
    if let Some(text) = read(&config.token_file) {
        return Some(text);
    }
    let path = config.token_file.display();
    tracing::info!(key = %key.fingerprint(), "not enrolled; waiting for a token in {path} (gantry-agent enroll)");
    systemd::ready("not enrolled: waiting for a token");
    if !wait_for_change(&config.token_file, "", stop).await {
        return None;
    }
    read(&config.token_file)
}

/// True once the file says something else than `text`, false when `stop` is cancelled first.
async fn wait_for_change(path: &Path, text: &str, stop: &CancellationToken) -> bool {
    loop {
        tokio::select! {
            () = stop.cancelled() => return false,
            () = sleep(LOOK_AT_TOKEN) => {}
        }
        if read(path).unwrap_or_default() != text {
            return true;
        }
    }
}

/// None: there is no token. A file that cannot be read is no token either, and says so.
fn read(path: &Path) -> Option<String> {
    match fs::read_to_string(path) {
        Ok(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            tracing::warn!("cannot read {}: {error}", path.display());
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn only_tokens_that_can_be_used_are_dropped_and_nobody_else_reads_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("etc/gantry/token");
        assert!(drop_token(&path, "hello").is_err());
        let token = Token::create(Duration::from_secs(60)).to_string();
        drop_token(&path, &format!("  {token}\n")).unwrap();
        assert_eq!(read(&path), Some(token));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let over = Token::create(Duration::ZERO).to_string();
        assert!(
            drop_token(&path, &over)
                .unwrap_err()
                .to_string()
                .contains("ended")
        );
        remove_token(&path);
        assert_eq!(read(&path), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_token_and_a_stop_are_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let stop = CancellationToken::new();
        fs::write(&path, "one\n").unwrap();
        let changed = tokio::spawn({
            let (path, stop) = (path.clone(), stop.clone());
            async move { wait_for_change(&path, "one", &stop).await }
        });
        fs::write(&path, "two\n").unwrap();
        assert!(changed.await.unwrap());
        stop.cancel();
        assert!(!wait_for_change(&path, "two", &stop).await);
    }
}
