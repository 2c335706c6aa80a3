//! What commands that look into an image have in common: which image, and what is in it.

use gantry_model::ExitCode;
use gantry_store::{EntryKind, Image, MeantImage, Platform, Rootfs, Store, TocEntry};

use crate::context::Context;
use crate::exit::failure_hint;

/// Which of an image for several platforms.
#[derive(Debug, clap::Args)]
pub(super) struct PlatformArgs {
    /// Of an image for several platforms, the one for OS/ARCH[/VARIANT] [default: this machine's]
    #[arg(long, value_parser = crate::build::platform::parse)]
    platform: Option<Platform>,
}

impl PlatformArgs {
    /// The image that a person means by `text`.
    ///
    /// # Errors
    /// When there is none, not for this platform, or it is damaged.
    pub(super) fn find(&self, store: &Store, text: &str) -> anyhow::Result<Image> {
        let platform = self.platform.clone().unwrap_or_else(Platform::host);
        let MeantImage { name, manifest } = store.meant(text).map_err(super::store_error)?;
        let image = match manifest {
            None => store.image_for(&name, &platform),
            Some(digest) => store.image_by_digest(&digest).map(|image| Image {
                reference: Some(name.clone()),
                ..image
            }),
        };
        let image = image.map_err(super::store_error)?;
        let (os, architecture) = (&image.config.os, &image.config.architecture);
        // An image for one platform is found whatever it is for: that is right only while nobody asks for another.
        if self.platform.is_some() && (os, architecture) != (&platform.os, &platform.architecture) {
            return Err(failure_hint(
                ExitCode::Input,
                format!("image {name} is for {os}/{architecture}, not for {platform}"),
                "leave out --platform",
            ));
        }
        Ok(image)
    }

    /// The merged tree of that image.
    ///
    /// # Errors
    /// Like [`PlatformArgs::find`], and when a table of contents is damaged.
    pub(super) fn rootfs(&self, context: &Context, text: &str) -> anyhow::Result<Rootfs> {
        let store = Store::open(context.root()).map_err(super::store_error)?;
        let _nothing_vanishes = store.share().map_err(super::store_error)?;
        let image = self.find(&store, text)?;
        Rootfs::read(&store, &image).map_err(super::layer_error)
    }
}

/// The error that says that there is nothing at `path` of `image`.
pub(super) fn nothing_at(path: &str, image: &str) -> anyhow::Error {
    failure_hint(
        ExitCode::Input,
        format!("there is no {path} in image {image}"),
        format!("`gantry ls -R {image}` lists what there is"),
    )
}

/// Bytes of a file; none for what is no file.
pub(super) const fn size(entry: &TocEntry) -> Option<u64> {
    match entry.kind {
        EntryKind::File { size, .. } => Some(size),
        _ => None,
    }
}

/// What an entry is, in one word.
pub(super) const fn kind(entry: &TocEntry) -> &'static str {
    match entry.kind {
        EntryKind::Directory { .. } => "folder",
        EntryKind::Symlink { .. } => "link",
        _ => "file",
    }
}
