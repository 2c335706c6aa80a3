//! This module owns [`Template`]: one template of the rootfs and the file that is made of it.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::BorrowedFd;

use gantry_model::is_data_file;
use gantry_template::{MAX_TEMPLATE_LEN, render, target};
use rustix::fs::Stat;

use super::TemplatesError;
use crate::configs::Configs;
use crate::place::Place;
use crate::scripts::is_shell_script;

/// A template that was found.
pub(super) struct Template<'a> {
    pub(super) folder: BorrowedFd<'a>,
    /// Its name in `folder`.
    pub(super) name: &'a str,
    /// Its path below the rootfs, for messages.
    pub(super) path: String,
    pub(super) stat: Stat,
}

impl Template<'_> {
    /// The name of what it makes.
    pub(super) fn target(&self) -> &str {
        target(self.name).unwrap_or(self.name)
    }

    /// Where that is below the rootfs.
    pub(super) fn target_path(&self) -> &str {
        target(&self.path).unwrap_or(&self.path)
    }

    fn io(&self, action: &'static str) -> impl Fn(io::Error) -> TemplatesError {
        TemplatesError::io(action, &self.path)
    }

    /// Whether what it makes is run: hosts run programs of applications only as the image has them.
    pub(super) fn makes_a_program(&self) -> bool {
        let runs = self.stat.st_mode & 0o111 != 0 || is_shell_script(self.target());
        runs && !is_data_file(self.target())
    }

    pub(super) fn rendered(&self, values: &BTreeMap<String, String>) -> Result<String, TemplatesError> {
        let refused = |reason: &str| TemplatesError::Refused {
            path: self.path.clone(),
            reason: reason.to_owned(),
        };
        let bytes = Place::new(self.folder, self.name)
            .read(MAX_TEMPLATE_LEN)
            .map_err(self.io("read"))?
            .ok_or_else(|| refused(&format!("is longer than {MAX_TEMPLATE_LEN} bytes")))?;
        let text = String::from_utf8(bytes).map_err(|_| refused("is not UTF-8 text"))?;
        render(&text, values).map_err(|source| TemplatesError::Template {
            path: self.path.clone(),
            source,
        })
    }

    /// Where what it makes belongs: its own place, or under the config file that stands there.
    pub(super) fn place<'c>(&'c self, configs: &'c Configs) -> Place<'c> {
        configs
            .under(self.target_path())
            .unwrap_or_else(|| Place::new(self.folder, self.target()))
    }

    pub(super) fn is_in_place(&self, text: &str, place: &Place<'_>) -> Result<bool, TemplatesError> {
        match place.stat().map_err(self.io("look at what is made of"))? {
            Some(there) if there.st_mode == self.stat.st_mode && there.st_size == text.len() as i64 => {}
            _ => return Ok(false),
        }
        let there = place.read(text.len()).map_err(self.io("read what is made of"))?;
        Ok(there.as_deref() == Some(text.as_bytes()))
    }

    pub(super) fn put(&self, text: &str, place: &Place<'_>) -> Result<(), TemplatesError> {
        place
            .put(text.as_bytes(), (&self.stat).into())
            .map_err(self.io("write what is made of"))
    }
}
