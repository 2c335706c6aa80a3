//! Who serves the cluster's container images: the image's own `init-registry.sh` on the first master, or the agent of
//! every host to its own host.

use std::net::{IpAddr, Ipv4Addr};

use gantry_model::{ExitCode, Step, StepAction};
use gantry_store::ChunkSource;

use super::progress::{occasion, state_step, why_to_do};
use super::scripts::{self, Call};
use super::{Mark, PlanImage, PlannedStep};
use crate::clusterfile::{Clusterfile, Host, RegistryMode};
use crate::exit::failure_hint;
use crate::inventory::HostReport;

/// Where a rootfs keeps what its registry serves.
const TREE: &str = "registry/docker/registry/v2/repositories";
/// Titles of the steps by which an agent begins and ends to serve.
const SET: &str = "registry";
const REMOVE: &str = "remove registry";

/// Who serves the cluster's container images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Server {
    /// This script of the image, on the first master.
    Script(Call),
    /// Every agent, to its own host.
    Agents,
    /// Nobody: the image brings none.
    Nobody,
}

/// Whether the merged `layers` have what a registry serves.
pub(super) fn has_tree(layers: &[ChunkSource]) -> bool {
    let below = |path: &str| path.strip_prefix(TREE).is_some_and(|rest| rest.starts_with('/'));
    let mut entries = layers.iter().flat_map(|layer| layer.toc().entries());
    entries.any(|entry| below(&entry.path))
}

/// Who serves the cluster's container images.
///
/// # Errors
/// When the Clusterfile names somebody who has nothing to serve.
pub(super) fn server(clusterfile: &Clusterfile, image: &PlanImage) -> anyhow::Result<Server> {
    let cannot = |lacks: &str, instead: &str| {
        let message = format!(
            "image {} has no {lacks}, which `spec.registry.mode` asks for",
            image.reference
        );
        failure_hint(ExitCode::Input, message, instead)
    };
    let script = scripts::registry(clusterfile, image);
    match clusterfile.registry.mode {
        Some(RegistryMode::Agent) if !image.registry => Err(cannot(
            &format!("{TREE}/ to serve"),
            "leave the mode out, or take an image that brings container images",
        )),
        Some(RegistryMode::Image) => script.map(Server::Script).ok_or_else(|| {
            cannot(
                "scripts/init-registry.sh",
                "with `mode: agent` every agent serves the image's registry/ to its own host",
            )
        }),
        Some(RegistryMode::Agent) => Ok(Server::Agents),
        None => Ok(match script {
            Some(script) => Server::Script(script),
            None if image.registry => Server::Agents,
            None => Server::Nobody,
        }),
    }
}

/// Where the registry's name leads to on every host.
pub(super) fn address(clusterfile: &Clusterfile, image: &PlanImage) -> IpAddr {
    match server(clusterfile, image) {
        Ok(Server::Agents) => Ipv4Addr::LOCALHOST.into(),
        // What is wrong with it was said before anything is planned.
        _ => clusterfile.first_master().address,
    }
}

/// What becomes of the agent's registry on `host`: set, kept, or removed when somebody else serves by now.
pub(super) fn step(
    clusterfile: &Clusterfile,
    server: &Server,
    host: &Host,
    report: Option<&HostReport>,
) -> Option<PlannedStep> {
    let cluster = &clusterfile.name;
    let removed = report.and_then(|report| report.latest(cluster, REMOVE));
    let set = report.and_then(|report| report.latest(cluster, SET));
    if *server == Server::Agents {
        let action = StepAction::SetRegistry {
            cluster: cluster.clone(),
            domain: clusterfile.registry.domain.clone(),
            port: clusterfile.registry.port,
        };
        // Removed and set again is set anew.
        let after: Vec<_> = removed.map(|record| record.id).into_iter().collect();
        let (step, mark, reason) = state_step(action, &after, report);
        return Some(PlannedStep::new(host.address, step, mark, reason));
    }
    let step = remove_step(clusterfile, report?)?;
    let is_removed = report.is_some_and(|report| why_to_do(step.id(), report).is_none());
    (set.is_some() && !is_removed).then(|| {
        let reason = "the image's own registry serves instead";
        PlannedStep::new(host.address, step, Mark::Remove, reason)
    })
}

/// The step that removes the agent's registry, where there ever was one.
pub(super) fn remove_step(clusterfile: &Clusterfile, report: &HostReport) -> Option<Step> {
    let set = report.latest(&clusterfile.name, SET)?;
    Some(Step {
        action: StepAction::RemoveRegistry {
            cluster: clusterfile.name.clone(),
        },
        after: occasion(Some(set)),
    })
}
