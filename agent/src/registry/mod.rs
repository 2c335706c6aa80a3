//! The registry: every host serves the container images of its rootfs to its own container runtimes, and to nobody else.
//!
//! ```text
//! step ─▶ certificate, settings: registries/<cluster>/ ─▶ unit gantry-registry-<cluster>.service: `gantry-agent registry`
//!    └──▶ trust: what docker and containerd read           └─ server: TLS ─ route ─▶ answer ─ tree ─▶ rootfs/registry/
//! ```
//!
//! It is a service of its own: restarting or upgrading the agent cuts no pull, and it comes back with the host. It looks
//! into whatever generation of the rootfs is current at that moment. `registry/` is the tree that docker's own registry
//! (github.com/distribution/distribution, version 2) keeps in a file system, and the answers are that registry's, but for
//! schema 1 manifests, which nobody asks for any more, and for pages of tags, which are those of the OCI distribution
//! specification, version 1.1.

mod answer;
mod body;
mod certificate;
mod connection;
mod listing;
mod manifest;
mod problem;
mod range;
mod route;
mod server;
mod settings;
mod tree;
mod trust;
mod unit;

pub use server::run;
pub(crate) use settings::check;
pub(crate) use unit::Registries;
