//! This module owns [`ImageCommands`]: what an image wants run when its cluster is complete (`LAUNCH`, `CMDS` and
//! `CMD` of its Kubefile), and
//! the steps that do it: on the first master, in order, each once.

use gantry_model::{ImageCommand, Step, StepAction, StepId};
use gantry_store::{Image, StoreError};
use serde::{Deserialize, Serialize};

use super::environment::environment;
use super::progress::why_to_do;
use super::scripts::SCRIPT_TIME_LIMIT_S;
use super::{Mark, PlanImage, PlannedStep, Wave};
use crate::clusterfile::Clusterfile;
use crate::inventory::ClusterInventory;

/// The commands of an image, and the documents that prove them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageCommands {
    /// The shell lines, in order.
    pub lines: Vec<String>,
    /// The image's manifest.
    pub manifest: String,
    /// Its config.
    pub config: String,
}

impl ImageCommands {
    /// The commands of `image`; none when it has none.
    ///
    /// # Errors
    /// When what it says about them cannot be read.
    pub(super) fn of(image: &Image) -> Result<Option<Self>, StoreError> {
        let lines = image.commands()?;
        Ok((!lines.is_empty()).then(|| Self {
            lines,
            // Both were read as JSON, which is UTF-8 (RFC 8259).
            manifest: String::from_utf8_lossy(&image.manifest_bytes).into_owned(),
            config: String::from_utf8_lossy(&image.config_bytes).into_owned(),
        }))
    }
}

/// The wave that runs the image's commands. `after` are the steps by which the first master's rootfs came to be what it
/// is: with others they run again, and after one that is new here each waits for the one before.
pub(super) fn wave(
    clusterfile: &Clusterfile,
    image: &PlanImage,
    inventory: &ClusterInventory,
    mut after: Vec<StepId>,
) -> Option<Wave> {
    let commands = image.commands.as_ref()?;
    let first = clusterfile.first_master();
    let mut steps = Vec::new();
    for (line, index) in commands.lines.iter().zip(0..) {
        let step = Step {
            action: StepAction::RunImageCommand(ImageCommand {
                cluster: clusterfile.name.clone(),
                command: line.clone(),
                index,
                manifest: commands.manifest.clone(),
                config: commands.config.clone(),
                env: environment(clusterfile, image, first),
                time_limit_s: SCRIPT_TIME_LIMIT_S,
            }),
            after: after.clone(),
        };
        after.push(step.id());
        let why = inventory.report(first.address).map_or_else(
            || Some(super::progress::NOT_DONE.into()),
            |report| why_to_do(step.id(), report),
        );
        steps.push(match why {
            None => PlannedStep::new(first.address, step, Mark::Done, line.clone()),
            Some(reason) if reason == super::progress::NOT_DONE => {
                PlannedStep::new(first.address, step, Mark::Add, line.clone())
            }
            Some(reason) => PlannedStep::new(first.address, step, Mark::Change, format!("{reason}: {line}")),
        });
    }
    Some(Wave {
        title: "commands".into(),
        keep_going: false,
        steps,
    })
}
