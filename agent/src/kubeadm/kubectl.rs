//! This module owns [`KubectlCall`]: what a control plane asks its API server for, by the image's kubectl. Its exit status
//! is the answer; nothing it prints is read.

use std::path::Path;

use gantry_model::ClusterName;

use super::{ADMIN, KUBECTL};
use crate::scripts::Program;

/// Beyond its own limit kubectl is ended, in seconds.
const GRACE_S: u32 = 60;
/// How long a change of one object may take, in seconds.
const CHANGE_LIMIT_S: u32 = 120;
/// Longest name of a node (RFC 1123, subdomain).
const MAX_NODE_LEN: usize = 253;

/// What kubectl is called for.
pub(crate) enum KubectlCall {
    /// Waits until every node is ready.
    WaitForNodes {
        /// In seconds.
        limit_s: u32,
        /// But these.
        except: Vec<String>,
    },
    /// Keeps pods away from a node and lets those that run there move. Pods of a DaemonSet stay: they are the node's.
    Drain {
        /// Its name.
        node: String,
        /// In seconds.
        limit_s: u32,
        /// The node leaves the cluster.
        leaves: bool,
    },
    /// Lets the cluster forget a node.
    DeleteNode {
        /// Its name.
        node: String,
    },
}

/// Whether `node` can be the name of a node.
///
/// # Errors
/// When it cannot.
pub(crate) fn check_node(node: &str) -> Result<(), String> {
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = node.as_bytes();
    if bytes.len() <= MAX_NODE_LEN
        && bytes.iter().all(|&byte| legal(byte))
        && edge(bytes.first())
        && edge(bytes.last())
    {
        return Ok(());
    }
    Err(format!("{node:?} is no name of a node"))
}

impl KubectlCall {
    /// How kubectl of the rootfs at `rootfs` is called, by a step whose folder is `folder`.
    pub(crate) fn program(&self, cluster: &ClusterName, rootfs: &Path, folder: &Path) -> Program {
        let limit = |seconds: u32| format!("--timeout={seconds}s");
        let (words, limit_s): (Vec<String>, u32) = match self {
            Self::WaitForNodes { limit_s, except } => {
                let which = if except.is_empty() {
                    "--all".to_owned()
                } else {
                    let others: Vec<String> = except
                        .iter()
                        .map(|node| format!("metadata.name!={node}"))
                        .collect();
                    format!("--field-selector={}", others.join(","))
                };
                let words = ["wait", "--for=condition=Ready", "node", &which, &limit(*limit_s)];
                (words.map(str::to_owned).into(), *limit_s)
            }
            Self::Drain {
                node,
                limit_s,
                leaves,
            } => {
                let mut words = vec![
                    "drain",
                    node,
                    "--ignore-daemonsets",
                    // emptyDir is for what a pod may lose. Older kubectl knows it by this name only, newer by both.
                    "--delete-emptydir-data",
                ];
                // Pods that nobody owns are not started elsewhere; on a host that leaves they end either way.
                words.extend(leaves.then_some("--force"));
                let timeout = limit(*limit_s);
                words.push(&timeout);
                (words.into_iter().map(str::to_owned).collect(), *limit_s)
            }
            Self::DeleteNode { node } => {
                let words = [
                    "delete",
                    "node",
                    node,
                    "--ignore-not-found",
                    &limit(CHANGE_LIMIT_S),
                ];
                (words.map(str::to_owned).into(), CHANGE_LIMIT_S)
            }
        };
        let access = [
            "--kubeconfig".to_owned(),
            ADMIN.to_owned(),
            // Otherwise below the home of root, where it would stay.
            format!("--cache-dir={}", folder.join("kubectl").display()),
        ];
        let words = access.into_iter().chain(words).collect();
        let limit_s = limit_s.saturating_add(GRACE_S);
        Program::of_image(cluster, KUBECTL, rootfs, rootfs.join(KUBECTL), words, limit_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_have_names_that_are_no_options() {
        for name in ["host1", "node-1.example.test"] {
            check_node(name).unwrap();
        }
        for odd in ["", "-l", "a b", "Host1", "--all", "a/b", "x."] {
            assert!(check_node(odd).is_err(), "{odd:?}");
        }
        assert!(check_node(&"a".repeat(MAX_NODE_LEN + 1)).is_err());
    }

    #[test]
    fn nodes_of_hosts_that_are_off_are_not_waited_for() {
        let words = |except: &[&str]| {
            let except = except.iter().map(|node| (*node).to_owned()).collect();
            let call = KubectlCall::WaitForNodes { limit_s: 60, except };
            let program = call.program(&"demo".parse().unwrap(), Path::new("/r"), Path::new("/s"));
            program.command.words.join(" ")
        };
        assert!(words(&[]).ends_with("wait --for=condition=Ready node --all --timeout=60s"));
        let some = words(&["host3", "host4"]);
        assert!(
            some.contains("node --field-selector=metadata.name!=host3,metadata.name!=host4 "),
            "{some}"
        );
    }

    #[test]
    fn a_drain_has_its_own_limit_and_is_given_some_more() {
        let call = KubectlCall::Drain {
            node: "host2".into(),
            limit_s: 600,
            leaves: false,
        };
        let program = call.program(&"demo".parse().unwrap(), Path::new("/r"), Path::new("/s"));
        let words = program.command.words.join(" ");
        assert!(
            words.contains("drain host2 --ignore-daemonsets") && words.ends_with("--timeout=600s"),
            "{words}"
        );
    }
}
