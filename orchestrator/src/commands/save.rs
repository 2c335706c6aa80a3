//! `gantry save`.

use std::fs::{self, File};
use std::io::{self, BufWriter, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::ValueHint;
use gantry_model::{ExitCode, ImageReference};
use gantry_store::Store;

use crate::context::Context;
use crate::exit::{OrExit as _, failure_hint};

/// Flags of `gantry save`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The archive to write; `-` is standard output
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    output: PathBuf,

    /// Names or ids of the images
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// Runs `gantry save`.
///
/// # Errors
/// When there is no such image, it is damaged, or the file cannot be written.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let store = Store::open(context.root()).map_err(super::store_error)?;
    let names: Result<Vec<_>, _> = args.images.iter().map(|image| store.find_name(image)).collect();
    let names = names.map_err(super::store_error)?;
    if args.output == Path::new("-") {
        let out = io::stdout().lock();
        if out.is_terminal() {
            let message = "an archive is nothing for a terminal";
            return Err(failure_hint(
                ExitCode::Input,
                message,
                "give a file with -o, or send the output into one",
            ));
        }
        store
            .save(&names, BufWriter::with_capacity(1 << 18, out))
            .map_err(super::store_error)?;
    } else {
        save_to(&store, &names, &args.output)?;
    }
    Ok(ExitCode::Done)
}

/// Written beside and renamed: a file of this name is whole, or what it was before.
fn save_to(store: &Store, names: &[ImageReference], path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    // A pipe or device is written to as it is.
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        let file = File::options().write(true).open(path);
        let file = file
            .with_context(|| format!("cannot open {}", path.display()))
            .or_exit(ExitCode::Input)?;
        return store
            .save(names, BufWriter::with_capacity(1 << 18, file))
            .map_err(super::store_error);
    }
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(".gantry-save-")
        .permissions(fs::Permissions::from_mode(0o644))
        .tempfile_in(folder)
        .with_context(|| format!("cannot create a file in {}", folder.display()))
        .or_exit(ExitCode::Input)?;
    store
        .save(names, BufWriter::with_capacity(1 << 18, &mut file))
        .map_err(super::store_error)?;
    let write = |file: &mut tempfile::NamedTempFile| file.flush().and_then(|()| file.as_file().sync_all());
    write(&mut file)
        .with_context(|| format!("cannot write {}", path.display()))
        .or_exit(ExitCode::Failed)?;
    let persisted = file.persist(path).map_err(|error| error.error);
    persisted
        .with_context(|| format!("cannot write {}", path.display()))
        .or_exit(ExitCode::Failed)?;
    Ok(())
}
