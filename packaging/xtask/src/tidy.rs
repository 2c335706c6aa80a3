//! `cargo xtask tidy`: the rules of this repository that no compiler checks, each with its reason in its message.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::repository;

/// Which of our crates each crate may depend on. Dependencies point one way; see ARCHITECTURE.md.
const MAY_DEPEND_ON: &[(&str, &[&str])] = &[
    ("common/model", &[]),
    ("common/system", &[]),
    ("common/template", &[]),
    ("common/protocol", &["gantry-model"]),
    ("common/signing", &["gantry-model"]),
    ("common/store", &["gantry-model", "gantry-system"]),
    (
        "common/transport",
        &["gantry-model", "gantry-protocol", "gantry-system"],
    ),
    (
        "common/registry-client",
        &["gantry-model", "gantry-store", "gantry-system"],
    ),
    ("agent", COMMON),
    ("orchestrator", ORCHESTRATOR),
    ("integration", COMMON),
    ("integration/fuzz", FUZZ),
    ("packaging/xtask", &["gantry-agent"]),
];

const COMMON: &[&str] = &[
    "gantry-model",
    "gantry-protocol",
    "gantry-signing",
    "gantry-store",
    "gantry-system",
    "gantry-template",
    "gantry-transport",
];

/// The agent asks no registry for anything.
const ORCHESTRATOR: &[&str] = &[
    "gantry-model",
    "gantry-protocol",
    "gantry-registry-client",
    "gantry-signing",
    "gantry-store",
    "gantry-system",
    "gantry-template",
    "gantry-transport",
];

/// Whatever reads what others wrote.
const FUZZ: &[&str] = &[
    "gantry",
    "gantry-agent",
    "gantry-model",
    "gantry-protocol",
    "gantry-registry-client",
    "gantry-signing",
    "gantry-store",
    "gantry-template",
];

/// The only folders at the top, dot-folders and cargo's own aside.
const TOP_FOLDERS: &[&str] = &[
    "agent",
    "common",
    "integration",
    "orchestrator",
    "packaging",
    "target",
];

/// The only file that knows how messages become bytes.
const CODEC: &str = "common/protocol/src/codec.rs";

pub(crate) fn run() -> Result<()> {
    let mut broken = Vec::new();
    top_level(&mut broken)?;
    for (folder, allowed) in MAY_DEPEND_ON {
        manifest(folder, allowed, &mut broken)?;
        for file in rust_files(&repository().join(folder))? {
            source(folder, &file, &mut broken)?;
        }
    }
    if broken.is_empty() {
        println!("tidy: every rule holds");
        return Ok(());
    }
    for line in &broken {
        eprintln!("{line}");
    }
    bail!("{} rules of the repository are broken", broken.len())
}

fn top_level(broken: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(repository())? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() && !name.starts_with('.') && !TOP_FOLDERS.contains(&name.as_str()) {
            broken.push(format!(
                "{name}/: the top level is fixed: {}",
                TOP_FOLDERS.join(", ")
            ));
        }
    }
    Ok(())
}

fn manifest(folder: &str, allowed: &[&str], broken: &mut Vec<String>) -> Result<()> {
    let path = repository().join(folder).join("Cargo.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let manifest: toml::Table = text
        .parse()
        .with_context(|| format!("{} is not TOML", path.display()))?;
    let inherits = manifest
        .get("lints")
        .and_then(|lints| lints.get("workspace"))
        .and_then(toml::Value::as_bool);
    if inherits != Some(true) {
        broken.push(format!(
            "{folder}/Cargo.toml: `[lints] workspace = true` is missing: all crates obey the same lints"
        ));
    }
    let dependencies = manifest.get("dependencies").and_then(toml::Value::as_table);
    for name in dependencies.into_iter().flat_map(toml::Table::keys) {
        if name.starts_with("gantry") && !allowed.contains(&name.as_str()) {
            broken.push(format!(
                "{folder}/Cargo.toml: depends on {name}, but dependencies point one way; see ARCHITECTURE.md"
            ));
        }
        if name == "bincode" && folder != "common/protocol" {
            broken.push(format!(
                "{folder}/Cargo.toml: bincode is known to {CODEC} alone, so that it can be replaced"
            ));
        }
    }
    Ok(())
}

fn source(folder: &str, file: &Path, broken: &mut Vec<String>) -> Result<()> {
    let shown = file
        .strip_prefix(repository())
        .unwrap_or(file)
        .display()
        .to_string();
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {shown}"))?;
    if !text.starts_with("//!") {
        broken.push(format!(
            "{shown}:1: starts without `//!`: every file says first what it is for"
        ));
    }
    for (index, line) in text.lines().enumerate() {
        let place = format!("{shown}:{}", index + 1);
        // The words this file itself must write down to look for them are written in two parts.
        if folder == "agent" && line.contains(concat!("Cluster", "file")) {
            broken.push(format!(
                "{place}: the agent knows steps, not the file they were planned from"
            ));
        }
        if line.contains(concat!("bincode", "::")) && shown != CODEC {
            broken.push(format!(
                "{place}: bincode is known to {CODEC} alone, so that it can be replaced"
            ));
        }
        if line.contains(concat!("TO", "DO")) || line.contains(concat!("FIX", "ME")) {
            broken.push(format!(
                "{place}: unfinished work belongs in an issue, not in the code"
            ));
        }
    }
    Ok(())
}

fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            // Cargo's own folder may lie inside a crate when someone builds there.
            if !path.ends_with("target") {
                found.extend(rust_files(&path)?);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
