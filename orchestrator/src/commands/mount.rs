//! `gantry mount` and `gantry umount`: the rootfs of an image as a folder of this machine.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::ValueHint;
use gantry_model::ExitCode;
use gantry_store::{MountedImage, Store};
use gantry_system::mounts::is_mount_point;
use serde_json::json;

use super::rootfs::PlatformArgs;
use crate::context::Context;
use crate::exit::{OrExit as _, failure, failure_hint};
use crate::output::{self, OutputFormat, Table};

/// Flags of `gantry mount`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
What is mounted is read-only, and its programs give nobody another user's rights. An image that is
mounted cannot be removed. After a restart of the machine nothing is mounted.

Examples:
  gantry mount kubernetes:v1.31.4               prints the folder
  ls \"$(gantry mount kubernetes:v1.31.4)/etc\"
  gantry mount kubernetes:v1.31.4 /mnt
  gantry mount                                  what is mounted, and where
  gantry umount kubernetes:v1.31.4

`gantry ls`, `gantry tree` and `gantry cat` look into an image without root and without unpacking.")]
pub struct MountArgs {
    /// Name or id of the image
    image: Option<String>,

    /// Folder to mount it at; made if it is not there [default: a folder of its own below the root]
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    folder: Option<PathBuf>,

    /// Form of the list
    #[arg(
        short,
        long,
        value_enum,
        value_name = "FORMAT",
        default_value_t,
        conflicts_with = "image"
    )]
    output: OutputFormat,

    #[command(flatten)]
    platform: PlatformArgs,
}

/// Flags of `gantry umount`.
#[derive(Debug, clap::Args)]
pub struct UmountArgs {
    /// Names or ids of images, which are unmounted everywhere, or folders
    #[arg(
        value_name = "IMAGE|DIR",
        required_unless_present = "all",
        conflicts_with = "all"
    )]
    what: Vec<String>,

    /// Unmount all images
    #[arg(short, long)]
    all: bool,
}

/// Mounts an image and prints where; or lists what is mounted.
///
/// # Errors
/// When there is no such image, this is not root, or the kernel refuses.
pub fn mount(args: MountArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let store = Store::open(context.root()).map_err(super::store_error)?;
    let Some(text) = &args.image else {
        list(&store.mounted().map_err(super::store_error)?, args.output)?;
        return Ok(ExitCode::Done);
    };
    let image = args.platform.find(&store, text)?;
    let name = store.find_name(text).map_err(super::store_error)?;
    let mounted = store.mounted().map_err(super::store_error)?;
    refuse_others("mount an image")?;
    let (folder, own) = match args.folder {
        Some(folder) => (folder, false),
        None => {
            let folder = store.mount_folder(&image.manifest_digest);
            if let Some(there) = mounted.iter().find(|one| one.target == folder) {
                print_folder(&there.target)?;
                return Ok(ExitCode::Done);
            }
            (folder, true)
        }
    };
    prepare(&folder)?;
    let mounted = store.mount_image(&image, &name, &folder, own);
    if mounted.is_err() && own {
        let _ = fs::remove_dir(&folder);
    }
    print_folder(&mounted.map_err(super::store_error)?.target)?;
    Ok(ExitCode::Done)
}

/// Unmounts images.
///
/// Each is tried; the first error decides the exit code.
///
/// # Errors
/// When something is not mounted, or is in use.
pub fn umount(args: UmountArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let store = Store::open(context.root()).map_err(super::store_error)?;
    let mounted = store.mounted().map_err(super::store_error)?;
    let mut chosen: Vec<&MountedImage> = Vec::new();
    let mut result = Ok(ExitCode::Done);
    let mut keep_first = |error: anyhow::Error| {
        if result.is_err() {
            anstream::eprintln!("error: {error:#}");
        } else {
            result = Err(error);
        }
    };
    if args.all {
        chosen.extend(&mounted);
    }
    for text in &args.what {
        let found: Vec<_> = mounted.iter().filter(|one| is_meant(&store, one, text)).collect();
        if found.is_empty() {
            let hint = "`gantry mount` lists what is";
            keep_first(failure_hint(
                ExitCode::Input,
                format!("{text} is not mounted"),
                hint,
            ));
        }
        chosen.extend(found);
    }
    chosen.dedup();
    if !chosen.is_empty() {
        refuse_others("unmount an image")?;
    }
    for one in chosen {
        let hint = format!("`fuser -vm {}` names who uses it", one.target.display());
        match store.unmount_image(one).or_exit_hint(ExitCode::Locked, hint) {
            Ok(()) => print_folder(&one.target)?,
            Err(error) => keep_first(error),
        }
    }
    result
}

/// Whether a person means this one by `text`: its folder, its name, or an id or another name of the image.
fn is_meant(store: &Store, mounted: &MountedImage, text: &str) -> bool {
    let path = Path::new(text);
    let path = fs::canonicalize(path).or_else(|_| std::path::absolute(path));
    if path.is_ok_and(|path| path == mounted.target) || text == mounted.name.to_string() {
        return true;
    }
    let Ok(meant) = store.meant(text) else {
        return false;
    };
    match meant.manifest {
        Some(image) => image == mounted.image,
        None => store
            .target(&meant.name)
            .is_ok_and(|target| target.digest == mounted.named),
    }
}

/// A folder in which there is nothing that a mount would hide.
fn prepare(folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder)
        .with_context(|| format!("cannot create {}", folder.display()))
        .or_exit(ExitCode::Failed)?;
    let shown = folder.display();
    if is_mount_point(folder).context("cannot read the mount table")? {
        let hint = format!("`gantry umount {shown}`, or choose another folder");
        return Err(failure_hint(
            ExitCode::Input,
            format!("something is mounted at {shown} already"),
            hint,
        ));
    }
    let mut entries = fs::read_dir(folder)
        .with_context(|| format!("cannot list {shown}"))
        .or_exit(ExitCode::Failed)?;
    if entries.next().is_some() {
        return Err(failure(
            ExitCode::Input,
            format!("folder {shown} is not empty, and a mount would hide what is in it"),
        ));
    }
    Ok(())
}

fn refuse_others(what: &str) -> anyhow::Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(failure_hint(
        ExitCode::Failed,
        format!("only root can {what}"),
        "`gantry ls`, `gantry tree` and `gantry cat` look into an image without",
    ))
}

fn print_folder(folder: &Path) -> anyhow::Result<()> {
    output::print(&format!("{}\n", folder.display()))
}

fn list(mounted: &[MountedImage], form: OutputFormat) -> anyhow::Result<()> {
    if form == OutputFormat::Json {
        let list: Vec<_> = mounted
            .iter()
            .map(|one| json!({ "name": one.name, "digest": one.image, "target": one.target }))
            .collect();
        return output::print_json(&list);
    }
    let mut table = Table::new(["IMAGE", "DIGEST", "MOUNTED AT"]);
    for one in mounted {
        table.row([
            one.name.to_string(),
            one.image.short(),
            one.target.display().to_string(),
        ]);
    }
    output::print(&table.render())
}
