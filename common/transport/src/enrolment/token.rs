//! This module owns [`Token`], the one-time secret, and [`TokenRecord`], what the orchestrator keeps of it.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};

use super::EnrolmentError;
use crate::certificate::{hex, show, unhex};

/// First word of a token; the number is its format.
const PREFIX: &str = "gantry1";
/// Characters of the public part.
const ID_LEN: usize = 10;
/// Characters of the secret: 5 bits each, 130 in all.
const SECRET_LEN: usize = 26;
/// Digits and letters that nobody mistakes for one another (Crockford's base 32).
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// A one-time token: `gantry1.<expiry>.<id>.<secret>`. `Display` shows the secret; `Debug` does not.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// Seconds since the epoch.
    expires: u64,
    id: String,
    secret: String,
}

impl Token {
    /// A new token that ends `ttl` from now.
    ///
    /// # Panics
    /// When the system's random numbers fail: nothing here can be trusted then.
    #[must_use]
    pub fn create(ttl: Duration) -> Self {
        Self {
            expires: seconds(SystemTime::now() + ttl),
            id: random_text(ID_LEN),
            secret: random_text(SECRET_LEN),
        }
    }

    /// The public part, for lists and logs.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// When it ends.
    #[must_use]
    pub fn expires(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.expires)
    }

    /// What the orchestrator keeps of it, for `uses` hosts.
    #[must_use]
    pub fn record(&self, uses: u32) -> TokenRecord {
        TokenRecord {
            id: self.id.clone(),
            expires: self.expires,
            uses_left: uses,
            used_by: vec![],
            key: hex(&self.key()),
        }
    }

    /// The key of both proofs. The expiry goes into it: a token whose expiry was changed is another token.
    pub(super) fn key(&self) -> [u8; 32] {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, self.secret.as_bytes());
        let mut context = hmac::Context::with_key(&secret);
        context.update(b"gantry enrolment token, version 1\0");
        context.update(&self.expires.to_be_bytes());
        context.update(self.id.as_bytes());
        let mut key = [0; 32];
        key.copy_from_slice(context.sign().as_ref());
        key
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}.{:x}.{}.{}", self.expires, self.id, self.secret)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({}, ends {})", self.id, show(self.expires()))
    }
}

impl FromStr for Token {
    type Err = EnrolmentError;

    fn from_str(text: &str) -> Result<Self, EnrolmentError> {
        let wrong = |reason: &str| {
            EnrolmentError::lasting(format!(
                "this is not a token: {reason}; a token is {PREFIX}.EXPIRY.ID.SECRET, as gantry token create prints it"
            ))
        };
        let mut parts = text.trim().split('.');
        let (Some(prefix), Some(expires), Some(id), Some(secret), None) = (
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
        ) else {
            return Err(wrong("it does not have four parts"));
        };
        if prefix != PREFIX {
            return Err(wrong("it does not begin with gantry1"));
        }
        let expires = u64::from_str_radix(expires, 16).map_err(|_| wrong("its expiry is no number"))?;
        // What the calendar can hold; the clock's arithmetic must not overflow.
        if expires > u64::from(u32::MAX) * 4 {
            return Err(wrong("its expiry is no time"));
        }
        let word = |text: &str, len| text.len() == len && text.bytes().all(|byte| ALPHABET.contains(&byte));
        if !word(id, ID_LEN) || !word(secret, SECRET_LEN) {
            return Err(wrong("it was cut off or mistyped"));
        }
        Ok(Self {
            expires,
            id: id.to_owned(),
            secret: secret.to_owned(),
        })
    }
}

/// What the orchestrator keeps of a token: enough to check it, not its text. A secret all the same: mode 0600.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// The public part.
    pub id: String,
    /// When it ends, seconds since the epoch.
    pub expires: u64,
    /// How many more hosts it may enrol.
    pub uses_left: u32,
    /// Hosts it enrolled: name and key fingerprint. The same key may try again until the token ends, so that a
    /// connection lost at the wrong moment does not cost a token.
    pub used_by: Vec<(String, String)>,
    /// The key derived from the token, hex.
    key: String,
}

/// Why a token is not accepted. One line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TokenRefusal(pub String);

impl TokenRecord {
    /// Whether the token may enrol the host with key `fingerprint`.
    ///
    /// # Errors
    /// When it ended or is used up.
    pub fn check(&self, fingerprint: &str, now: SystemTime) -> Result<(), TokenRefusal> {
        let expires = UNIX_EPOCH + Duration::from_secs(self.expires);
        if now >= expires {
            return Err(TokenRefusal(format!(
                "token {} expired at {}, and the orchestrator's clock says {}: create another, or set the clock if it is wrong",
                self.id,
                show(expires),
                show(now)
            )));
        }
        if self.uses_left == 0 && !self.used_by.iter().any(|(_, known)| known == fingerprint) {
            let by: Vec<&str> = self.used_by.iter().map(|(host, _)| host.as_str()).collect();
            return Err(TokenRefusal(format!(
                "token {} was used already, by {}: it may be a replay; create another for this host",
                self.id,
                if by.is_empty() {
                    "nobody known".to_owned()
                } else {
                    by.join(", ")
                }
            )));
        }
        Ok(())
    }

    /// Takes one use for the host `host` with key `fingerprint`. The caller stores the record durably before
    /// anything is signed.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn redeem(&mut self, host: &str, fingerprint: &str, now: SystemTime) -> Result<(), TokenRefusal> {
        self.check(fingerprint, now)?;
        if !self.used_by.iter().any(|(_, known)| known == fingerprint) {
            self.uses_left -= 1;
            self.used_by.push((host.to_owned(), fingerprint.to_owned()));
        }
        Ok(())
    }

    /// Whether it ended.
    #[must_use]
    pub fn is_expired(&self, now: SystemTime) -> bool {
        seconds(now) >= self.expires
    }

    pub(super) fn key(&self) -> Option<Vec<u8>> {
        unhex(&self.key).filter(|key| key.len() == 32)
    }
}

impl fmt::Debug for TokenRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenRecord({}, {} uses left)", self.id, self.uses_left)
    }
}

/// Where the orchestrator keeps its token records.
pub trait TokenBook: Send + Sync {
    /// The record with this id.
    fn find(&self, id: &str) -> Option<TokenRecord>;
    /// Calls [`TokenRecord::redeem`] on the stored record under the book's lock and stores the result durably
    /// before returning.
    ///
    /// # Errors
    /// When the record is gone, refuses, or cannot be stored.
    fn redeem(&self, id: &str, host: &str, fingerprint: &str) -> Result<(), TokenRefusal>;
}

fn random_text(len: usize) -> String {
    let mut bytes = vec![0; len];
    SystemRandom::new()
        .fill(&mut bytes)
        .expect("the system gives random numbers");
    bytes
        .iter()
        .map(|byte| char::from(ALPHABET[usize::from(byte % 32)]))
        .collect()
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_token_comes_back_from_its_text_and_debug_hides_the_secret() {
        let token = Token::create(HOUR);
        let text = token.to_string();
        assert_eq!(format!(" {text}\n").parse::<Token>().unwrap(), token);
        assert!(!format!("{token:?}").contains(&token.secret));
        assert_eq!(text.len(), "gantry1.".len() + 8 + 1 + ID_LEN + 1 + SECRET_LEN);
    }

    #[test]
    fn what_is_not_a_token_is_named_without_repeating_it() {
        let good = Token::create(HOUR).to_string();
        for text in [
            "",
            "gantry1",
            "abcdef.0123456789abcdef",
            &good[..good.len() - 1],
            &good.replace("y1", "y2"),
            &format!("{good}.x"),
        ] {
            let error = text.parse::<Token>().unwrap_err().to_string();
            assert!(error.starts_with("this is not a token: "), "{error}");
            assert!(text.len() < 12 || !error.contains(text));
        }
    }

    #[test]
    fn a_changed_expiry_makes_another_key() {
        let token = Token::create(HOUR);
        let longer = Token {
            expires: token.expires + 1,
            ..token.clone()
        };
        assert_ne!(token.key(), longer.key());
        assert_eq!(token.record(1).key().unwrap(), token.key());
    }

    #[test]
    fn a_use_is_for_one_key_and_ends_with_the_token() {
        let token = Token::create(HOUR);
        let mut record = token.record(1);
        let now = SystemTime::now();
        record.redeem("10.0.0.1", "aa", now).unwrap();
        record.redeem("10.0.0.1", "aa", now).unwrap();
        let refusal = record.redeem("10.0.0.2", "bb", now).unwrap_err().to_string();
        assert!(refusal.contains("used already, by 10.0.0.1"), "{refusal}");
        let refusal = record
            .redeem("10.0.0.1", "aa", now + 2 * HOUR)
            .unwrap_err()
            .to_string();
        assert!(refusal.contains("expired at"), "{refusal}");
        assert!(record.is_expired(now + 2 * HOUR) && !record.is_expired(now));
    }
}
