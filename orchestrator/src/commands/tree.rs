//! `gantry tree`: the folders and files of an image as a tree, without unpacking it.

use std::collections::BTreeMap;

use gantry_model::ExitCode;
use gantry_store::{EntryKind, Rootfs, TocEntry};

use super::rootfs::{PlatformArgs, kind, nothing_at, size};
use crate::context::Context;
use crate::output::{self, bytes};
use crate::report::printable_name;

/// Flags of `gantry tree`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Folders that are not opened (-L) say what is in them.

Examples:
  gantry tree kubernetes:v1.31.4 etc
  gantry tree -L 1 kubernetes:v1.31.4       which folder is how large")]
pub struct Args {
    /// Name or id of the image
    image: String,

    /// Folder in the rootfs; links on the way are followed inside it
    #[arg(value_name = "PATH", default_value = "/")]
    path: String,

    /// Open folders down to this depth only
    #[arg(short = 'L', long, value_name = "DEPTH", value_parser = clap::value_parser!(u32).range(1..))]
    level: Option<u32>,

    /// Folders only
    #[arg(short, long)]
    directories: bool,

    #[command(flatten)]
    platform: PlatformArgs,
}

/// Runs `gantry tree`.
///
/// # Errors
/// When there is no such image or path, or a table of contents is damaged.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let rootfs = args.platform.rootfs(context, &args.image)?;
    let root = below(&rootfs, &args.path).ok_or_else(|| nothing_at(&args.path, &args.image))?;
    if !root.is_folder() {
        return output::print(&format!("{}\n", line(&args.path, &root, true))).map(|()| ExitCode::Done);
    }
    let mut text = format!("{}\n", printable_name(&args.path));
    let drawing = Drawing {
        level: args.level.unwrap_or(u32::MAX),
        directories: args.directories,
    };
    drawing.draw(&root, "", 1, &mut text);
    text.push_str(&format!("\n{}\n", root.sum()));
    output::print(&text)?;
    Ok(ExitCode::Done)
}

/// What lies at one place, and below it.
#[derive(Default)]
struct Node<'r> {
    /// None for a folder that no layer names.
    entry: Option<&'r TocEntry>,
    children: BTreeMap<&'r str, Self>,
}

/// What is below a folder, counted.
#[derive(Default)]
struct Sum {
    folders: usize,
    files: usize,
    links: usize,
    len: u64,
}

/// What lies at `path`, and the tree below it; none when there is nothing. A file has nothing below it.
fn below<'r>(rootfs: &'r Rootfs, path: &str) -> Option<Node<'r>> {
    let folder = rootfs.resolve(path)?;
    let mut root = Node {
        entry: rootfs.get(&folder),
        ..Node::default()
    };
    for (path, entry) in rootfs.iter() {
        let inside = match folder.as_str() {
            "" => Some(path),
            folder => path.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/')),
        };
        if let Some(inside) = inside.filter(|inside| !inside.is_empty()) {
            let mut node = &mut root;
            for name in inside.split('/') {
                node = node.children.entry(name).or_default();
            }
            node.entry = Some(entry);
        }
    }
    let is_there = folder.is_empty() || !root.children.is_empty() || root.entry.is_some();
    is_there.then_some(root)
}

impl Node<'_> {
    fn is_folder(&self) -> bool {
        self.entry.is_none_or(|entry| kind(entry) == "folder")
    }

    fn sum(&self) -> Sum {
        let mut sum = Sum::default();
        for child in self.children.values() {
            let inside = child.sum();
            sum.folders += inside.folders;
            sum.files += inside.files;
            sum.links += inside.links;
            sum.len += inside.len;
            match child.entry.map(kind) {
                Some("file") => sum.files += 1,
                Some("link") => sum.links += 1,
                _ => sum.folders += 1,
            }
            sum.len += child.entry.and_then(size).unwrap_or(0);
        }
        sum
    }
}

/// `3 folders, 12 files, 1 link, 1.2 GB`.
impl std::fmt::Display for Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let plural = |count| if count == 1 { "" } else { "s" };
        for (count, what) in [
            (self.folders, "folder"),
            (self.files, "file"),
            (self.links, "link"),
        ] {
            if count > 0 {
                write!(f, "{count} {what}{}, ", plural(count))?;
            }
        }
        f.write_str(&bytes(self.len))
    }
}

/// How a tree is drawn.
struct Drawing {
    level: u32,
    directories: bool,
}

impl Drawing {
    fn draw(&self, node: &Node<'_>, indent: &str, depth: u32, text: &mut String) {
        let children = node.children.iter();
        let shown: Vec<_> = children
            .filter(|(_, child)| !self.directories || child.is_folder())
            .collect();
        for (position, (name, child)) in shown.iter().enumerate() {
            let last = position + 1 == shown.len();
            let (branch, more) = if last {
                ("└── ", "    ")
            } else {
                ("├── ", "│   ")
            };
            let opened = depth < self.level;
            let line = line(name, child, opened);
            text.push_str(&format!("{indent}{branch}{line}\n"));
            if opened {
                self.draw(child, &format!("{indent}{more}"), depth + 1, text);
            }
        }
    }
}

fn line(name: &str, node: &Node<'_>, opened: bool) -> String {
    let name = printable_name(name);
    match node.entry.map(|entry| &entry.kind) {
        Some(EntryKind::Symlink { target }) => format!("{name} -> {}", printable_name(target)),
        _ if node.is_folder() && (opened || node.children.is_empty()) => format!("{name}/"),
        _ if node.is_folder() => format!("{name}/  ({})", node.sum()),
        _ => match node.entry.and_then(size) {
            Some(len) => format!("{name}  {}", bytes(len)),
            None => name,
        },
    }
}

#[cfg(test)]
mod tests {
    use gantry_store::Mtime;

    use super::*;

    fn entry(kind: EntryKind) -> TocEntry {
        TocEntry {
            path: String::new(),
            kind,
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: Mtime::default(),
            xattrs: Vec::new(),
        }
    }

    #[test]
    fn a_tree_is_drawn_with_what_closed_folders_hold() {
        let (file, link) = (
            entry(EntryKind::HardLink { target: 0 }),
            entry(EntryKind::Symlink {
                target: "init.sh".into(),
            }),
        );
        let mut root = Node::default();
        for (path, entry) in [
            ("a/b/c", &file),
            ("a-file", &file),
            ("scripts/start", &link),
            ("scripts/x", &file),
        ] {
            let mut node = &mut root;
            for name in path.split('/') {
                node = node.children.entry(name).or_default();
            }
            node.entry = Some(entry);
        }
        let drawn = |level, directories| {
            let mut text = String::new();
            Drawing { level, directories }.draw(&root, "", 1, &mut text);
            text
        };
        assert_eq!(
            drawn(u32::MAX, false),
            "├── a/\n│   └── b/\n│       └── c\n├── a-file\n└── scripts/\n    ├── start -> init.sh\n    └── x\n"
        );
        assert_eq!(
            drawn(1, true),
            "├── a/  (1 folder, 1 file, 0 B)\n└── scripts/  (1 file, 1 link, 0 B)\n"
        );
        assert_eq!(root.sum().to_string(), "3 folders, 3 files, 1 link, 0 B");
    }
}
