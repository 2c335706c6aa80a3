//! The Gantry agent: what a host does with what an orchestrator asks of it.
//!
//! ```text
//!                    ┌──────────── server ────────────┐        one task per connection, one per request
//!  Listener ───────▶ │ authorize ─▶ dispatch ─▶ follow│
//!                    └───────┬────────────────▲───────┘
//!                   mpsc     │ run, cancel    │ watch: progress, outcome
//!                    ┌───────▼────────────────┴───────┐
//!                    │ executor: journal, what runs   │        one task; the only one that starts changes
//!                    └───────┬────────────────────────┘
//!                            │ one step at a time
//!        staging ── rootfs ──┼── scripts ── hosts_file         what steps change, through `host::Host`
//! ```
//!
//! Reading order: [`config`], [`run`] (start and stop), [`enrolment`], [`server`], [`executor`], [`journal`], then
//! what steps do: [`staging`], [`rootfs`], [`templates`], [`configs`], [`scripts`] and their effects, [`kubeadm`], [`etcd`], [`balancer`], [`registry`],
//! [`hosts_file`]; and what is reported: [`facts`], [`status`].

mod any_certificate;
pub mod balancer;
mod certificates;
pub mod cli;
pub mod config;
pub mod configs;
pub mod enrolment;
pub mod etcd;
pub mod executor;
pub mod facts;
pub mod host;
mod host_service;
mod hostname;
pub mod hosts_file;
mod https;
pub mod identity;
pub mod image_keys;
mod image_trust;
pub mod journal;
mod kernel_settings;
pub mod kubeadm;
mod place;
mod pod_logs;
mod readiness;
pub mod registry;
pub mod rootfs;
pub mod run;
mod running;
mod script_effects;
pub mod scripts;
pub mod server;
pub mod staging;
pub mod status;
mod systemd;
pub mod templates;

#[cfg(test)]
mod test_layers;
