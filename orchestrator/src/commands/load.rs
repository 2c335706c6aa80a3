//! `gantry load`.

use std::fs::{self, File};
use std::io::{self, IsTerminal as _, Read};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::ValueHint;
use gantry_model::{ExitCode, ImageReference};
use gantry_store::{LoadedImage, Store, StoreError};

use super::{connect, load_parts};
use crate::context::Context;
use crate::exit::{OrExit as _, failure_hint};
use crate::output;
use crate::report::archive_progress::ArchiveProgress;

/// Flags of `gantry load`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Read are OCI archives and folders (skopeo's oci-archive: and oci:), docker archives (docker save,
podman save) and folders (skopeo's dir:), plain or compressed with gzip or zstd, and what sealer
saved, of any version. Which of them a file is, is found out.

Parts of an archive (gantry save --part-size) come in any order, in one command or in several: each
is verified by itself and kept. With the last the images are there. Their index has to lie beside
them, or have come with an earlier part.

Examples:
  gantry load kubernetes.tar
  gantry load one.tar two.tar.gz layout/
  gantry load -t kubernetes:v1.31.4 unnamed.tar
  gantry load /media/stick/kubernetes.tar.part-*
  ssh build gantry save -o - kubernetes:v1.31.4 | gantry load -")]
pub struct Args {
    /// Archives or folders; `-` is standard input
    #[arg(value_name = "FILE", value_hint = ValueHint::AnyPath, required_unless_present = "input")]
    files: Vec<PathBuf>,

    /// The same, as sealer and docker have it
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::AnyPath)]
    input: Vec<PathBuf>,

    /// Name of the image, for an archive that holds one and does not say
    #[arg(short, long, value_name = "NAME")]
    tag: Option<ImageReference>,

    /// Show nothing but names and digests
    #[arg(short, long)]
    quiet: bool,
}

/// Runs `gantry load`.
///
/// # Errors
/// When an archive cannot be read, is damaged, or is no archive of images. What was loaded before it stays.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let files: Vec<&PathBuf> = args.input.iter().chain(&args.files).collect();
    let store = connect::store(context)?;
    let (parts, whole): (Vec<&PathBuf>, Vec<&PathBuf>) =
        files.into_iter().partition(|file| load_parts::is_of_parts(file));
    let archives = load_parts::sort(&store, &parts)?;
    let count = whole.len() + archives.len();
    if args.tag.is_some() && count > 1 {
        return Err(failure_hint(
            ExitCode::Input,
            format!("{count} archives cannot all be given one name"),
            "load them one by one, or leave out -t",
        ));
    }
    // Before anything is loaded.
    for file in whole.iter().filter(|file| file.as_path() != Path::new("-")) {
        fs::metadata(file)
            .with_context(|| format!("cannot open {}", file.display()))
            .or_exit_hint(ExitCode::Input, "nothing was loaded")?;
    }
    for archive in archives {
        let progress = ArchiveProgress::new(args.quiet);
        if let Some(loaded) = load_parts::load(&store, &archive, args.tag.as_ref(), &progress)? {
            show(&loaded, &progress)?;
        }
    }
    for file in whole {
        let progress = ArchiveProgress::new(args.quiet);
        let loaded = if file == Path::new("-") {
            load_input(&store, args.tag.as_ref(), &progress)?
        } else {
            load(&store, file, args.tag.as_ref(), &progress).map_err(super::store_error)?
        };
        show(&loaded, &progress)?;
    }
    Ok(ExitCode::Done)
}

fn show(loaded: &[LoadedImage], progress: &ArchiveProgress) -> anyhow::Result<()> {
    progress.end(&match loaded.len() {
        1 => "1 image loaded".to_owned(),
        count => format!("{count} images loaded"),
    });
    for image in loaded {
        output::print(&format!("{}@{}\n", image.reference, image.digest))?;
    }
    Ok(())
}

fn load_input(
    store: &Store,
    name: Option<&ImageReference>,
    progress: &ArchiveProgress,
) -> anyhow::Result<Vec<LoadedImage>> {
    let input = io::stdin().lock();
    if input.is_terminal() {
        return Err(failure_hint(
            ExitCode::Input,
            "an archive does not come from a terminal",
            "name a file, or send one into standard input",
        ));
    }
    load_stream(store, input, "standard input", name, progress).map_err(super::store_error)
}

fn load(
    store: &Store,
    path: &Path,
    name: Option<&ImageReference>,
    progress: &ArchiveProgress,
) -> Result<Vec<LoadedImage>, StoreError> {
    let found = fs::metadata(path).map_err(StoreError::io("open", path))?;
    if found.is_dir() {
        return store.load(path, name, &mut |event| progress.loading(event));
    }
    if found.is_file() {
        progress.total(found.len());
    }
    let file = File::open(path).map_err(StoreError::io("open", path))?;
    load_stream(store, file, &path.display().to_string(), name, progress)
}

fn load_stream(
    store: &Store,
    stream: impl Read,
    archive: &str,
    name: Option<&ImageReference>,
    progress: &ArchiveProgress,
) -> Result<Vec<LoadedImage>, StoreError> {
    store.load_stream(
        progress.reading(stream),
        archive,
        name,
        Some(read_yaml),
        &mut |event| progress.loading(event),
    )
}

/// YAML as a value. Documents of archives are short before they come here.
///
/// # Errors
/// When it is none.
pub fn read_yaml(text: &str) -> Result<serde_json::Value, String> {
    serde_saphyr::from_str(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_of_sealer_are_read() {
        let text = "apiVersion: \"\"\nkind: Image\nmetadata:\n  annotations:\n    sea.aliyun.com/ClusterFile: |\n      kind: Cluster\n\
                    spec:\n  layers:\n  - id: sha256:aa\n    type: COPY\n    value: . .\n  - type: CMD\n    value: 'kubectl get nodes'\n  \
                    platform: {}\n  image_config:\n    args:\n      current: null\n";
        let value = read_yaml(text).unwrap();
        assert_eq!(value["spec"]["layers"][1]["value"], "kubectl get nodes");
        assert_eq!(
            value["metadata"]["annotations"]["sea.aliyun.com/ClusterFile"],
            "kind: Cluster\n"
        );
        assert!(value["spec"]["image_config"]["args"]["current"].is_null());
        assert!(read_yaml("a: [").is_err());
    }
}
