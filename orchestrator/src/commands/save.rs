//! `gantry save`.

use std::fs::{self, File};
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::ValueHint;
use gantry_model::{ExitCode, ImageReference};
use gantry_store::{Platform, Store};

use super::{image_trust, output_file, part_size};
use crate::context::Context;
use crate::exit::{OrExit as _, failure_hint};
use crate::report::archive_progress::ArchiveProgress;

/// Flags of `gantry save`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Of an image for several platforms, an OCI archive or folder holds all of them. Docker's forms have
room for one, and none for annotations: of what an image launches they keep the label alone. A
docker folder holds one image, without its name.

With --part-size the archive is written in numbered parts, FILE.part-0001 and so on, and an index of
them, FILE.parts.json, which has to be copied along. The same command again goes on where one was
cut off. Put together, the parts are the archive: cat FILE.part-* > FILE.

Examples:
  gantry save -o kubernetes.tar kubernetes:v1.31.4
  gantry save -o all.tar kubernetes:v1.31.4 monitoring:v2        layers they share are in it once
  gantry save --format docker-archive -o tools.tar tools:v1      for docker load and podman load
  gantry save --format oci-dir -o layout tools:v1                adds to what is in the folder
  gantry save --format docker-dir -o folder tools:v1             for skopeo's dir:
  gantry save --part-size 4GB -o /media/stick/all.tar kubernetes:v1.31.4
  gantry save --part-size 4GB --parts 8- -o /media/stick2/all.tar kubernetes:v1.31.4
  gantry save -o - tools:v1 | zstd > tools.tar.zst")]
pub struct Args {
    /// The archive or folder to write; `-` is standard output
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::AnyPath)]
    output: PathBuf,

    /// Form of the archive
    #[arg(long, value_enum, default_value_t)]
    format: Format,

    /// Of images for several platforms, only those for OS/ARCH[/VARIANT]
    #[arg(long, value_parser = crate::build::platform::parse)]
    platform: Option<Platform>,

    /// Write an OCI archive in parts of SIZE bytes at most: 4GB, 650MB, 4GiB
    #[arg(long, value_name = "SIZE", value_parser = part_size::parse_size)]
    part_size: Option<u64>,

    /// Of the parts write only these: 3, 3-5, or 3- for all from the third
    #[arg(long, value_name = "NUMBERS", value_parser = part_size::parse_numbers, requires = "part_size")]
    parts: Option<RangeInclusive<u32>>,

    /// Show only what goes wrong
    #[arg(short, long)]
    quiet: bool,

    /// Names or ids of the images
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// The form of an archive, as sealer and podman call it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// One file in OCI's form, as skopeo's oci-archive:
    #[default]
    OciArchive,
    /// A folder in OCI's form, as skopeo's oci:
    OciDir,
    /// One file in docker's form, as docker save makes it
    DockerArchive,
    /// A folder in docker's form that holds one image, as skopeo's dir:
    DockerDir,
}

impl Format {
    /// Whether it has no place for signatures.
    const fn loses_signatures(self) -> bool {
        matches!(self, Self::DockerArchive | Self::DockerDir)
    }
}

/// What is written: these images, in this form.
struct Saving<'a> {
    store: &'a Store,
    names: &'a [ImageReference],
    format: Format,
    platform: Option<&'a Platform>,
    progress: &'a ArchiveProgress,
}

/// Runs `gantry save`.
///
/// # Errors
/// When there is no such image, it is damaged, or the file cannot be written.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let store = Store::open(context.root()).map_err(super::store_error)?;
    let names: Result<Vec<_>, _> = args.images.iter().map(|image| store.find_name(image)).collect();
    let names = names.map_err(super::store_error)?;
    for name in &names {
        image_trust::warn_of_damage(&store, name).map_err(super::store_error)?;
    }
    if args.format.loses_signatures() {
        warn_of_loss(&store, &names, args.platform.as_ref())?;
    }
    let progress = ArchiveProgress::new(args.quiet);
    let saving = Saving {
        store: &store,
        names: &names,
        format: args.format,
        platform: args.platform.as_ref(),
        progress: &progress,
    };
    if let Some(size) = args.part_size {
        let said = saving.write_parts(&args.output, size, args.parts.as_ref())?;
        progress.end(&said);
        return Ok(ExitCode::Done);
    }
    match (args.format, output_file::is_standard_output(&args.output)) {
        (Format::OciDir | Format::DockerDir, true) => {
            return Err(failure_hint(
                ExitCode::Input,
                "a folder cannot be written to standard output",
                "name one with -o, or choose another --format",
            ));
        }
        (Format::OciDir | Format::DockerDir, false) => saving.write_folder(&args.output)?,
        (_, true) => {
            let out = io::stdout().lock();
            if out.is_terminal() {
                return Err(failure_hint(
                    ExitCode::Input,
                    "an archive is nothing for a terminal",
                    "give a file with -o, or send the output into one",
                ));
            }
            saving.write(out, Path::new("standard output"))?;
        }
        (_, false) => saving.write_file(&args.output)?,
    }
    progress.end(&match names.len() {
        1 => "1 image saved".to_owned(),
        count => format!("{count} images saved"),
    });
    Ok(ExitCode::Done)
}

/// Says which images are saved without their signatures.
fn warn_of_loss(store: &Store, names: &[ImageReference], platform: Option<&Platform>) -> anyhow::Result<()> {
    for name in names {
        let contents = store.contents(name, platform).map_err(super::store_error)?;
        if !contents.signatures.is_empty() {
            anstream::eprintln!(
                "warning: {name} is saved without its signatures: docker's form has no place for them, --format oci-archive has"
            );
        }
    }
    Ok(())
}

impl Saving<'_> {
    fn write_folder(&self, path: &Path) -> anyhow::Result<()> {
        let mut event = |event| self.progress.saving(event);
        let (store, names) = (self.store, self.names);
        let saved = match (self.format, names) {
            (Format::DockerDir, [name]) => store.save_docker_dir(name, self.platform, path, &mut event),
            (Format::DockerDir, _) => {
                return Err(failure_hint(
                    ExitCode::Input,
                    format!("a docker folder holds one image, not {}", names.len()),
                    "save each into a folder of its own, or choose another --format",
                ));
            }
            _ => store.save_folder(names, self.platform, path, &mut event),
        };
        saved.map_err(super::store_error)
    }

    /// Gives what is said at the end.
    fn write_parts(
        &self,
        path: &Path,
        size: u64,
        wanted: Option<&RangeInclusive<u32>>,
    ) -> anyhow::Result<String> {
        if self.format != Format::OciArchive || output_file::is_standard_output(path) {
            return Err(failure_hint(
                ExitCode::Input,
                "only an OCI archive is written in parts, and only to files",
                "leave out --format, and name the archive with -o",
            ));
        }
        output_file::folder(path)?;
        let mut event = |event| self.progress.saving(event);
        let saved = self
            .store
            .save_parts(self.names, self.platform, path, size, wanted, &mut event)
            .map_err(super::store_error)?;
        let there = match wanted {
            Some(_) => String::new(),
            None => match saved.count as usize - saved.written.len() {
                0 => String::new(),
                count => format!(", {count} were there before"),
            },
        };
        Ok(format!(
            "{} of {} parts written{there}",
            saved.written.len(),
            saved.count
        ))
    }

    /// Writes to `out`, which is called `to`.
    fn write(&self, out: impl Write, to: &Path) -> anyhow::Result<()> {
        let out = BufWriter::with_capacity(1 << 18, out);
        let mut event = |event| self.progress.saving(event);
        let (store, names) = (self.store, self.names);
        let saved = match self.format {
            Format::DockerArchive => store.save_docker(names, self.platform, out, &mut event),
            Format::OciArchive | Format::OciDir | Format::DockerDir => {
                store.save(names, self.platform, out, &mut event)
            }
        };
        saved.map_err(|error| super::store_error(error.written_to(to)))
    }

    /// Written beside and renamed: a file of this name is whole, or what it was before.
    fn write_file(&self, path: &Path) -> anyhow::Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        let found = fs::metadata(path);
        if found.as_ref().is_ok_and(fs::Metadata::is_dir) {
            return Err(failure_hint(
                ExitCode::Input,
                format!("{} is a folder", path.display()),
                "name a file, or say --format oci-dir",
            ));
        }
        // A pipe or device is written to as it is.
        if found.is_ok_and(|found| !found.is_file()) {
            let file = File::options().write(true).open(path);
            let file = file
                .with_context(|| format!("cannot open {}", path.display()))
                .or_exit(ExitCode::Input)?;
            return self.write(file, path);
        }
        let folder = output_file::folder(path)?;
        let mut file = tempfile::Builder::new()
            .prefix(".gantry-save-")
            .permissions(fs::Permissions::from_mode(0o644))
            .tempfile_in(folder)
            // Its own text names the file that would have been there for a moment.
            .map_err(|error| io::Error::from(error.kind()))
            .with_context(|| format!("cannot create a file in {}", folder.display()))
            .or_exit(ExitCode::Input)?;
        self.write(&mut file, path)?;
        file.as_file()
            .sync_all()
            .with_context(|| format!("cannot write {}", path.display()))
            .or_exit(ExitCode::Failed)?;
        let persisted = file.persist(path).map_err(|error| error.error);
        persisted
            .with_context(|| format!("cannot write {}", path.display()))
            .or_exit(ExitCode::Failed)?;
        Ok(())
    }
}
