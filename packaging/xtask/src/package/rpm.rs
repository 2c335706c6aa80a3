//! RPM packages, by `rpmbuild`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::{Package, contents, timestamp, version};
use crate::{must, repository};

/// Makes the .rpm and has `rpm` read it back; gives its path.
pub(super) fn make(package: &Package, program: &Path, work: &Path, out: &Path) -> Result<PathBuf> {
    let stage = work.join(format!("{}-rpm", package.name));
    contents::lay_out(package, program, &stage, "usr/lib/systemd/system")?;
    let template = repository()
        .join("packaging")
        .join(package.folder)
        .join(format!("{}.spec", package.name));
    let template =
        fs::read_to_string(&template).with_context(|| format!("cannot read {}", template.display()))?;
    let spec = work.join(format!("{}.spec", package.name));
    let stage_text = stage.to_str().context("the target folder's path is not UTF-8")?;
    fs::write(
        &spec,
        template
            .replace("@version@", version())
            .replace("@stage@", stage_text),
    )?;

    let mut build = Command::new("rpmbuild");
    build
        .arg("-bb")
        .args(["--target", "x86_64", "--define"])
        .arg(format!("_topdir {}", work.join("rpmbuild").display()));
    build.arg("--define").arg(format!("_rpmdir {}", out.display()));
    build.args([
        "--define",
        "_build_name_fmt %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm",
    ]);
    // xz: rpm of RHEL 7 and 8 reads it too.
    build.args([
        "--define",
        "_binary_payload w6.xzdio",
        "--define",
        "clamp_mtime_to_source_date_epoch 1",
    ]);
    build.args([
        "--define",
        "use_source_date_epoch_as_buildtime 1",
        "--define",
        "_buildhost gantry",
    ]);
    build.arg(&spec).env("SOURCE_DATE_EPOCH", timestamp()?);
    must(&mut build)?;

    let made = out.join(format!("{}-{}-1.x86_64.rpm", package.name, version()));
    let listed = must(Command::new("rpm").args(["-qpl", "--nosignature"]).arg(&made))?;
    let program = format!("/usr/bin/{}", package.name);
    listed
        .lines()
        .find(|line| **line == program)
        .with_context(|| format!("{} has no {program}:\n{listed}", made.display()))?;
    Ok(made)
}
