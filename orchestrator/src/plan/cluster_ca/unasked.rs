//! Members of a cluster that nobody asks: another CA would cut them off.

use gantry_model::{ExitCode, NodeHealth};

use super::Replacement;
use crate::exit::failure_hint;

impl Replacement<'_> {
    /// Refuses nodes of the cluster that are none of its hosts here, by address or by name.
    ///
    /// # Errors
    /// When there is one; all are named.
    pub fn refuse_unasked(&self, nodes: &[NodeHealth]) -> anyhow::Result<()> {
        let is_asked = |node: &&NodeHealth| {
            let hosts = &self.inventory.hosts;
            let by_address = node.address.is_some_and(|address| hosts.contains_key(&address));
            let mut reached = self.inventory.reached();
            by_address || reached.any(|(_, report)| report.node() == node.name)
        };
        let unasked = nodes.iter().filter(|node| !is_asked(node));
        let unasked: Vec<String> = unasked
            .map(|node| match node.address {
                Some(address) => format!("{} ({address})", node.name),
                None => node.name.clone(),
            })
            .collect();
        if unasked.is_empty() {
            return Ok(());
        }
        Err(failure_hint(
            ExitCode::Preflight,
            format!(
                "cluster {} has nodes that are not among its hosts here: {}",
                self.cluster,
                unasked.join(", ")
            ),
            "another CA would cut them off: write them into the Clusterfile and give that with -f, or take them out of the cluster \
             (`kubectl delete node NAME`); nothing was changed",
        ))
    }
}
