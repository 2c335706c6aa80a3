//! This module owns [`Helper`]: a program `docker-credential-NAME` that keeps credentials in a keyring
//! (docker-credential-helpers, "Development").

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use tokio::time::timeout;

use super::Credentials;
use crate::limits::{HELPER_PATIENCE, MAX_HELPER_LEN};
use crate::printable::printable;
use crate::{Registry, RegistryError};

/// The user name that says that the secret is an identity token.
const TOKEN_USER: &str = "<token>";
/// What helpers say, by protocol, when they have nothing for a registry.
const NOTHING_FOUND: &str = "credentials not found";

/// A credential helper that an auth file names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Helper {
    name: String,
    named_in: PathBuf,
}

/// What a helper has for a registry.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Kept {
    #[serde(default)]
    username: String,
    secret: String,
}

impl Helper {
    /// The helper that the auth file `named_in` calls `name`, which has to be the end of a program's name and nothing else.
    ///
    /// # Errors
    /// When it is not.
    pub(super) fn named(name: &str, named_in: &Path) -> Result<Self, RegistryError> {
        let legal = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        if !name.is_empty() && name.bytes().all(legal) {
            return Ok(Self {
                name: name.to_owned(),
                named_in: named_in.to_owned(),
            });
        }
        Err(RegistryError::Config {
            path: named_in.to_owned(),
            place: String::new(),
            reason: format!("{name:?} is not the name of a credential helper"),
        })
    }

    /// The program.
    pub(super) fn program(&self) -> String {
        format!("docker-credential-{}", self.name)
    }

    /// The credentials that it has for a registry.
    pub(super) async fn get(&self, registry: &Registry) -> Result<Option<Credentials>, RegistryError> {
        let answer = match self.run("get", registry.docker_key().to_owned()).await {
            Ok(answer) => answer,
            Err(reason) if reason.contains(NOTHING_FOUND) => return Ok(None),
            Err(reason) => return Err(self.failed(registry, &reason)),
        };
        // The error of the parser could quote a secret.
        let kept: Kept = serde_json::from_str(&answer)
            .map_err(|_| self.failed(registry, "its answer is no JSON object with Username and Secret"))?;
        let (user, secret) = (kept.username, kept.secret);
        if secret.is_empty() {
            return Ok(None);
        }
        Ok(Some(if user == TOKEN_USER {
            Credentials::IdentityToken(secret)
        } else {
            Credentials::Password { user, secret }
        }))
    }

    /// Gives it credentials to keep.
    pub(super) async fn store(
        &self,
        registry: &Registry,
        credentials: &Credentials,
    ) -> Result<(), RegistryError> {
        let (user, secret) = match credentials {
            Credentials::Password { user, secret } => (user.as_str(), secret),
            Credentials::IdentityToken(token) => (TOKEN_USER, token),
        };
        let input = json!({ "ServerURL": registry.docker_key(), "Username": user, "Secret": secret });
        let stored = self.run("store", input.to_string()).await;
        stored.map(drop).map_err(|reason| self.failed(registry, &reason))
    }

    /// Makes it forget a registry.
    pub(super) async fn erase(&self, registry: &Registry) -> Result<(), RegistryError> {
        let erased = self.run("erase", registry.docker_key().to_owned()).await;
        erased.map(drop).map_err(|reason| self.failed(registry, &reason))
    }

    async fn run(&self, verb: &str, input: String) -> Result<String, String> {
        ask(self.program().as_ref(), verb, &input).await
    }

    fn failed(&self, registry: &Registry, reason: &str) -> RegistryError {
        RegistryError::Credentials(format!(
            "credential helper {}, which {} names, fails for registry {registry}: {}",
            self.program(),
            self.named_in.display(),
            printable(reason)
        ))
    }
}

/// Runs a helper; what it says when it fails comes back as the error.
async fn ask(program: &OsStr, verb: &str, input: &str) -> Result<String, String> {
    let mut child = Command::new(program)
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                "there is no such program; install it, or take it out of that file".to_owned()
            }
            _ => format!("it cannot be started: {error}"),
        })?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let talk = async {
        if let Some(mut stdin) = stdin {
            // A helper that does not read answers nevertheless.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        let mut answer = Vec::new();
        if let Some(stdout) = stdout {
            stdout
                .take(MAX_HELPER_LEN + 1)
                .read_to_end(&mut answer)
                .await
                .map_err(|error| format!("its answer cannot be read: {error}"))?;
        }
        if answer.len() as u64 > MAX_HELPER_LEN {
            return Err(format!("its answer is longer than {MAX_HELPER_LEN} bytes"));
        }
        let answer = String::from_utf8(answer).map_err(|_| "its answer is no text".to_owned())?;
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A helper that does this.
    fn helper(folder: &tempfile::TempDir, script: &str) -> PathBuf {
        let path = folder.path().join("docker-credential-test");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[tokio::test]
    async fn what_goes_wrong_is_said() {
        let folder = tempfile::tempdir().unwrap();
        for (script, reason) in [
            ("echo the keyring is locked; exit 1", "the keyring is locked"),
            ("exit 3", "it ended with exit status: 3"),
            ("yes", "longer than 65536 bytes"),
            ("printf '\\377'", "its answer is no text"),
        ] {
            let program = helper(&folder, script);
            assert_eq!(
                ask(program.as_ref(), "get", "hub")
                    .await
                    .map_err(|said| said.contains(reason)),
                Err(true),
                "{script}"
            );
        }
        let said = ask("docker-credential-of-nobody".as_ref(), "get", "hub").await;
        assert!(said.unwrap_err().starts_with("there is no such program"));
    }

    // Time jumps when nothing but a timer is waited for.
    #[tokio::test(start_paused = true)]
    async fn one_that_hangs_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let program = helper(&folder, "exec sleep 1000");
        let said = ask(program.as_ref(), "get", "hub").await.unwrap_err();
        assert_eq!(said, "it did not answer within 60 s");
    }

    #[test]
    fn an_error_names_helper_file_and_registry() {
        let helper = Helper::named("true", Path::new("config.json")).unwrap();
        let error = helper
            .failed(&Registry::parse("hub:5000").unwrap(), "it\nends")
            .to_string();
        assert!(
            error.starts_with("credential helper docker-credential-true, which config.json names, fails for registry hub:5000: "),
            "{error}"
        );
        assert!(!error.contains('\n'), "{error}");
    }
}
