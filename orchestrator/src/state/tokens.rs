//! This module owns [`TokenFile`]: the enrolment tokens this orchestrator accepts. Their text is not kept.

use std::path::PathBuf;
use std::time::SystemTime;

use gantry_system::files::FileLock;
use gantry_transport::{TokenBook, TokenRecord, TokenRefusal};
use serde::{Deserialize, Serialize};

use super::{State, create_dir, read_json, write_json};

/// `tokens.json`.
#[derive(Debug, Clone)]
pub struct TokenFile {
    path: PathBuf,
}

#[derive(Default, Serialize, Deserialize)]
struct Content {
    tokens: Vec<TokenRecord>,
}

impl State {
    /// The enrolment tokens.
    #[must_use]
    pub fn tokens(&self) -> TokenFile {
        TokenFile {
            path: self.dir.join("tokens.json"),
        }
    }
}

impl TokenFile {
    /// Every token that has not ended.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn all(&self) -> anyhow::Result<Vec<TokenRecord>> {
        let now = SystemTime::now();
        let tokens = read_json::<Content>(&self.path)?.tokens;
        Ok(tokens
            .into_iter()
            .filter(|token| !token.is_expired(now))
            .collect())
    }

    /// Adds a token.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn add(&self, record: TokenRecord) -> anyhow::Result<()> {
        self.update(|tokens| {
            tokens.retain(|token| token.id != record.id);
            tokens.push(record);
        })
    }

    /// Removes the tokens with these ids; gives the ids that are unknown.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn remove(&self, ids: &[String]) -> anyhow::Result<Vec<String>> {
        self.update(|tokens| {
            let known = |id: &&String| tokens.iter().any(|token| token.id == **id);
            let unknown = ids.iter().filter(|id| !known(id)).cloned().collect();
            tokens.retain(|token| !ids.contains(&token.id));
            unknown
        })
    }

    /// Changes the file under its lock; tokens that ended are dropped.
    fn update<T>(&self, change: impl FnOnce(&mut Vec<TokenRecord>) -> T) -> anyhow::Result<T> {
        if let Some(dir) = self.path.parent() {
            create_dir(dir)?;
        }
        let _lock = FileLock::exclusive(&self.path.with_extension("lock"))?;
        let mut content: Content = read_json(&self.path)?;
        let now = SystemTime::now();
        content.tokens.retain(|token| !token.is_expired(now));
        let result = change(&mut content.tokens);
        write_json(&self.path, &content)?;
        Ok(result)
    }
}

impl TokenBook for TokenFile {
    fn find(&self, id: &str) -> Option<TokenRecord> {
        self.all().ok()?.into_iter().find(|token| token.id == id)
    }

    fn redeem(&self, id: &str, host: &str, fingerprint: &str) -> Result<(), TokenRefusal> {
        let redeemed = self.update(|tokens| {
            let token = tokens.iter_mut().find(|token| token.id == id);
            let token =
                token.ok_or_else(|| TokenRefusal(format!("token {id} is unknown here or has ended")))?;
            token.redeem(host, fingerprint, SystemTime::now())
        });
        redeemed.unwrap_or_else(|error| {
            Err(TokenRefusal(format!(
                "the use of token {id} cannot be recorded: {error:#}"
            )))
        })
    }
}
