//! This module owns [`Credentials`]: who we are towards a registry, and where that is looked up.

mod auth_file;
mod helper;

use std::fmt;
use std::path::PathBuf;

pub use auth_file::AuthFile;

use self::auth_file::Entry;
use crate::places::Places;
use crate::{Namespace, RegistryError, Repository};

/// What a registry, or its token server, is shown. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A name and a password or access token.
    Password {
        /// The name.
        user: String,
        /// The password.
        secret: String,
    },
    /// A token that the token server exchanges (docker's `identitytoken`).
    IdentityToken(String),
}

impl Credentials {
    /// The name, for messages.
    #[must_use]
    pub fn user(&self) -> &str {
        match self {
            Self::Password { user, .. } => user,
            Self::IdentityToken(_) => "the identity token",
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({})", self.user())
    }
}

/// The credentials for a repository, from the first auth file that has some.
pub(crate) async fn look_up(
    places: &Places,
    repository: &Repository,
) -> Result<Option<Credentials>, RegistryError> {
    for path in places.auth_files() {
        let found = AuthFile::read(&path)?.entry(repository)?;
        let credentials = match found {
            None => None,
            Some(Entry::Here(credentials)) => Some(credentials),
            Some(Entry::Helper(helper)) => helper.get(repository.registry()).await?,
        };
        if credentials.is_some() {
            return Ok(credentials);
        }
    }
    Ok(None)
}

/// Keeps credentials for later commands. Gives the file or the helper that has them now.
///
/// # Errors
/// When nothing can be written, or the helper that is asked for has no place for a part of a registry.
pub(crate) async fn keep(
    path: PathBuf,
    namespace: &Namespace,
    credentials: &Credentials,
) -> Result<String, RegistryError> {
    let mut file = AuthFile::read(&path)?;
    let registry = namespace.registry();
    if let Some(helper) = file.helper(registry)? {
        if !namespace.is_whole() {
            return Err(RegistryError::Credentials(format!(
                "{} keeps logins to whole registries alone: log in to {registry}, or give another file with --authfile",
                helper.program()
            )));
        }
        helper.store(registry, credentials).await?;
        return Ok(helper.program());
    }
    file.set(namespace, credentials);
    file.write()?;
    Ok(path.display().to_string())
}

/// Forgets the credentials for a registry or a part of it. Gives the file or helper that had them.
///
/// # Errors
/// When something cannot be read or written.
pub(crate) async fn forget(path: PathBuf, namespace: &Namespace) -> Result<Option<String>, RegistryError> {
    let mut file = AuthFile::read(&path)?;
    let registry = namespace.registry();
    if let Some(helper) = file.helper(registry)?
        && namespace.is_whole()
        && helper.get(registry).await?.is_some()
    {
        helper.erase(registry).await?;
        return Ok(Some(helper.program()));
    }
    if !file.remove(namespace) {
        return Ok(None);
    }
    file.write()?;
    Ok(Some(path.display().to_string()))
}
