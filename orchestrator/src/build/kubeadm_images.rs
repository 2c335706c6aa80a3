//! Asks the kubeadm of an image which container images it starts: in a sandbox without any network, as RUN has it.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use gantry_store::{Platform, Rootfs, Store};

use crate::completeness::{
    Place, References, RegistryContents, TemplateValues, add_kubeadm_answer, kubeadm_configuration,
};
use crate::plan::KUBEADM;

use super::run;

/// The file that it is asked with, in the sandbox's rootfs.
const CONFIGURATION: &str = "kubeadm.json";

/// Adds what kubeadm starts, if `rootfs`, an image for `platform`, brings one. Says whether that is known: where kubeadm cannot
/// be asked is a doubt. `refusal` is asked before anything of the image runs: why it may not.
///
/// # Errors
/// When a file of the image is damaged.
pub fn add_kubeadm_images(
    store: &Store,
    rootfs: &Rootfs,
    values: &TemplateValues,
    platform: &Platform,
    refusal: &dyn Fn() -> Option<String>,
    contents: &RegistryContents<'_>,
    references: &mut References,
) -> anyhow::Result<bool> {
    let configuration = kubeadm_configuration(rootfs, values).map_err(super::layer_error)?;
    let Some(configuration) = configuration else {
        return Ok(true);
    };
    let place = || Place {
        file: KUBEADM.to_owned(),
        line: None,
    };
    let host = Platform::host();
    let reason = if (&host.os, &host.architecture) != (&platform.os, &platform.architecture) {
        format!("which images it starts is not known: it is for {platform}, and this is {host}")
    } else if !rustix::process::geteuid().is_root() {
        "which images it starts is not known: only root may ask it, in a sandbox".to_owned()
    } else if let Some(refusal) = refusal() {
        format!("which images it starts is not known: {refusal}")
    } else {
        let mut fill = |folder: &Path| -> anyhow::Result<()> {
            fs::create_dir(folder.join("bin"))?;
            let program = folder.join(KUBEADM);
            let mut file = File::create(&program)?;
            rootfs.copy_file(KUBEADM, &mut file).map_err(super::layer_error)?;
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
            fs::write(folder.join(CONFIGURATION), &configuration).context("cannot write its configuration")
        };
        let words = [
            "config",
            "images",
            "list",
            "-o",
            "json",
            "--config",
            CONFIGURATION,
        ];
        let arguments = std::iter::once(KUBEADM).chain(words).map(str::to_owned).collect();
        match run::ask(store, &mut fill, arguments) {
            Ok(answer) => {
                add_kubeadm_answer(&answer, contents, references);
                return Ok(true);
            }
            Err(error) => format!("which images it starts is not known: {error:#}"),
        }
    };
    references.doubt(place(), reason);
    Ok(false)
}
