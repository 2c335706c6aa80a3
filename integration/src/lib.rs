//! The words product tests are written in: a testbed of real hosts, an operator, and what they do.
//!
//! ```text
//! Testbed ── Slot          one numbered place on this machine: names, subnet and folders follow from the number
//!    ├────── Network       a switch in its own network namespace; one cable per machine
//!    ├────── Host          a systemd machine (nspawn) with its own tree, network and cgroup
//!    └────── Operator      the real `gantry`, run from its own end of the network
//! ```
//!
//! Start reading at [`Testbed`]. Nothing here is used by the two programs.

pub mod agent;
pub mod applied;
pub mod apt;
pub mod base_tree;
pub mod cache;
pub mod cgroup;
pub mod chaos;
pub mod cluster_ca;
pub mod command;
pub mod cut_proxy;
pub mod demo_image;
pub mod estargz;
pub mod host;
pub mod image_desk;
pub mod image_memory;
pub mod image_tree;
pub mod kubernetes_cluster;
pub mod kubernetes_host;
pub mod kubernetes_image;
pub mod network;
pub mod operator;
pub mod other_day;
pub mod packages;
pub mod registry;
pub mod registry_tree;
pub mod slot;
pub mod snapshot;
pub mod testbed;
pub mod token_server;
pub mod tree_list;
pub mod wait;

pub use applied::Applied;
pub use command::Finished;
pub use host::Host;
pub use image_tree::ImageTree;
pub use kubernetes_image::Runtime;
pub use network::Link;
pub use operator::{Operator, Running};
pub use registry_tree::RegistryTree;
pub use snapshot::Snapshot;
pub use testbed::{Options, Testbed};
pub use wait::wait_until;
