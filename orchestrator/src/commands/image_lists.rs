//! Files that flags name: lists of container images.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::ValueHint;
use gantry_model::{ExitCode, ImageReference};

use crate::clusterfile::Mistakes;
use crate::completeness::{IgnoredImages, MAX_IMAGE_LIST_LEN, parse_image_list};
use crate::exit::{OrExit as _, failure, failure_hint};

/// Which container images are not asked for.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct IgnoredArgs {
    /// File of container images that need not be inside, one on a line: hosts have them from elsewhere
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    ignored_image_list: Option<PathBuf>,
}

impl IgnoredArgs {
    /// What the file names.
    ///
    /// # Errors
    /// When it cannot be read, or names what is no image.
    pub(super) fn read(&self) -> anyhow::Result<IgnoredImages> {
        let Some(file) = &self.ignored_image_list else {
            return Ok(IgnoredImages::default());
        };
        Ok(read_image_list(file)?
            .into_iter()
            .map(|(image, _)| image)
            .collect())
    }
}

/// The images that a file names, each with its line.
///
/// # Errors
/// When it cannot be read, or names what is no image: every mistake is shown with its place.
pub(super) fn read_image_list(file: &Path) -> anyhow::Result<Vec<(ImageReference, usize)>> {
    let mut bytes = Vec::new();
    File::open(file)
        .and_then(|open| open.take(MAX_IMAGE_LIST_LEN + 1).read_to_end(&mut bytes))
        .with_context(|| format!("cannot read {}", file.display()))
        .or_exit(ExitCode::Input)?;
    let hint = "a list of container images has one name on a line";
    if bytes.len() as u64 > MAX_IMAGE_LIST_LEN {
        let message = format!(
            "{} is larger than {} MiB",
            file.display(),
            MAX_IMAGE_LIST_LEN >> 20
        );
        return Err(failure_hint(ExitCode::Input, message, hint));
    }
    let text = String::from_utf8(bytes).map_err(|_| {
        let message = format!("{} is not UTF-8 text", file.display());
        failure_hint(ExitCode::Input, message, hint)
    })?;
    parse_image_list(&text).map_err(|mistakes| {
        let mistakes = Mistakes::new(file.display().to_string(), text.as_str(), mistakes);
        anstream::eprint!("{}", mistakes.render(true));
        failure(ExitCode::Input, mistakes)
    })
}
