//! The etcd of a cluster, asked on one of its control planes through the JSON form of its API (etcd.io, "gRPC gateway")
//! with the client certificate that kubeadm made for health checks.
//!
//! ```text
//! members: who is there (local member) ─▶ how is each of them (every member) ─▶ EtcdMembers
//! check, remove: members ─ would it keep its quorum? ─▶ remove
//! snapshot: a read by the quorum ─▶ parts, one a line ─▶ is their digest the one at their end?
//! kept: snapshots on this host: from before upgrades, and those that an operator gave
//! readiness: does it serve yet?
//! restore: database (a snapshot's keys) ─▶ what differs ─▶ changes, many at a time
//! ```

mod answers;
mod arriving;
mod client;
mod database;
mod kept;
mod members;
mod readiness;
mod restore;
mod snapshot;

pub(crate) use arriving::ArrivingSnapshot;
pub(crate) use client::EtcdError;
pub use database::{Database, DatabaseError, Place};
pub(crate) use kept::{EtcdSnapshots, KeepError};
pub(crate) use members::{Absence, check, members, remove};
pub(crate) use readiness::wait_for_etcd;
pub(crate) use restore::RestoreError;
use restore::{check_origin, restore};
pub(crate) use snapshot::Snapshot;
