//! Bytes for generated files, the same on every run.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use gantry_integration::{command, image_tree::noise};

/// How much is made at a time.
const BLOCK: u64 = 1 << 20;

/// Writes a file of `size` bytes that no compression makes smaller.
pub(crate) fn write_noise(path: &Path, size: u64, seed: u64) -> Result<()> {
    let mut file = create(path)?;
    for block in 0..size.div_ceil(BLOCK) {
        let length = BLOCK.min(size - block * BLOCK);
        // Blocks of different files must differ too: seeds of files are small numbers.
        file.write_all(&noise(usize::try_from(length)?, (seed << 32) + block))?;
    }
    file.flush()
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Configuration-like text of about `size` bytes: as repetitive as YAML is, no two alike.
pub(crate) fn text(size: usize, seed: u64) -> String {
    const WORDS: &[&str] = &[
        "apiVersion",
        "kind",
        "metadata",
        "name",
        "namespace",
        "labels",
        "spec",
        "containers",
        "image",
        "command",
        "args",
        "resources",
        "limits",
        "memory",
        "cpu",
        "volumeMounts",
        "mountPath",
        "readOnly",
        "securityContext",
        "serviceAccountName",
        "tolerations",
        "nodeSelector",
        "hostNetwork",
        "ports",
        "protocol",
        "livenessProbe",
        "initialDelaySeconds",
        "kube-system",
        "cluster.local",
        "sea.hub:5000",
        "config",
        "annotations",
    ];
    let numbers = noise(size / 4 + 64, seed);
    let mut numbers = numbers.iter().map(|byte| usize::from(*byte));
    let mut text = String::with_capacity(size + 64);
    while text.len() < size {
        let mut next = || numbers.next().unwrap_or(0);
        let (indent, key, value, number) = (next() % 5, next(), next(), next() * 256 + next());
        let line = format!(
            "{:w$}{}: {}-{number}\n",
            "",
            WORDS[key % 32],
            WORDS[value % 32],
            w = indent * 2
        );
        text.push_str(&line);
    }
    text
}

/// Creates a file with the folders it is in.
pub(crate) fn create(path: &Path) -> Result<BufWriter<File>> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    }
    let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    Ok(BufWriter::with_capacity(1 << 18, file))
}

/// Adds the one script without which no image can be planned for. It does nothing, and staging does not run it.
pub(crate) fn write_init_script(tree: &Path) -> Result<()> {
    let mut file = create(&tree.join("scripts/init.sh"))?;
    file.write_all(b"#!/bin/sh\n")?;
    Ok(file.flush()?)
}

/// Waits until what was written is on disk: writing back while a contender runs would be measured with it.
pub(crate) fn settle(folder: &Path) -> Result<()> {
    command::must("sync", ["--file-system".as_ref(), folder.as_os_str()]).map(drop)
}

/// The bytes of all files below a folder, added up.
pub(crate) fn size_of_tree(folder: &Path) -> Result<u64> {
    let mut size = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        size += if kind.is_dir() {
            size_of_tree(&entry.path())?
        } else {
            entry.metadata()?.len()
        };
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_the_same_for_the_same_seed_only() {
        assert_eq!(text(5000, 1), text(5000, 1));
        assert_ne!(text(5000, 1), text(5000, 2));
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (folder.path().join("one"), folder.path().join("other"));
        write_noise(&one, 3_000_000, 1).unwrap();
        write_noise(&other, 3_000_000, 2).unwrap();
        assert_eq!(fs::metadata(&one).unwrap().len(), 3_000_000);
        assert_ne!(fs::read(&one).unwrap(), fs::read(&other).unwrap());
    }
}
