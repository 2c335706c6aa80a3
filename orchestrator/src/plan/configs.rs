//! Files of the rootfs as the Clusterfile wants them: the whole of each, made here, so that a plan shows what hosts are
//! given and hosts need not know how it came to be. Made from what the image has, never from what a host has.

use std::collections::{BTreeMap, BTreeSet};

use gantry_model::{ConfigFile, ExitCode, Step, StepAction, StepId};
use gantry_protocol::limits::{MAX_CONFIG_FILES, MAX_CONFIG_FILES_LEN};

use super::environment::{application_environment, environment};
use super::image_file::ImageFile;
use super::progress::state_step;
use super::{Mark, PlanImage, PlannedStep};
use crate::clusterfile::application::application_of;
use crate::clusterfile::config::ConfigChange;
use crate::clusterfile::{Clusterfile, Host};
use crate::exit::failure_hint;
use crate::inventory::HostReport;

/// Paths that a plan shows of the files of one host.
const SHOWN: usize = 3;

/// The files of every host, in the order of the Clusterfile's hosts.
///
/// # Errors
/// Everything about them that does not fit the image.
pub(super) fn of_hosts(clusterfile: &Clusterfile, image: &PlanImage) -> anyhow::Result<Vec<Vec<ConfigFile>>> {
    let mut mistakes = BTreeSet::new();
    let hosts: Vec<_> = clusterfile
        .hosts
        .iter()
        .map(|host| of_host(clusterfile, image, host, &mut mistakes))
        .collect();
    if mistakes.is_empty() {
        return Ok(hosts);
    }
    let mistakes: Vec<String> = mistakes.into_iter().collect();
    Err(failure_hint(
        ExitCode::Input,
        format!(
            "documents of kind Config do not fit image {}:\n  {}",
            image.reference,
            mistakes.join("\n  ")
        ),
        "put them right in the Clusterfile; nothing was changed",
    ))
}

/// The step that brings `files` to `host`. Where none are wanted and none were before, there is none; where some were,
/// it gives back what the image has.
pub(super) fn step(
    clusterfile: &Clusterfile,
    host: &Host,
    files: Vec<ConfigFile>,
    after: &[StepId],
    report: Option<&HostReport>,
) -> Option<PlannedStep> {
    let shown = shown(&files);
    let action = StepAction::WriteConfigs {
        cluster: clusterfile.name.clone(),
        files,
    };
    let before = report.and_then(|report| report.latest(&clusterfile.name, &action.title()));
    if shown.is_none() && before.is_none() {
        return None;
    }
    let (step, mark, reason) = state_step(action, after, report);
    let reason = match (mark, shown) {
        (Mark::Add, Some(shown)) => format!("{reason}: {shown}"),
        (Mark::Change, None) => "what the image has comes back".to_owned(),
        _ => reason,
    };
    Some(PlannedStep::new(host.address, step, mark, reason))
}

/// An id that stands for those of `files` that lie below `folder` (which ends with `/`): that of the step that would write
/// them alone. None where there are none.
pub(super) fn below(clusterfile: &Clusterfile, files: &[ConfigFile], folder: &str) -> Option<StepId> {
    let files: Vec<ConfigFile> = files
        .iter()
        .filter(|file| file.path.starts_with(folder))
        .cloned()
        .collect();
    let step = |files| Step {
        action: StepAction::WriteConfigs {
            cluster: clusterfile.name.clone(),
            files,
        },
        after: Vec::new(),
    };
    (!files.is_empty()).then(|| step(files).id())
}

/// The paths of the first files, and how many more there are; none when there are none.
fn shown(files: &[ConfigFile]) -> Option<String> {
    let paths: Vec<&str> = files.iter().take(SHOWN).map(|file| file.path.as_str()).collect();
    let more = match files.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (!paths.is_empty()).then(|| paths.join(", ") + &more)
}

/// What becomes of the file `text` at `path` of the image; none is no file.
///
/// # Errors
/// Why it cannot become that, in words that follow its path.
pub(super) fn applied(
    clusterfile: &Clusterfile,
    path: &str,
    text: Option<String>,
) -> Result<Option<String>, String> {
    let changes = clusterfile.configs.iter().filter(|config| config.path == path);
    changes
        .map(|config| &config.change)
        .try_fold(text, |text, change| change.applied(text.as_deref()).map(Some))
}

fn of_host(
    clusterfile: &Clusterfile,
    image: &PlanImage,
    host: &Host,
    mistakes: &mut BTreeSet<String>,
) -> Vec<ConfigFile> {
    let mut changes: BTreeMap<&str, Vec<&ConfigChange>> = BTreeMap::new();
    for config in &clusterfile.configs {
        changes.entry(&config.path).or_default().push(&config.change);
    }
    let mut files: Vec<ConfigFile> = Vec::new();
    for (path, changes) in changes {
        // The names of what is in a folder come behind its own.
        let is_above = |file: &&ConfigFile| {
            path.strip_prefix(file.path.as_str())
                .is_some_and(|rest| rest.starts_with('/'))
        };
        if let Some(above) = files.iter().find(is_above) {
            mistakes.insert(format!(
                "{path} is to be a file, and so is {} above it",
                above.path
            ));
        }
        let merges = changes
            .iter()
            .any(|change| !matches!(change, ConfigChange::Overwrite(_)));
        let made =
            text(clusterfile, image, host, path, merges).and_then(|text| applied(clusterfile, path, text));
        match made {
            Ok(content) => files.push(ConfigFile {
                path: path.to_owned(),
                content: content.unwrap_or_default(),
            }),
            Err(why) if why.starts_with(':') => drop(mistakes.insert(format!("{path}{why}"))),
            Err(why) => drop(mistakes.insert(format!("{path} {why}"))),
        }
    }
    let len: usize = files.iter().map(|file| file.content.len()).sum();
    if len > MAX_CONFIG_FILES_LEN || files.len() > MAX_CONFIG_FILES {
        mistakes.insert(format!(
            "{} files of {len} bytes are too much: at most {MAX_CONFIG_FILES} files of {MAX_CONFIG_FILES_LEN} bytes in all \
             can be written; build an image with the others, `FROM` this one",
            files.len()
        ));
    }
    files
}

/// The text that the image has at `path` on `host`; `merges` says whether it is needed.
fn text(
    clusterfile: &Clusterfile,
    image: &PlanImage,
    host: &Host,
    path: &str,
    merges: bool,
) -> Result<Option<String>, String> {
    match image.files.get(path) {
        Some(ImageFile::NoFile(what)) => Err(format!("is {what} in the image")),
        Some(ImageFile::NoText(what)) if merges => {
            Err(format!("is {what}, so nothing can be merged into it"))
        }
        Some(ImageFile::Text(text)) => Ok(Some(text.clone())),
        Some(ImageFile::Template(template)) if merges => {
            let values = match application_of(path) {
                Some(name) => application_environment(clusterfile, image, host, name),
                None => environment(clusterfile, image, host),
            };
            gantry_template::render(template, &values)
                .map(Some)
                .map_err(|error| format!(".tmpl cannot be rendered for {}: {error}", host.address))
        }
        Some(ImageFile::Missing {
            closest: Some(closest),
        }) if merges => Err(format!("is not in the image; did you mean `{closest}`?")),
        _ => Ok(None),
    }
}
