//! The nouns of Gantry, in the order data flows through them.
//!
//! Plain values: no I/O, no clock, no async. Every type here is printed, stored or sent somewhere, and keeps
//! the same name in the code, the files, the logs and the flags.

mod application_launch;
mod certificate;
mod cluster_ca;
mod cluster_health;
mod config_file;
mod digest;
mod etcd;
mod etcd_snapshot;
mod exit_code;
mod generation;
mod host;
mod image_command;
mod image_evidence;
mod image_plugin;
mod image_reference;
mod image_signature;
mod ip_range;
mod kubeadm;
mod layer;
mod needed_records;
mod node_marks;
mod registry_place;
mod script;
mod script_effect;
mod shell_command;
mod step;
mod variable;

pub use application_launch::ApplicationLaunch;
pub use certificate::{CertificateKeeper, CertificateRecord};
pub use cluster_ca::{ClusterCa, ClusterCas};
pub use cluster_health::{ClusterHealth, NodeHealth};
pub use config_file::{ConfigFile, ConfigPathError, check_config_path, is_data_file};
pub use digest::{Digest, DigestError};
pub use etcd::{EtcdMember, EtcdMembers, QuorumError};
pub use etcd_snapshot::{BEFORE_RESTORE, SnapshotCheck, SnapshotError, SnapshotName};
pub use exit_code::ExitCode;
pub use generation::{Generation, GenerationId};
pub use host::{
    ClusterName, ClusterNameError, DiskSpace, HostFacts, HostNetwork, Inventory, KeptSnapshot, ListeningPort,
};
pub use image_command::ImageCommand;
pub use image_evidence::ImageEvidence;
pub use image_plugin::ImagePlugin;
pub use image_reference::{ImageReference, ReferenceError, host_and_port, ipv6_in_brackets, port_number};
pub use image_signature::{ImageSignature, PayloadError, SignedPayload};
pub use ip_range::{IpRange, IpRangeError};
pub use kubeadm::{JoinPass, KubeadmAct, KubeadmSpec, kubeadm_api_version};
pub use layer::{LayerDescriptor, TocLocation};
pub use needed_records::most_needed_records;
pub use node_marks::{
    NodeGroup, NodeMarks, Taint, TaintEffect, TaintEffectError, TaintPattern, check_mark_key,
    check_mark_value,
};
pub use registry_place::RegistryPlaces;
pub use script::{ScriptOutcome, ScriptSpec};
pub use script_effect::{EffectCheck, ScriptEffect};
pub use shell_command::{CommandMoment, CommandOrigin, ShellCommand};
pub use step::{HostsEntry, Step, StepAction, StepId, StepOutcome, StepRecord};
pub use variable::takes_code;
