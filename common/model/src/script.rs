//! This module owns [`ScriptSpec`] (what to run) and [`ScriptOutcome`] (how it ended).

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ClusterName;

/// A script of the rootfs and how to run it: `cd ROOTFS/scripts && bash NAME ARGS…` as root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScriptSpec {
    /// The cluster whose current generation holds the script.
    pub cluster: ClusterName,
    /// Path below the rootfs, e.g. `scripts/init.sh`. Its folder is the working directory.
    pub path: String,
    /// Arguments. The word `{rootfs}` stands for the absolute path of the rootfs on the host.
    pub args: Vec<String>,
    /// Environment, sorted by name.
    pub env: BTreeMap<String, String>,
    /// Seconds after which the script and everything it started is ended. 0: no limit.
    pub time_limit_s: u32,
}

/// How a script ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ScriptOutcome {
    /// It exited by itself with this status.
    Exited(i32),
    /// A signal ended it.
    Signalled(i32),
    /// It ran longer than its limit and was ended.
    TimedOut,
    /// An operator cancelled it.
    Cancelled,
    /// It was not seen to end: the host went down, or its unit vanished.
    Unknown,
}

impl ScriptOutcome {
    /// Whether the script did its work.
    #[must_use]
    pub const fn succeeded(&self) -> bool {
        matches!(self, Self::Exited(0))
    }
}

impl fmt::Display for ScriptOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(status) => write!(f, "exit status {status}"),
            Self::Signalled(signal) => write!(f, "ended by signal {signal}"),
            Self::TimedOut => f.write_str("ran longer than its time limit and was ended"),
            Self::Cancelled => f.write_str("cancelled"),
            Self::Unknown => f.write_str("outcome unknown: it was not seen to end"),
        }
    }
}
