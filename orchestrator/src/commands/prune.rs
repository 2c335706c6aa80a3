//! `gantry prune`: what no image needs leaves the store.

use gantry_model::ExitCode;
use gantry_store::{Postponed, Removal, Store};

use crate::context::Context;
use crate::exit::failure_hint;
use crate::output::{self, bytes};

/// Flags of `gantry prune`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Images keep all they need; `gantry rmi` removes images. What goes are blobs that no image needs,
beginnings of blobs whose pull was cut off, archives of which not all parts came, cached steps of
builds that did not end well or whose image is gone, and unpacked layers that neither an image nor a
generation needs. Where an agent shares the folder, unpacked layers stay: they may be its own.

Example:
  gantry rmi kubernetes:v1.30.8 && gantry prune")]
pub struct Args {}

/// Runs `gantry prune`.
///
/// # Errors
/// When another command uses the store, an image is damaged, or something cannot be removed.
pub fn run(_: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let store = Store::open(context.root()).map_err(super::store_error)?;
    // Layers that an agent holds may be meant for clusters that no image here knows of.
    let layers = if context.root().join("agent").exists() {
        Vec::new()
    } else {
        store.layers().map_err(super::layer_error)?
    };
    let removal = store.prune(layers).map_err(super::store_error)?;
    match removal.postponed {
        None => {}
        Some(Postponed::InUse) => {
            return Err(failure_hint(
                ExitCode::Locked,
                "another command uses the store now; nothing was removed",
                "run `gantry prune` again when it has ended",
            ));
        }
        Some(Postponed::Damaged(error)) => {
            return Err(failure_hint(
                ExitCode::Verification,
                format!("nothing was removed, because nobody knows what a damaged image needs: {error}"),
                "`gantry store check` names the image: remove it, then run `gantry prune` again",
            ));
        }
    }
    let beginnings = store.remove_partial_blobs().map_err(super::store_error)?;
    let parts = store.remove_parts().map_err(super::store_error)?;
    output::print(&said(&removal, beginnings, parts))?;
    for mounted in store.mounted().map_err(super::store_error)? {
        let (name, target) = (&mounted.name, mounted.target.display());
        anstream::eprintln!("{name} is mounted at {target}; its layers stay");
    }
    Ok(ExitCode::Done)
}

/// `removed 2 blobs, 9 B of pulls that were cut off; 1.3 MB of blobs freed`.
fn said(removal: &Removal, beginnings: u64, archive_parts: u64) -> String {
    let freed = removal.freed + beginnings + archive_parts;
    let counted = |count: usize, what: &str| match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    };
    let mut parts = Vec::new();
    if !removal.blobs.is_empty() {
        parts.push(counted(removal.blobs.len(), "blob"));
    }
    if beginnings > 0 {
        parts.push(format!("{} of pulls that were cut off", bytes(beginnings)));
    }
    if archive_parts > 0 {
        parts.push(format!("{} of archives that came in part", bytes(archive_parts)));
    }
    if removal.damaged_signatures > 0 {
        let count = removal.damaged_signatures;
        parts.push(format!("damaged signatures over {}", counted(count, "image")));
    }
    if removal.steps > 0 {
        parts.push(counted(removal.steps, "cached step"));
    }
    if !removal.layers.is_empty() {
        parts.push(counted(removal.layers.len(), "unpacked layer"));
    }
    match (parts.is_empty(), freed) {
        (true, _) => "nothing to remove\n".to_owned(),
        (false, 0) => format!("removed {}\n", parts.join(", ")),
        (false, _) => format!("removed {}; {} of blobs freed\n", parts.join(", "), bytes(freed)),
    }
}
