//! `gantry ls`: what is in an image, without unpacking it.

use gantry_model::ExitCode;
use gantry_store::{EntryKind, Rootfs, TocEntry};
use serde_json::{Value, json};

use super::rootfs::{PlatformArgs, kind, nothing_at, size};
use crate::context::Context;
use crate::output::{self, OutputFormat, Table, bytes, date};
use crate::report::printable_name;

/// Flags of `gantry ls`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gantry ls kubernetes:v1.31.4 etc
  gantry ls -R kubernetes:v1.31.4 registry
  gantry ls -R kubernetes:v1.31.4 -o json | jq -r '.[] | select(.size > 1e8) | .path'")]
pub struct Args {
    /// Name or id of the image
    image: String,

    /// File or folder in the rootfs; links on the way are followed inside it
    #[arg(value_name = "PATH", default_value = "/")]
    path: String,

    /// Everything below, too
    #[arg(short = 'R', long)]
    recursive: bool,

    /// Form of the list
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
    output: OutputFormat,

    #[command(flatten)]
    platform: PlatformArgs,
}

/// Runs `gantry ls`.
///
/// # Errors
/// When there is no such image or path, or a table of contents is damaged.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let rootfs = args.platform.rootfs(context, &args.image)?;
    let listed = list(&rootfs, &args.path, args.recursive);
    let listed = listed.ok_or_else(|| nothing_at(&args.path, &args.image))?;
    match args.output {
        OutputFormat::Table => {
            let mut table = Table::new(["MODE", "OWNER", "SIZE", "MODIFIED", "NAME"]);
            for one in listed {
                let entry = one.entry;
                let size = size(entry).map_or("-".to_owned(), bytes);
                let owner = format!("{}:{}", entry.uid, entry.gid);
                let name = name(one.below, entry);
                // Reproducible images have no times.
                let modified = match entry.mtime.seconds {
                    0 => "-".to_owned(),
                    seconds => date(seconds),
                };
                table.row([mode(entry), owner, size, modified, name]);
            }
            output::print(&table.render())?;
        }
        OutputFormat::Json => {
            let list: Vec<Value> = listed.iter().map(document).collect();
            output::print_json(&list)?;
        }
    }
    Ok(ExitCode::Done)
}

/// One line of the list.
struct Listed<'r> {
    path: &'r str,
    /// The path below the folder that was asked for.
    below: &'r str,
    entry: &'r TocEntry,
}

/// What lies in the folder at `path`, or the file or link there; none when there is nothing.
fn list<'r>(rootfs: &'r Rootfs, path: &str, recursive: bool) -> Option<Vec<Listed<'r>>> {
    let is_folder =
        |at: &String| at.is_empty() || rootfs.get(at).is_some_and(|entry| kind(entry) == "folder");
    let Some(folder) = rootfs.resolve(path).filter(is_folder) else {
        let at = rootfs.locate(path)?;
        let one = rootfs.iter().find(|(path, _)| *path == at)?;
        return Some(vec![Listed {
            path: one.0,
            below: one.0,
            entry: one.1,
        }]);
    };
    let start = if folder.is_empty() {
        folder
    } else {
        format!("{folder}/")
    };
    let listed = rootfs.iter().filter_map(|(path, entry)| {
        let below = path.strip_prefix(&start).filter(|below| !below.is_empty())?;
        (recursive || !below.contains('/')).then_some(Listed { path, below, entry })
    });
    Some(listed.collect())
}

fn name(path: &str, entry: &TocEntry) -> String {
    let path = printable_name(path);
    match &entry.kind {
        EntryKind::Directory { .. } => format!("{path}/"),
        EntryKind::Symlink { target } => format!("{path} -> {}", printable_name(target)),
        _ => path,
    }
}

/// `-rwxr-xr-x`, as `ls` writes it.
fn mode(entry: &TocEntry) -> String {
    let mut text = String::from(match entry.kind {
        EntryKind::Directory { .. } => 'd',
        EntryKind::Symlink { .. } => return "lrwxrwxrwx".to_owned(),
        _ => '-',
    });
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = entry.mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (bits & 1 != 0, entry.mode & special != 0) {
            (true, true) => letter,
            (false, true) => letter.to_ascii_uppercase(),
            (true, false) => 'x',
            (false, false) => '-',
        });
    }
    text
}

fn document(one: &Listed<'_>) -> Value {
    let entry = one.entry;
    let target = match &entry.kind {
        EntryKind::Symlink { target } => Some(target),
        _ => None,
    };
    json!({
        "path": one.path,
        "type": kind(entry),
        "mode": format!("{:04o}", entry.mode),
        "uid": entry.uid,
        "gid": entry.gid,
        "mtime": entry.mtime.seconds,
        "size": size(entry),
        "target": target,
    })
}

#[cfg(test)]
mod tests {
    use gantry_store::Mtime;

    use super::*;

    #[test]
    fn modes_are_written_as_ls_writes_them() {
        let entry = |kind, mode| TocEntry {
            path: String::new(),
            kind,
            mode,
            uid: 0,
            gid: 0,
            mtime: Mtime::default(),
            xattrs: Vec::new(),
        };
        let file = || EntryKind::HardLink { target: 0 };
        let folder = EntryKind::Directory { opaque: false };
        let link = EntryKind::Symlink { target: "x".into() };
        assert_eq!(mode(&entry(folder, 0o1777)), "drwxrwxrwt");
        assert_eq!(mode(&entry(file(), 0o4755)), "-rwsr-xr-x");
        assert_eq!(mode(&entry(file(), 0o2640)), "-rw-r-S---");
        assert_eq!(
            mode(&entry(link, 0o644)),
            "lrwxrwxrwx",
            "the kernel has no mode for them"
        );
    }
}
