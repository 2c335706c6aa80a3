//! This module owns credential helpers: programs `docker-credential-NAME` that keep credentials in a keyring
//! (docker-credential-helpers, "Development").

use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use tokio::time::timeout;

use super::Credentials;
use crate::limits::{HELPER_PATIENCE, MAX_HELPER_LEN};
use crate::printable::printable;
use crate::{Registry, RegistryError};

/// The user name that says that the secret is an identity token.
const TOKEN_USER: &str = "<token>";

/// `name`, if it can be the end of a program's name and nothing else.
pub(super) fn checked(name: &str, path: &Path) -> Result<String, RegistryError> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if !name.is_empty() && name.bytes().all(legal) {
        return Ok(name.to_owned());
    }
    Err(RegistryError::Config {
        path: path.to_owned(),
        place: String::new(),
        reason: format!("{name:?} is not the name of a credential helper"),
    })
}

/// The credentials that the helper has for a registry.
pub(super) async fn get(name: &str, registry: &Registry) -> Result<Option<Credentials>, RegistryError> {
    let answer = match run(name, "get", registry.docker_key().to_owned()).await {
        Ok(answer) => answer,
        // Helpers say so in these words, by protocol.
        Err(reason) if reason.contains("credentials not found") => return Ok(None),
        Err(reason) => return Err(failed(name, registry, &reason)),
    };
    let answer: Value = serde_json::from_str(&answer)
        .map_err(|_| failed(name, registry, "its answer is not what helpers say"))?;
    let text = |field: &str| {
        answer
            .get(field)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let (user, secret) = (text("Username"), text("Secret"));
    if secret.is_empty() {
        return Ok(None);
    }
    Ok(Some(if user == TOKEN_USER {
        Credentials::IdentityToken(secret)
    } else {
        Credentials::Password { user, secret }
    }))
}

/// Gives credentials to the helper.
pub(super) async fn store(
    name: &str,
    registry: &Registry,
    credentials: &Credentials,
) -> Result<(), RegistryError> {
    let (user, secret) = match credentials {
        Credentials::Password { user, secret } => (user.as_str(), secret),
        Credentials::IdentityToken(token) => (TOKEN_USER, token),
    };
    let input = json!({ "ServerURL": registry.docker_key(), "Username": user, "Secret": secret });
    let stored = run(name, "store", input.to_string()).await;
    stored.map(drop).map_err(|reason| failed(name, registry, &reason))
}

/// Makes the helper forget a registry.
pub(super) async fn erase(name: &str, registry: &Registry) -> Result<(), RegistryError> {
    let erased = run(name, "erase", registry.docker_key().to_owned()).await;
    erased.map(drop).map_err(|reason| failed(name, registry, &reason))
}

fn failed(name: &str, registry: &Registry, reason: &str) -> RegistryError {
    let reason = printable(reason);
    RegistryError::Credentials(format!(
        "credential helper docker-credential-{name} fails for registry {registry}: {reason}"
    ))
}

/// Runs the helper; what it says when it fails comes back as the error.
async fn run(name: &str, verb: &str, input: String) -> Result<String, String> {
    let program = format!("docker-credential-{name}");
    let mut child = Command::new(&program)
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("cannot start it: {error}"))?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let talk = async {
        if let Some(mut stdin) = stdin {
            // A helper that does not read answers nevertheless.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        let mut answer = String::new();
        if let Some(stdout) = stdout {
            stdout
                .take(MAX_HELPER_LEN)
                .read_to_string(&mut answer)
                .await
                .map_err(|error| format!("its answer cannot be read: {error}"))?;
        }
        let status = child.wait().await.map_err(|error| error.to_string())?;
        match (status.success(), answer.trim()) {
            (true, _) => Ok(answer),
            (false, "") => Err(format!("it ended with {status}")),
            (false, reason) => Err(reason.to_owned()),
        }
    };
    timeout(HELPER_PATIENCE, talk)
        .await
        .map_err(|_| format!("it did not answer within {} s", HELPER_PATIENCE.as_secs()))?
}
