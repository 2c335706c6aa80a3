//! This module owns [`MergedTree`]: what the rootfs looks like after the layers so far, by their tables of contents.
//!
//! COPY needs it for what docker's users expect: a destination that is a folder already, and a `lib` that is a link
//! to `usr/lib`, which a layer with a folder `lib` would hide.

use std::collections::BTreeMap;

use gantry_store::{EntryKind, Metadata, Toc, TocEntry};

/// Links followed on one path before it counts as a loop, as the kernel has it.
const MAX_LINKS: usize = 40;

/// The folders, links and files of the merged layers.
#[derive(Debug, Default)]
pub(super) struct MergedTree {
    nodes: BTreeMap<String, Node>,
}

/// What lies at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    /// A folder.
    Folder(Metadata),
    /// A symbolic link to this target.
    Link(String),
    /// A file.
    File,
}

impl MergedTree {
    /// Puts a layer on top.
    pub(super) fn add(&mut self, layer: &Toc) {
        // Whiteouts hide what was below, never what the same layer brings.
        for entry in layer.entries() {
            match entry.kind {
                EntryKind::Whiteout => self.remove(&entry.path),
                EntryKind::Directory { opaque: true } => self.remove_below(&entry.path),
                _ => {}
            }
        }
        for entry in layer.entries() {
            let node = match &entry.kind {
                EntryKind::Whiteout => continue,
                EntryKind::Directory { .. } => Node::Folder(metadata(entry)),
                EntryKind::Symlink { target } => Node::Link(target.clone()),
                EntryKind::File { .. } | EntryKind::HardLink { .. } => Node::File,
            };
            if !matches!(node, Node::Folder(_)) {
                self.remove_below(&entry.path);
            }
            self.nodes.insert(entry.path.clone(), node);
        }
    }

    /// What lies at `path` itself.
    #[must_use]
    pub(super) fn node(&self, path: &str) -> Option<&Node> {
        self.nodes.get(path)
    }

    /// `path` with every link in it followed, inside the rootfs; what does not exist is kept as written. None when
    /// the links go in circles.
    #[must_use]
    pub(super) fn resolve(&self, path: &str) -> Option<String> {
        let mut links = 0;
        let mut todo: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
        let mut done: Vec<String> = Vec::new();
        while let Some(part) = todo.pop() {
            match part.as_str() {
                "" | "." => continue,
                ".." => {
                    done.pop();
                    continue;
                }
                _ => done.push(part),
            }
            if let Some(Node::Link(target)) = self.nodes.get(&done.join("/")) {
                links += 1;
                if links > MAX_LINKS {
                    return None;
                }
                done.pop();
                if target.starts_with('/') {
                    done.clear();
                }
                todo.extend(target.split('/').rev().map(str::to_owned));
            }
        }
        Some(done.join("/"))
    }

    /// The folder that `path` leads to, if it leads to one.
    #[must_use]
    pub(super) fn folder(&self, path: &str) -> Option<String> {
        let resolved = self.resolve(path)?;
        (resolved.is_empty() || matches!(self.node(&resolved), Some(Node::Folder(_)))).then_some(resolved)
    }

    /// Paths of the folders whose paths start with `prefix`.
    pub(super) fn folders_below<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        self.nodes
            .range(prefix.to_owned()..)
            .take_while(move |(path, _)| path.starts_with(prefix))
            .filter(|(_, node)| matches!(node, Node::Folder(_)))
            .map(|(path, _)| path.as_str())
    }

    /// A tree of these folders.
    #[cfg(test)]
    pub(super) fn of_folders(paths: &[&str]) -> Self {
        let folder = |path: &&str| ((*path).to_owned(), Node::Folder(Metadata::default()));
        Self {
            nodes: paths.iter().map(folder).collect(),
        }
    }

    fn remove(&mut self, path: &str) {
        self.nodes.remove(path);
        self.remove_below(path);
    }

    fn remove_below(&mut self, path: &str) {
        if path.is_empty() {
            return self.nodes.clear();
        }
        // '0' follows '/': the range holds exactly what lies below.
        let below = format!("{path}/")..format!("{path}0");
        let gone: Vec<String> = self.nodes.range(below).map(|(path, _)| path.clone()).collect();
        for path in gone {
            self.nodes.remove(&path);
        }
    }
}

fn metadata(entry: &TocEntry) -> Metadata {
    Metadata {
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        mtime: entry.mtime.seconds,
        xattrs: entry.xattrs.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(nodes: &[(&str, Node)]) -> MergedTree {
        MergedTree {
            nodes: nodes
                .iter()
                .map(|(path, node)| ((*path).to_owned(), node.clone()))
                .collect(),
        }
    }

    fn folder() -> Node {
        Node::Folder(Metadata::default())
    }

    #[test]
    fn links_are_followed_inside_the_rootfs() {
        let tree = tree(&[
            ("usr", folder()),
            ("usr/lib", folder()),
            ("lib", Node::Link("usr/lib".into())),
            ("abs", Node::Link("/usr".into())),
            ("out", Node::Link("../../../etc".into())),
            ("loop", Node::Link("loop".into())),
        ]);
        assert_eq!(tree.folder("lib"), Some("usr/lib".into()));
        assert_eq!(tree.resolve("abs/lib/x.so"), Some("usr/lib/x.so".into()));
        assert_eq!(tree.resolve("out/passwd"), Some("etc/passwd".into()));
        assert_eq!(tree.resolve("loop/x"), None);
        assert_eq!(tree.folder("missing"), None);
    }

    #[test]
    fn what_lies_below_goes_with_its_folder() {
        let mut tree = tree(&[
            ("a", folder()),
            ("a/b", Node::File),
            ("a-c", Node::File),
            ("a0", Node::File),
        ]);
        tree.remove("a");
        assert_eq!(tree.nodes.keys().collect::<Vec<_>>(), ["a-c", "a0"]);
    }
}
