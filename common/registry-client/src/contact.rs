//! This module owns [`Contacts`]: which registries answer. The first request to each finds that out for all others, so a registry
//! that cannot be reached costs one round of tries, not one for each image of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;

use crate::RegistryError;

/// What is known of every registry that was asked.
#[derive(Debug, Default)]
pub(crate) struct Contacts(Mutex<HashMap<String, Contact>>);

/// What is known of one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Contact(Arc<tokio::sync::Mutex<State>>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Unknown {
        /// Whether it did not answer before.
        once_more: bool,
    },
    Answers,
    /// It did not, however often it was asked.
    Unreachable {
        reason: String,
        /// Whether somebody asked once more already.
        once_more: bool,
    },
}

impl Default for State {
    fn default() -> Self {
        Self::Unknown { once_more: false }
    }
}

/// The first request to a registry, on its way; others wait until it is dropped.
#[derive(Debug)]
pub(crate) struct First(OwnedMutexGuard<State>);

impl Contacts {
    /// What is known of `registry`.
    pub(crate) fn with(&self, registry: &str) -> Contact {
        let mut contacts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        contacts.entry(registry.to_owned()).or_default().clone()
    }
}

impl Contact {
    /// Waits until it is known whether `registry` answers; whoever asks first is the one to find out.
    ///
    /// # Errors
    /// When it was found that it does not.
    pub(crate) async fn begin(&self, registry: &str) -> Result<Option<First>, RegistryError> {
        let state = self.0.clone().lock_owned().await;
        match &*state {
            State::Unknown { .. } => Ok(Some(First(state))),
            State::Answers => Ok(None),
            State::Unreachable { reason, .. } => Err(RegistryError::Unreachable {
                registry: registry.to_owned(),
                reason: reason.clone(),
            }),
        }
    }

    /// Notes how a request ended that was tried as often as it may be. `first` is what [`Contact::begin`] gave.
    pub(crate) async fn end(&self, first: &mut Option<First>, error: Option<&RegistryError>) {
        let once_more = first
            .as_ref()
            .is_some_and(|first| matches!(*first.0, State::Unknown { once_more: true }));
        let found = match error {
            Some(RegistryError::Unreachable { reason, .. }) => State::Unreachable {
                reason: reason.clone(),
                once_more,
            },
            _ => State::Answers,
        };
        match first.take() {
            Some(mut first) => *first.0 = found,
            // Only bad news is news to those who come later.
            None if found != State::Answers => *self.0.lock().await = found,
            None => {}
        }
    }

    /// Forgets that it did not answer, unless that was forgotten before.
    pub(crate) async fn once_more(&self) {
        let mut state = self.0.lock().await;
        if matches!(&*state, State::Unreachable { once_more: false, .. }) {
            *state = State::Unknown { once_more: true };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unreachable() -> RegistryError {
        RegistryError::Unreachable {
            registry: "hub".to_owned(),
            reason: "nobody is there".to_owned(),
        }
    }

    #[tokio::test]
    async fn one_finds_out_for_all() {
        let contacts = Contacts::default();
        let contact = contacts.with("hub");
        let mut first = contact.begin("hub").await.unwrap();
        assert!(first.is_some());
        let second = tokio::spawn(async move {
            contacts
                .with("hub")
                .begin("hub")
                .await
                .map(|first| first.is_some())
        });
        contact.end(&mut first, Some(&unreachable())).await;
        let error = second.await.unwrap().unwrap_err();
        assert_eq!(error.to_string(), unreachable().to_string());
    }

    #[tokio::test]
    async fn a_registry_that_refuses_answers() {
        let contact = Contacts::default().with("hub");
        let mut first = contact.begin("hub").await.unwrap();
        let refusal = RegistryError::Incomplete("no".to_owned());
        contact.end(&mut first, Some(&refusal)).await;
        assert!(contact.begin("hub").await.unwrap().is_none());
        // It goes away later.
        contact.end(&mut None, Some(&unreachable())).await;
        contact.begin("hub").await.unwrap_err();
    }

    #[tokio::test]
    async fn it_is_asked_once_more_and_no_more() {
        let contact = Contacts::default().with("hub");
        for expected in [true, false] {
            let mut first = contact.begin("hub").await.unwrap();
            assert!(first.is_some());
            contact.end(&mut first, Some(&unreachable())).await;
            contact.begin("hub").await.unwrap_err();
            contact.once_more().await;
            assert_eq!(contact.begin("hub").await.is_ok(), expected);
        }
    }

    #[tokio::test]
    async fn who_gives_up_finds_nothing_out() {
        let contact = Contacts::default().with("hub");
        drop(contact.begin("hub").await.unwrap());
        assert!(contact.begin("hub").await.unwrap().is_some());
    }
}
