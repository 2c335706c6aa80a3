//! `gantry check --rehearse`: what the scripts of an image ask a network for.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueHint;
use gantry_model::ImageReference;
use gantry_store::{Image, Rootfs, Store};
use serde_json::json;

use super::count;
use crate::clusterfile::compose::{Choices, PLAIN, compose};
use crate::clusterfile::{Clusterfile, Source};
use crate::commands::layer_error;
use crate::commands::run::default_clusterfile;
use crate::context::Context;
use crate::output::Table;
use crate::plan::PlanImage;
use crate::rehearsal::{self, Doubt, Finding, Outcome};
use crate::report::printable;

/// Flags of a rehearsal.
#[derive(Debug, clap::Args)]
pub(super) struct RehearsalArgs {
    /// Run the image's scripts, as root, on a host in a sandbox without a network, and list what they ask a network for
    #[arg(long)]
    rehearse: bool,

    /// Longest time that a script may take in a rehearsal
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = humantime::parse_duration, requires = "rehearse")]
    script_timeout: Duration,

    /// Rehearse for the first master of this Clusterfile [default: etc/Clusterfile of the image, else a plain one]
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "rehearse")]
    file: Option<PathBuf>,

    /// A variable of the image's scripts in a rehearsal; may be given several times
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = crate::commands::run::variable, requires = "rehearse")]
    env: Vec<String>,
}

impl RehearsalArgs {
    /// Rehearses the image where that is asked for.
    ///
    /// # Errors
    /// See [`rehearsal::prepare`] and [`rehearsal::rehearse`].
    pub(super) fn run(
        &self,
        store: &Store,
        image: &Image,
        name: &ImageReference,
        rootfs: &Rootfs,
        context: &Context,
    ) -> anyhow::Result<Option<Outcome>> {
        if !self.rehearse {
            return Ok(None);
        }
        // These are scripts of somebody, and they run as root.
        store.accepted(name, image).map_err(super::super::store_error)?;
        let plan_image = PlanImage::read(store, image, name, &BTreeSet::new()).map_err(layer_error)?;
        let (clusterfile, doubt) = self.clusterfile(name, &plan_image, context)?;
        let seconds = u32::try_from(self.script_timeout.as_secs())
            .unwrap_or(u32::MAX)
            .max(1);
        let prepared = rehearsal::prepare(image, &plan_image, rootfs, &clusterfile, seconds)?;
        let mut outcome = rehearsal::rehearse(store, prepared)?;
        outcome.doubts.splice(0..0, doubt);
        Ok(Some(outcome))
    }

    /// The Clusterfile that was given, or else the image's own, for the one host there is; a plain one where the image's says nothing
    /// without more values.
    fn clusterfile(
        &self,
        name: &ImageReference,
        image: &PlanImage,
        context: &Context,
    ) -> anyhow::Result<(Clusterfile, Option<Doubt>)> {
        let choices = Choices {
            image: Some(name.clone()),
            masters: vec![rehearsal::host_address()],
            env: self.env.clone(),
            ..Choices::default()
        };
        let for_one_host = |file: &str, base: &str| -> anyhow::Result<Clusterfile> {
            let text = compose(file, base, &choices)?;
            Ok(Clusterfile::parse(file, &text)?.0)
        };
        if let Some(file) = &self.file {
            let source = Source::read(file, "-f")?;
            let given = source.clusterfile()?;
            source.refuse_masked()?;
            source.check_against(&given, &image.offer())?;
            return Ok((for_one_host(&source.file, &source.text)?, None));
        }
        let own = default_clusterfile::of_image(name, &self.env, context)
            .and_then(|source| for_one_host(&source.file, &source.text));
        match own {
            Ok(clusterfile) => Ok((clusterfile, None)),
            Err(error) => {
                let reason = format!("scripts run without what it says: {error:#}");
                let doubt = Doubt::new("etc/Clusterfile", &reason);
                Ok((for_one_host("Clusterfile", PLAIN)?, Some(doubt)))
            }
        }
    }
}

/// An outcome for people.
pub(super) fn text(outcome: &Outcome) -> String {
    let mut text = format!("\n{} rehearsed\n", count(outcome.scripts.len(), "script"));
    if !outcome.findings.is_empty() {
        let mut table = Table::new(["NEEDS A NETWORK", "AT", "SCRIPT"]);
        for finding in &outcome.findings {
            let cells = [finding.what.to_string(), at(finding), finding.script.clone()];
            table.row(cells.map(|cell| printable(cell.as_bytes())));
        }
        text.push_str(&format!("\n{}", table.render()));
    }
    if !outcome.doubts.is_empty() {
        let mut table = Table::new(["NOT KNOWN OF", "WHY"]);
        for doubt in &outcome.doubts {
            let cells = [&doubt.script, &doubt.reason];
            table.row(cells.map(|cell| printable(cell.as_bytes())));
        }
        text.push_str(&format!("\n{}", table.render()));
    }
    text
}

/// The line, and the process where it is another program's.
fn at(finding: &Finding) -> String {
    match (&finding.line, &finding.process) {
        (Some(line), Some(process)) if *process != line.program => {
            format!("{}:{} ({process})", line.file, line.line)
        }
        (Some(line), _) => line.to_string(),
        (None, Some(process)) => format!("({process})"),
        (None, None) => "-".to_owned(),
    }
}

/// An outcome for programs.
pub(super) fn document(outcome: &Outcome) -> serde_json::Value {
    json!({
        "scripts": outcome.scripts,
        "findings": outcome.findings,
        "notKnown": outcome.doubts,
    })
}
