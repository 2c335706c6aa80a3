//! The files of a package, laid out in a folder as they will lie on a host.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::Package;
use crate::{must, repository};

/// Lays the package's files out below `root`. `units` is where this kind of package keeps systemd units.
pub(super) fn lay_out(package: &Package, program: &Path, root: &Path, units: &str) -> Result<()> {
    if root.exists() {
        fs::remove_dir_all(root).with_context(|| format!("cannot empty {}", root.display()))?;
    }
    let source = repository().join("packaging").join(package.folder);
    place(
        root,
        &format!("usr/bin/{}", package.name),
        0o755,
        &fs::read(program)?,
    )?;
    for unit in package.units {
        place(
            root,
            &format!("{units}/{unit}"),
            0o644,
            &fs::read(source.join(unit))?,
        )?;
    }
    for file in package.configuration {
        place(
            root,
            &format!("etc/gantry/{file}"),
            0o644,
            &fs::read(source.join(file))?,
        )?;
    }
    if package.name == "gantry-agent" {
        agent_page(root)?;
    } else {
        orchestrator_pages(program, root)?;
        completions(program, root)?;
    }
    let documents = format!("usr/share/doc/{}", package.name);
    place(
        root,
        &format!("{documents}/copyright"),
        0o644,
        &fs::read(repository().join("LICENSE"))?,
    )?;
    place(
        root,
        &format!("{documents}/changelog"),
        0o644,
        &fs::read(repository().join("CHANGELOG.md"))?,
    )?;
    compress(&root.join(documents).join("changelog"))
}

/// Writes a file with the folders it is in; folders get mode 755 whatever the umask.
pub(super) fn place(root: &Path, path: &str, mode: u32, content: &[u8]) -> Result<()> {
    let target = root.join(path);
    let folder = target.parent().context("a packaged file lies in a folder")?;
    fs::create_dir_all(folder)?;
    for made in folder.ancestors().take_while(|made| made.starts_with(root)) {
        fs::set_permissions(made, fs::Permissions::from_mode(0o755))?;
    }
    fs::write(&target, content).with_context(|| format!("cannot write {}", target.display()))?;
    fs::set_permissions(&target, fs::Permissions::from_mode(mode))?;
    Ok(())
}

/// The agent's manual page, from its own command line.
fn agent_page(root: &Path) -> Result<()> {
    let mut page = Vec::new();
    clap_mangen::Man::new(gantry_agent::cli::command())
        .section("8")
        .render(&mut page)?;
    place(root, "usr/share/man/man8/gantry-agent.8", 0o644, &page)?;
    compress(&root.join("usr/share/man/man8/gantry-agent.8"))
}

/// One page per command of the orchestrator, written by the program itself.
fn orchestrator_pages(program: &Path, root: &Path) -> Result<()> {
    let pages = root.join("usr/share/man/man1");
    fs::create_dir_all(&pages)?;
    must(Command::new(program).arg("man").arg(&pages))?;
    for page in fs::read_dir(&pages)? {
        let page = page?.path();
        fs::set_permissions(&page, fs::Permissions::from_mode(0o644))?;
        compress(&page)?;
    }
    Ok(())
}

fn completions(program: &Path, root: &Path) -> Result<()> {
    for (shell, path) in [
        ("bash", "usr/share/bash-completion/completions/gantry"),
        ("zsh", "usr/share/zsh/site-functions/_gantry"),
        ("fish", "usr/share/fish/vendor_completions.d/gantry.fish"),
    ] {
        let text = must(Command::new(program).args(["completions", shell]))?;
        place(root, path, 0o644, text.as_bytes())?;
    }
    Ok(())
}

/// Replaces a file by its .gz, without name and time in it.
fn compress(path: &Path) -> Result<()> {
    must(Command::new("gzip").args(["-9", "-n", "-f"]).arg(path)).map(drop)
}
