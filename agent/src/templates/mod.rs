//! Templates of a rootfs: every `*.tmpl` in the folders where ClusterImages keep them is rendered beside itself, under
//! its name without the ending, with the values of this host.
//!
//! ```text
//! rootfs/etc, charts, manifests, statics ── walk ──▶ NAME.tmpl ── render ──▶ NAME, same mode and owner
//! ```
//!
//! Those of an application are rendered when it is launched, with its own values, too.
//!
//! All of them are rendered once before the first one is written, so that a mistake in one changes nothing.
//! No link is followed and no mount is crossed.

mod error;
mod template;
#[cfg(test)]
mod tests;
mod walk;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use gantry_model::Digest;
use gantry_store::extension::APPLICATIONS;
use gantry_template::{FOLDERS, MAX_RENDERED_LEN};

pub use error::TemplatesError;

use template::Template;
use walk::walk;

use crate::configs::Configs;

/// What was rendered: paths below the rootfs, and the digests of their content.
pub type Rendered = BTreeMap<String, Digest>;

/// Renders the templates of the rootfs with `values`. What is as it should be is not written again; where a config file
/// stands, what is rendered goes under it.
///
/// # Errors
/// A mistake in a template (then nothing is written), or a failing file system.
pub fn render_all(
    rootfs: &Path,
    values: &BTreeMap<String, String>,
    configs: &Configs,
) -> Result<Rendered, TemplatesError> {
    render(rootfs, &FOLDERS, values, configs)
}

/// Renders the templates of the application `name`, which is a name of one, with `values`. Those that would make a program
/// are left alone.
///
/// # Errors
/// As [`render_all`].
pub fn render_application(
    rootfs: &Path,
    name: &str,
    values: &BTreeMap<String, String>,
    configs: &Configs,
) -> Result<Rendered, TemplatesError> {
    let folder = format!("{APPLICATIONS}/{name}");
    render(rootfs, &[&folder], values, configs)
}

fn render(
    rootfs: &Path,
    folders: &[&str],
    values: &BTreeMap<String, String>,
    configs: &Configs,
) -> Result<Rendered, TemplatesError> {
    let is_left_alone =
        |template: &Template<'_>| template.path.starts_with(APPLICATIONS) && template.makes_a_program();
    walk(rootfs, folders, &mut |template| {
        if is_left_alone(template) {
            return Ok(());
        }
        template.rendered(values).map(drop)
    })?;
    let mut made = Rendered::new();
    walk(rootfs, folders, &mut |template| {
        if is_left_alone(template) {
            return Ok(());
        }
        let text = template.rendered(values)?;
        let place = template.place(configs);
        if !template.is_in_place(&text, &place)? {
            template.put(&text, &place)?;
        }
        made.insert(template.target_path().to_owned(), Digest::of(text.as_bytes()));
        Ok(())
    })?;
    Ok(made)
}

/// What of `rendered` is not as it was made: `PATH was changed by hand`, `PATH is gone`.
///
/// # Errors
/// When the rootfs cannot be read.
pub fn changed(rootfs: &Path, rendered: &Rendered, configs: &Configs) -> Result<Vec<String>, TemplatesError> {
    let (mut changed, mut unseen) = (Vec::new(), rendered.clone());
    walk(rootfs, &FOLDERS, &mut |template| {
        let path = template.target_path();
        let Some(expected) = unseen.remove(path) else {
            return Ok(());
        };
        match template.place(configs).read(MAX_RENDERED_LEN) {
            Ok(Some(there)) if Digest::of(&there) == expected => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => changed.push(format!("{path} is gone")),
            _ => changed.push(format!("{path} was changed by hand")),
        }
        Ok(())
    })?;
    changed.extend(
        unseen
            .into_keys()
            .map(|path| format!("the template of {path} is gone")),
    );
    Ok(changed)
}

/// Whether every template is rendered with `values` already.
///
/// # Errors
/// As [`render_all`].
pub fn are_rendered(
    rootfs: &Path,
    values: &BTreeMap<String, String>,
    configs: &Configs,
) -> Result<bool, TemplatesError> {
    let mut all = true;
    walk(rootfs, &FOLDERS, &mut |template| {
        all = all && template.is_in_place(&template.rendered(values)?, &template.place(configs))?;
        Ok(())
    })?;
    Ok(all)
}
