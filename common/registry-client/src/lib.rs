//! Image registries as their client sees them: pull, push, credentials, mirrors (OCI distribution-spec 1.1, docker's token
//! authentication, the configuration files of docker and of the containers tools).
//!
//! ```text
//! pull, push ──▶ RegistryClient ──▶ requests: authorization, redirects, retries ──▶ connections: TLS per registry
//!                     │                  ▲
//!                     └─ registries.conf └─ auth files, credential helpers
//! ```
//!
//! Nothing a registry says is believed before its digest and size were checked, and every body has a bound.

mod address;
mod certificates;
mod challenge;
mod client;
mod connections;
mod contact;
mod credentials;
mod error;
pub mod limits;
mod login;
mod places;
mod printable;
mod pull;
mod push;
mod registries_conf;
mod requests;
mod retry;
mod signatures;
mod tags;
mod token;
mod transfer;

pub use address::{Namespace, Registry, RemoteImage, Repository};
pub use challenge::{Challenge, parse_challenges};
pub use client::{RegistryClient, Settings};
pub use connections::web_client;
pub use credentials::{AuthFile, Credentials};
pub use error::RegistryError;
pub use places::Places;
pub use pull::{FoundImage, Platforms, PullOptions, Pulled};
pub use push::{PushOptions, Pushed};
pub use registries_conf::{Endpoint, RegistriesConf};
pub use retry::RetryPolicy;
pub use transfer::{Event, Events, How};
