//! This module owns [`KubectlCall`]: what a control plane asks its API server for, by the image's kubectl. Its exit status
//! is the answer; nothing it prints is read.

use std::path::Path;

use gantry_model::ClusterName;

use super::{ADMIN, KUBECTL};
use crate::scripts::{BASH, Program};

/// Beyond its own limit kubectl is ended, in seconds.
const GRACE_S: u32 = 60;
/// How long a change of one object may take, in seconds.
const CHANGE_LIMIT_S: u32 = 120;
/// Lets pods go that have an emptyDir, which is for what a pod may lose, by the name that kubectl knows since v1.20.
const EMPTY_DIR_DATA: &str = "--delete-emptydir-data";
/// The same by its name before, which is gone in v1.31.
const LOCAL_DATA: &str = "--delete-local-data";
/// Adds the one that this kubectl, `$0`, knows: it looks at every word before it helps, and asks nobody for that.
const DRAIN: &str = r#"word=$1 before=$2; shift 2
"$0" drain "$word" --help >/dev/null 2>&1 || word=$before
exec "$0" "$@" "$word""#;
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
                let mut words = vec!["drain", node, "--ignore-daemonsets"];
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
        let words = access.into_iter().chain(words);
        let limit_s = limit_s.saturating_add(GRACE_S);
        let kubectl = rootfs.join(KUBECTL);
        let (program, words) = if matches!(self, Self::Drain { .. }) {
            let kubectl = kubectl.to_string_lossy();
            let bash = ["-c", DRAIN, &kubectl, EMPTY_DIR_DATA, LOCAL_DATA].map(str::to_owned);
            (BASH.into(), bash.into_iter().chain(words).collect())
        } else {
            (kubectl, words.collect())
        };
        Program::of_image(cluster, KUBECTL, rootfs, program, words, limit_s)
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

    /// What a kubectl that knows these words was told at the end, to drain a node.
    fn drained(knows: &[&str]) -> String {
        let rootfs = tempfile::tempdir().unwrap();
        let (kubectl, told) = (rootfs.path().join(KUBECTL), rootfs.path().join("told"));
        std::fs::create_dir(rootfs.path().join("bin")).unwrap();
        // As kubectl does: it looks at every word before it helps.
        let text = format!(
            "#!/bin/bash\nfor word; do case $word in {}) ;; --delete-*) echo unknown flag >&2; exit 1;; esac; done\n\
             [[ $* == *--help* ]] || echo \"$*\" >{}\n",
            knows.join("|"),
            told.display()
        );
        gantry_system::files::write_atomically(&kubectl, text.as_bytes(), 0o755).unwrap();
        let call = KubectlCall::Drain {
            node: "host2".into(),
            limit_s: 600,
            leaves: true,
        };
        let program = call.program(&"demo".parse().unwrap(), rootfs.path(), Path::new("/s"));
        let mut command = std::process::Command::new(&program.command.program);
        assert!(command.args(&program.command.words).status().unwrap().success());
        std::fs::read_to_string(told).unwrap()
    }

    #[test]
    fn a_drain_is_told_in_the_words_that_this_kubectl_knows() {
        // Before v1.20, until v1.30, since.
        for (knows, said) in [
            (&[LOCAL_DATA][..], LOCAL_DATA),
            (&[LOCAL_DATA, EMPTY_DIR_DATA], EMPTY_DIR_DATA),
            (&[EMPTY_DIR_DATA], EMPTY_DIR_DATA),
        ] {
            let words = drained(knows);
            assert!(
                words.ends_with(&format!(
                    "drain host2 --ignore-daemonsets --force --timeout=600s {said}\n"
                )),
                "{words}"
            );
            assert!(
                words.starts_with("--kubeconfig /etc/kubernetes/admin.conf "),
                "{words}"
            );
        }
    }
}
