//! This module owns [`Merged`]: the tree that a tar stream means, kept in memory.
//!
//! A later member replaces an earlier one, and links on the way to a member are followed inside the layer, so that
//! `bin -> usr/bin` and then `bin/sh` is the file `usr/bin/sh`, as on every distribution since the merge of `/usr`.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::member::{Kind, Member};
use crate::LayerError;
use crate::layer_writer::chunked_blob::{Content, Record};
use crate::layer_writer::refused;
use crate::limits::{MAX_LINKS_FOLLOWED, MAX_PATH_LEN, MAX_SYMLINK_LEN};
use crate::toc::document::EntryDocument;
use crate::toc::names::{self, Mark, OPAQUE_NAME, WHITEOUT_PREFIX};

/// Names that only AUFS wrote for itself.
const AUFS_PREFIX: &str = ".wh..wh.";

/// The tree so far.
#[derive(Default)]
pub(super) struct Merged {
    nodes: BTreeMap<String, Node>,
    files: Vec<File>,
    /// Folders that hide what lower layers have in them.
    opaque: BTreeSet<String>,
}

enum Node {
    Directory(Box<Member>),
    Symlink(Box<Member>),
    /// A name of one of the files.
    File(usize),
    Whiteout,
}

/// The content and metadata that one or several names share.
struct File {
    member: Member,
    content: Content,
}

impl Merged {
    /// Takes the next member.
    pub(super) fn add(&mut self, member: Member, content: Content) -> Result<(), LayerError> {
        let name = member.name.clone();
        let written = names::normalise(&name).map_err(|reason| refused(&name, reason))?;
        if written
            .split('/')
            .any(|part| part.starts_with(AUFS_PREFIX) && part != OPAQUE_NAME)
        {
            return Ok(());
        }
        let path = self.place(written, &name)?;
        match names::mark(&path).map_err(|reason| refused(&name, reason))? {
            Mark::None => {}
            mark if member.kind == Kind::File && member.size == 0 => {
                self.mark(mark);
                return Ok(());
            }
            _ => {
                return Err(refused(
                    &name,
                    "a whiteout is an empty regular file, and this is none",
                ));
            }
        }
        let node = match member.kind {
            Kind::Directory => Node::Directory(Box::new(member)),
            _ if path.is_empty() => return Err(refused(&name, "the layer's root can only be a folder")),
            Kind::File => {
                self.files.push(File { member, content });
                Node::File(self.files.len() - 1)
            }
            Kind::Symlink => {
                if member.link.is_empty() || member.link.len() > MAX_SYMLINK_LEN || member.link.contains('\0')
                {
                    return Err(refused(
                        &name,
                        "the target of a symbolic link has 1 to 4095 bytes and no NUL",
                    ));
                }
                Node::Symlink(Box::new(member))
            }
            Kind::HardLink => self.linked(&member)?,
        };
        self.put(path, node);
        Ok(())
    }

    /// The table of contents: folders and symbolic links, then files in the order of the stream, so that chunks are
    /// listed as they lie in the blob.
    pub(super) fn into_records(self) -> Vec<Record> {
        let Self { nodes, files, opaque } = self;
        let mut records = Vec::with_capacity(nodes.len() + opaque.len());
        let mut names_of: Vec<Vec<String>> = files.iter().map(|_| Vec::new()).collect();
        for (path, node) in nodes {
            match node {
                Node::File(file) => names_of[file].push(path),
                Node::Directory(member) => {
                    let name = if path.is_empty() {
                        "./".to_owned()
                    } else {
                        format!("{path}/")
                    };
                    records.push(record("dir", name, "", Some(&member)));
                }
                Node::Symlink(member) => records.push(record("symlink", path, &member.link, Some(&member))),
                Node::Whiteout => {
                    let mark = format!("{WHITEOUT_PREFIX}{}", names::base(&path));
                    let mark = names::join(names::parent(&path).unwrap_or_default(), &mark);
                    records.push(record("reg", mark, "", None));
                }
            }
        }
        records.extend(
            opaque
                .iter()
                .map(|folder| record("reg", names::join(folder, OPAQUE_NAME), "", None)),
        );
        for (file, mut paths) in files.into_iter().zip(names_of) {
            if paths.is_empty() {
                continue;
            }
            let first = paths.remove(0);
            let mut entry = record("reg", first.clone(), "", Some(&file.member));
            entry.content = file.content;
            records.push(entry);
            for path in paths {
                records.push(record("hardlink", path, &first, Some(&file.member)));
            }
        }
        records
    }

    /// Where `path` really lies: every symbolic link on the way to its last part is followed inside the layer.
    fn place(&self, path: &str, name: &str) -> Result<String, LayerError> {
        let (folder, base) = path.rsplit_once('/').unwrap_or(("", path));
        let mut left: Vec<String> = folder
            .rsplit('/')
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect();
        let (mut at, mut followed) = (String::new(), 0);
        while let Some(part) = left.pop() {
            if part == ".." {
                let parent = names::parent(&at).map(str::to_owned);
                at = parent
                    .ok_or_else(|| refused(name, "a symbolic link on its way leads out of the layer"))?;
                continue;
            }
            let next = names::join(&at, &part);
            match self.nodes.get(&next) {
                Some(Node::Symlink(link)) => {
                    followed += 1;
                    if followed > MAX_LINKS_FOLLOWED {
                        return Err(refused(name, "there are too many symbolic links on its way"));
                    }
                    if link.link.starts_with('/') {
                        at = String::new();
                    }
                    left.extend(
                        link.link
                            .rsplit('/')
                            .filter(|part| !matches!(*part, "" | "."))
                            .map(str::to_owned),
                    );
                }
                Some(Node::File(_)) => {
                    return Err(refused(
                        name,
                        format!("it lies below {:?}, which is no folder", names::readable(&next)),
                    ));
                }
                Some(Node::Directory(_) | Node::Whiteout) | None => at = next,
            }
            if at.len() > MAX_PATH_LEN {
                return Err(refused(name, "the way to it is too long"));
            }
        }
        let path = names::join(&at, base);
        names::normalise(&path).map_err(|reason| refused(name, reason))?;
        Ok(path)
    }

    fn mark(&mut self, mark: Mark) {
        match mark {
            Mark::Opaque(folder) => {
                self.opaque.insert(folder);
            }
            Mark::Whiteout(path) => match self.nodes.get(&path) {
                // It hides what lower layers have: a folder of this layer stays, alone.
                Some(Node::Directory(_)) => {
                    self.opaque.insert(path);
                }
                Some(_) => {}
                None if self.has_below(&path) => {
                    self.opaque.insert(path);
                }
                None => {
                    self.nodes.insert(path, Node::Whiteout);
                }
            },
            Mark::None => {}
        }
    }

    /// What a hard link to `member.link` is. Its target is looked for inside the layer, absolute or not.
    fn linked(&self, member: &Member) -> Result<Node, LayerError> {
        let target = names::normalise(member.link.trim_start_matches('/'))
            .map_err(|reason| refused(&member.name, format!("as a hard link's target, {reason}")))?;
        match self.nodes.get(&self.place(target, &member.name)?) {
            Some(Node::File(file)) => Ok(Node::File(*file)),
            // A second name of a symbolic link is a symbolic link.
            Some(Node::Symlink(link)) => Ok(Node::Symlink(Box::new(Member {
                name: member.name.clone(),
                link: link.link.clone(),
                xattrs: link.xattrs.clone(),
                ..**link
            }))),
            _ => {
                let target = names::readable(&member.link);
                let reason =
                    format!("it is a hard link to {target:?}, which is no file before it in this layer");
                Err(refused(&member.name, reason))
            }
        }
    }

    fn put(&mut self, path: String, node: Node) {
        let folder = matches!(node, Node::Directory(_));
        match self.nodes.get(&path) {
            Some(Node::Directory(_)) if folder => {}
            // First hidden, then made anew: nothing of lower layers shows through.
            Some(Node::Whiteout) if folder => {
                self.opaque.insert(path.clone());
            }
            _ if folder => {}
            _ => self.forget_below(&path),
        }
        for way in ways(&path) {
            if let Some(Node::Whiteout) = self.nodes.get(way) {
                self.nodes.remove(way);
                self.opaque.insert(way.to_owned());
            }
        }
        self.nodes.insert(path, node);
    }

    fn has_below(&self, path: &str) -> bool {
        let (from, to) = below(path);
        self.nodes.range(from..to).next().is_some()
    }

    /// A folder that something else replaces goes with all that is in it.
    fn forget_below(&mut self, path: &str) {
        let (from, to) = below(path);
        let gone: Vec<String> = self
            .nodes
            .range(from.clone()..to.clone())
            .map(|(path, _)| path.clone())
            .collect();
        for path in gone {
            self.nodes.remove(&path);
        }
        self.opaque.remove(path);
        let gone: Vec<String> = self.opaque.range(from..to).cloned().collect();
        for path in gone {
            self.opaque.remove(&path);
        }
    }
}

/// The range of paths below `path`: `0` comes right after `/`.
fn below(path: &str) -> (String, String) {
    (format!("{path}/"), format!("{path}0"))
}

/// The folders `path` lies in, without the root.
fn ways(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at])
}

fn record(kind: &'static str, name: String, link: &str, member: Option<&Member>) -> Record {
    let mut document = EntryDocument {
        kind: Cow::Borrowed(kind),
        name: Cow::Owned(name),
        ..EntryDocument::default()
    };
    document.link_name = Cow::Owned(link.to_owned());
    if let Some(member) = member {
        document.mode = member.mode.into();
        document.uid = member.uid.into();
        document.gid = member.gid.into();
        document.mod_time = jiff::Timestamp::new(member.mtime.seconds, 0)
            .and_then(|time| {
                time.checked_add(jiff::SignedDuration::from_nanos(member.mtime.nanoseconds.into()))
            })
            .ok()
            .map(|time| Cow::Owned(time.to_string()));
        let encode = |(name, value): &(String, Vec<u8>)| (name.clone(), BASE64_STANDARD.encode(value));
        document.xattrs = (!member.xattrs.is_empty()).then(|| member.xattrs.iter().map(encode).collect());
    }
    Record {
        document,
        content: Content::default(),
    }
}
