//! This module owns [`Book`]: the operator's side of an enrolment with one token.

#![allow(clippy::unwrap_used, reason = "the example that measures uses it too")]

use std::sync::Mutex;
use std::time::SystemTime;

use gantry_transport::{TokenBook, TokenRecord, TokenRefusal};

/// The one token there is.
pub(crate) struct Book(Mutex<TokenRecord>);

impl Book {
    pub(crate) fn with(token: TokenRecord) -> Self {
        Self(Mutex::new(token))
    }
}

impl TokenBook for Book {
    fn find(&self, id: &str) -> Option<TokenRecord> {
        Some(self.0.lock().unwrap().clone()).filter(|record| record.id == id)
    }

    fn redeem(&self, _id: &str, host: &str, fingerprint: &str) -> Result<(), TokenRefusal> {
        self.0
            .lock()
            .unwrap()
            .redeem(host, fingerprint, SystemTime::now())
    }
}
