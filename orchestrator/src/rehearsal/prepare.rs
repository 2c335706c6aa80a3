//! This module owns what is rehearsed: which scripts of an image run on its first master, in which order, with which environment.
//! The planner says so, for a Clusterfile of one host.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use gantry_model::{ExitCode, LayerDescriptor};
use gantry_store::{Application, EntryKind, Image, Platform, Rootfs, StoreError};
use gantry_template::MAX_TEMPLATE_LEN;

use super::calls::{calls, launched, own_environment};
use super::network::HOST;
use super::{Doubt, ScriptCall, stand_ins};
use crate::clusterfile::Clusterfile;
use crate::exit::{OrExit as _, failure, failure_hint};
use crate::plan::planner::API_SERVER;
use crate::plan::{PlanImage, environment_of_scripts};

/// Where scripts find programs, as agents say it.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The cluster's own registry, where the Clusterfile says no other.
const CLUSTER_REGISTRY: &str = "sea.hub";

/// What is to be rehearsed.
#[derive(Debug)]
pub struct Prepared {
    pub(super) layers: Vec<LayerDescriptor>,
    pub(super) calls: Vec<ScriptCall>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) files: BTreeMap<String, String>,
    pub(super) cluster_names: Vec<String>,
    pub(super) time_limit_s: u32,
    pub(super) doubts: Vec<Doubt>,
}

/// The address of the host in a rehearsal.
#[must_use]
pub fn host_address() -> IpAddr {
    HOST.into()
}

/// Finds out what runs of `image`, read for planning as `plan_image`, on the one host of `clusterfile`, whose address is [`host_address`]. A script takes at most
/// `time_limit_s` seconds.
///
/// # Errors
/// When this is not root, the image is for another platform, damaged, or has mistakes.
pub fn prepare(
    image: &Image,
    plan_image: &PlanImage,
    rootfs: &Rootfs,
    clusterfile: &Clusterfile,
    time_limit_s: u32,
) -> anyhow::Result<Prepared> {
    refuse_elsewhere(image)?;
    let mut env = environment_of_scripts(clusterfile, plan_image, clusterfile.first_master());
    let with_plugins = plan_image.with_plugins(clusterfile);
    let refused = with_plugins.mistakes.iter().flat_map(|of_file| {
        of_file.list().iter().map(|mistake| {
            let reason = format!("no host is given it: {}", mistake.message);
            Doubt::new(&of_file.place(mistake), &reason)
        })
    });
    let mut doubts: Vec<Doubt> = refused.collect();
    let clusterfile = &with_plugins.clusterfile;
    let applications = launched(image, clusterfile)?.into_iter().map(|application| {
        let own = own_environment(&application, clusterfile);
        (application, own)
    });
    let applications: Vec<_> = applications.collect();
    let files = rendered(rootfs, plan_image, &applications, &env, &mut doubts)?;
    env.insert("PATH".to_owned(), format!("{}:{PATH}", stand_ins::FOLDER));
    for (name, value) in [
        ("HOME", "/root"),
        ("USER", "root"),
        ("LOGNAME", "root"),
        ("SHELL", "/bin/bash"),
    ] {
        env.entry(name.to_owned()).or_insert_with(|| value.to_owned());
    }
    let registry = &clusterfile.registry.domain;
    let names = [CLUSTER_REGISTRY, registry.as_str(), API_SERVER];
    let names: BTreeSet<String> = names.map(str::to_owned).into();
    Ok(Prepared {
        layers: image.layers.clone(),
        calls: calls(image, plan_image, clusterfile)?,
        env,
        files,
        cluster_names: names.into_iter().collect(),
        time_limit_s,
        doubts,
    })
}

/// What templates become on the host: those of applications with their own environment over that of scripts.
fn rendered(
    rootfs: &Rootfs,
    image: &PlanImage,
    applications: &[(Application, BTreeMap<String, String>)],
    env: &BTreeMap<String, String>,
    doubts: &mut Vec<Doubt>,
) -> anyhow::Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    let of_host = image.templates.iter().map(|path| (path.clone(), env.clone()));
    let of_applications = applications.iter().flat_map(|(application, own)| {
        let env: BTreeMap<String, String> = env.clone().into_iter().chain(own.clone()).collect();
        let folder = application.folder();
        let paths: Vec<String> = rootfs.below(&folder).map(|(path, _)| path.to_owned()).collect();
        paths.into_iter().map(move |path| (path, env.clone()))
    });
    for (path, env) in of_host.chain(of_applications) {
        let Some(target) = gantry_template::target(&path) else {
            continue;
        };
        match rootfs.get(&path).map(|entry| &entry.kind) {
            Some(EntryKind::File { size, .. }) if *size <= MAX_TEMPLATE_LEN as u64 => {}
            _ => continue,
        }
        let mut bytes = Vec::new();
        rootfs
            .copy_file(&path, &mut bytes)
            .map_err(|error| (error.exit_code(), error))
            .or_else(|(code, error)| Err(error).or_exit(code))?;
        match gantry_template::render(&String::from_utf8_lossy(&bytes), &env) {
            Ok(text) => {
                files.insert(target.to_owned(), text);
            }
            Err(error) => doubts.push(Doubt::new(&path, &format!("it cannot be rendered: {error}"))),
        }
    }
    Ok(files)
}

pub(super) fn store_error(error: StoreError) -> anyhow::Error {
    let code = error.exit_code();
    Err::<(), _>(error).or_exit(code).expect_err("it is an error")
}

fn refuse_elsewhere(image: &Image) -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Err(failure_hint(
            ExitCode::Input,
            "a rehearsal runs the image's scripts in a sandbox: only root may do that",
            "run `sudo gantry check --rehearse …`; without --rehearse nothing is run",
        ));
    }
    let host = Platform::host();
    let config = &image.config;
    if (&host.os, &host.architecture) != (&config.os, &config.architecture) {
        let message = format!(
            "the image is for {}/{}, and this is {host}: its scripts cannot be rehearsed here",
            config.os, config.architecture
        );
        return Err(failure(ExitCode::Input, message));
    }
    Ok(())
}
