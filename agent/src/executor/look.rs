//! Looks before a step starts: can it be done at all, and is its effect here already.

use gantry_model::{Digest, Step, StepAction, StepOutcome};
use gantry_protocol::limits::{MAX_LAYERS, MAX_TEMPLATE_VALUES};

use crate::host::Host;
use crate::journal::Journal;
use crate::{hosts_file, scripts, templates};

/// Whether `step` is within bounds.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check(step: &Step) -> Result<(), String> {
    let layers = match &step.action {
        StepAction::Stage { layers, .. } => layers.len(),
        StepAction::AssembleRootfs { layers, .. } => layers.len(),
        StepAction::WriteHostsEntries { entries, .. } => return hosts_file::check(entries),
        StepAction::RenderTemplates { values, .. } if values.len() > MAX_TEMPLATE_VALUES => {
            return Err(format!(
                "templates are given {} values; at most {MAX_TEMPLATE_VALUES} are allowed",
                values.len()
            ));
        }
        StepAction::RunScript(spec) => return scripts::check(spec).map_err(|bad| bad.to_string()),
        _ => 0,
    };
    if layers > MAX_LAYERS {
        return Err(format!(
            "the image has {layers} layers; at most {MAX_LAYERS} are allowed"
        ));
    }
    Ok(())
}

/// The outcome of `step` if its effect is on this host: states are looked at, only scripts are remembered.
///
/// # Errors
/// When its effect should be here and could not be put right.
pub(super) fn already_done(
    host: &Host,
    journal: &Journal,
    step: &Step,
) -> Result<Option<StepOutcome>, String> {
    let done = |holds: bool| Ok(holds.then_some(StepOutcome::Done { generation: None }));
    match &step.action {
        StepAction::Stage { layers, .. } => {
            done(layers.iter().all(|layer| host.store.has_layer(&layer.digest)))
        }
        StepAction::AssembleRootfs {
            cluster,
            image,
            layers,
        } => {
            let generation = host
                .rootfs
                .ensure(cluster, image, layers)
                .map_err(|error| error.to_string())?;
            Ok(generation.map(|generation| StepOutcome::Done {
                generation: Some(generation),
            }))
        }
        StepAction::WriteHostsEntries { cluster, entries } => {
            done(block(host, cluster)? == Some(hosts_file::digest(cluster, entries)))
        }
        StepAction::RemoveHostsEntries { cluster } => done(block(host, cluster)?.is_none()),
        StepAction::RemoveRootfs { cluster } => done(host.rootfs.is_removed(cluster)),
        StepAction::RenderTemplates { cluster, values } => {
            // Why there is no rootfs, or what is wrong with a template, is said when the step runs.
            let rendered = host
                .rootfs
                .path(cluster)
                .is_ok_and(|rootfs| templates::are_rendered(&rootfs, values).unwrap_or(false));
            done(rendered)
        }
        StepAction::RunScript(_) => Ok(journal.done(step.id()).cloned()),
        StepAction::RemoveUnusedLayers | StepAction::ForgetCluster { .. } => Ok(None),
    }
}

fn block(host: &Host, cluster: &gantry_model::ClusterName) -> Result<Option<Digest>, String> {
    host.hosts_file.digest(cluster).map_err(|error| error.to_string())
}
