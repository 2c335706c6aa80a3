//! `gantry diff`: what is different in another image, and what hosts would be sent to have it.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use gantry_model::ExitCode;
use gantry_store::{EntryKind, LayerError, Rootfs, TocEntry};
use serde_json::json;

use super::rootfs::{PlatformArgs, kind, size};
use crate::context::Context;
use crate::output::{self, OutputFormat, Table, bytes};
use crate::report::{printable, printable_name};

/// Flags of `gantry diff`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
What an upgrade would send is said for hosts that hold OLD and nothing else: tables of contents,
and the compressed chunks of files whose content they lack. Times of files are not compared.

Examples:
  gantry diff kubernetes:v1.31.4 kubernetes:v1.32.0
  gantry diff kubernetes:v1.31.4 kubernetes:v1.32.0 -o json | jq .bytesToSend")]
pub struct Args {
    /// The image that is there
    #[arg(value_name = "OLD")]
    old: String,

    /// The image that shall be there
    #[arg(value_name = "NEW")]
    new: String,

    /// Form of the list
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
    output: OutputFormat,

    #[command(flatten)]
    platform: PlatformArgs,
}

/// How a path differs.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Difference {
    change: Change,
    path: String,
    /// Bytes of the file in the old image.
    before: Option<u64>,
    /// Bytes of the file in the new image.
    after: Option<u64>,
    /// What changed about it, in words.
    what: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
enum Change {
    Added,
    Removed,
    Changed,
}

/// Runs `gantry diff`.
///
/// # Errors
/// When there is no such image, or it is damaged.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let old = args.platform.rootfs(context, &args.old)?;
    let new = args.platform.rootfs(context, &args.new)?;
    let differences = differences(&old, &new).map_err(super::layer_error)?;
    let (to_send, in_all) = (new.bytes_to_send(&old), new.bytes_to_send(&Rootfs::default()));
    match args.output {
        OutputFormat::Table => {
            if !differences.is_empty() {
                output::print(&table(&differences))?;
            }
            anstream::eprint!("{}", summary(&differences));
            anstream::eprintln!(
                "A host with {} is sent {} of {} to have {}.",
                args.old,
                bytes(to_send),
                bytes(in_all),
                args.new
            );
        }
        OutputFormat::Json => {
            let list: Vec<_> = differences
                .iter()
                .map(|one| {
                    json!({
                        "change": one.change, "path": one.path, "what": one.what,
                        "before": one.before, "after": one.after,
                    })
                })
                .collect();
            let document = json!({ "differences": list, "bytesToSend": to_send, "bytesInAll": in_all });
            output::print_json(&document)?;
        }
    }
    Ok(ExitCode::Done)
}

fn table(differences: &[Difference]) -> String {
    let mut table = Table::new(["CHANGE", "BEFORE", "AFTER", "WHAT", "PATH"]);
    let cell = |size: Option<u64>| size.map_or("-".to_owned(), bytes);
    for one in differences {
        let change = match one.change {
            Change::Added => "added",
            Change::Removed => "removed",
            Change::Changed => "changed",
        };
        let (what, path) = (one.what.join(", "), printable_name(&one.path));
        let what = printable(what.as_bytes());
        table.row([change.to_owned(), cell(one.before), cell(one.after), what, path]);
    }
    table.render()
}

/// `2 added (1.3 kB), 1 removed (13 B), 1 changed`.
fn summary(differences: &[Difference]) -> String {
    if differences.is_empty() {
        return "No file differs.\n".to_owned();
    }
    let (mut added, mut removed, mut changed) = ((0, 0), (0, 0), 0);
    for one in differences {
        match one.change {
            Change::Added => added = (added.0 + 1, added.1 + one.after.unwrap_or(0)),
            Change::Removed => removed = (removed.0 + 1, removed.1 + one.before.unwrap_or(0)),
            Change::Changed => changed += 1,
        }
    }
    let mut text = String::new();
    for ((count, len), word) in [(added, "added"), (removed, "removed")] {
        let _ = write!(text, "{count} {word}");
        if len > 0 {
            let _ = write!(text, " ({})", bytes(len));
        }
        text.push_str(", ");
    }
    let _ = writeln!(text, "{changed} changed.");
    text
}

fn differences(old: &Rootfs, new: &Rootfs) -> Result<Vec<Difference>, LayerError> {
    let paths: BTreeSet<&str> = old.iter().chain(new.iter()).map(|(path, _)| path).collect();
    let mut found = Vec::new();
    // What the root of a layer says of itself, no host sees.
    for path in paths.into_iter().filter(|path| !path.is_empty()) {
        let (before, after) = (old.get(path), new.get(path));
        let (change, what) = match (before, after) {
            (Some(before), Some(after)) => {
                let what = changes(before, after, || new.has_same_content(old, path))?;
                if what.is_empty() {
                    continue;
                }
                (Change::Changed, what)
            }
            (None, after) => (
                Change::Added,
                after.map(|entry| kind(entry).to_owned()).into_iter().collect(),
            ),
            (before, None) => (
                Change::Removed,
                before.map(|entry| kind(entry).to_owned()).into_iter().collect(),
            ),
        };
        found.push(Difference {
            change,
            path: path.to_owned(),
            before: before.and_then(size),
            after: after.and_then(size),
            what,
        });
    }
    Ok(found)
}

/// What a process on a host could see of the change, but for times.
fn changes(
    before: &TocEntry,
    after: &TocEntry,
    same_content: impl FnOnce() -> Result<bool, LayerError>,
) -> Result<Vec<String>, LayerError> {
    if kind(before) != kind(after) {
        return Ok(vec![format!("{} -> {}", kind(before), kind(after))]);
    }
    let mut what = Vec::new();
    match (&before.kind, &after.kind) {
        (EntryKind::File { .. }, EntryKind::File { .. }) if !same_content()? => {
            what.push("content".to_owned());
        }
        (EntryKind::Symlink { target: old }, EntryKind::Symlink { target: new }) if old != new => {
            what.push(format!("link {old} -> {new}"));
        }
        _ => {}
    }
    // Links have no mode of their own.
    if before.mode != after.mode && kind(before) != "link" {
        what.push(format!("mode {:04o} -> {:04o}", before.mode, after.mode));
    }
    if (before.uid, before.gid) != (after.uid, after.gid) {
        what.push(format!(
            "owner {}:{} -> {}:{}",
            before.uid, before.gid, after.uid, after.gid
        ));
    }
    if before.xattrs != after.xattrs {
        what.push("extended attributes".to_owned());
    }
    Ok(what)
}

#[cfg(test)]
mod tests {
    use gantry_store::Mtime;

    use super::*;

    fn entry(kind: EntryKind, mode: u32, uid: u32) -> TocEntry {
        TocEntry {
            path: String::new(),
            kind,
            mode,
            uid,
            gid: 0,
            mtime: Mtime::default(),
            xattrs: Vec::new(),
        }
    }

    #[test]
    fn what_changed_about_a_path_is_said() {
        let folder = |mode, uid| entry(EntryKind::Directory { opaque: false }, mode, uid);
        let link = |target: &str, mode| {
            entry(
                EntryKind::Symlink {
                    target: target.into(),
                },
                mode,
                0,
            )
        };
        let what = |before, after| changes(&before, &after, || Ok(true)).unwrap();
        assert!(what(folder(0o755, 0), folder(0o755, 0)).is_empty());
        assert_eq!(
            what(folder(0o755, 0), folder(0o1777, 7)),
            ["mode 0755 -> 1777", "owner 0:0 -> 7:0"]
        );
        assert_eq!(what(link("a", 0o777), link("b", 0o644)), ["link a -> b"]);
        assert_eq!(what(link("a", 0o777), folder(0o755, 0)), ["link -> folder"]);
        let opaque = entry(EntryKind::Directory { opaque: true }, 0o755, 0);
        assert!(
            what(folder(0o755, 0), opaque).is_empty(),
            "no host sees the difference"
        );
    }

    #[test]
    fn the_summary_counts_and_adds_up() {
        let one = |change, before, after| Difference {
            change,
            path: String::new(),
            before,
            after,
            what: Vec::new(),
        };
        let list = [
            one(Change::Added, None, Some(1000)),
            one(Change::Added, None, None),
            one(Change::Changed, Some(1), Some(2)),
        ];
        assert_eq!(summary(&list), "2 added (1.0 kB), 0 removed, 1 changed.\n");
    }
}
