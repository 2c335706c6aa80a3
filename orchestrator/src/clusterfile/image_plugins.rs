//! Plugins that an image brings: what they add to the meaning of a Clusterfile. The file's own count where both have one of
//! a name.

use std::collections::BTreeMap;

use gantry_model::{ExitCode, ImagePlugin};

use super::mistake::{Mistake, Mistakes};
use super::validate::plugin;
use super::{Clusterfile, tree};
use crate::exit::OrExit as _;
use crate::plan::ImageFile;

/// A Clusterfile with the plugins of its image.
#[derive(Debug)]
pub struct WithPlugins {
    /// What is meant.
    pub clusterfile: Clusterfile,
    /// What to tell the operator about it.
    pub notes: Vec<String>,
    /// What is wrong in the files of plugins, file by file. What could be read of them is in the meaning.
    pub mistakes: Vec<Mistakes>,
}

impl Clusterfile {
    /// Adds what the plugins in `files` of the image `image` say.
    #[must_use]
    pub fn with_plugins(&self, image: &str, files: &BTreeMap<String, ImageFile>) -> WithPlugins {
        let mut with = WithPlugins {
            clusterfile: self.clone(),
            notes: Vec::new(),
            mistakes: Vec::new(),
        };
        let own = with.clusterfile.commands.len();
        for (path, file) in files {
            match file {
                ImageFile::Text(text) => with.add(image, path, text, self),
                ImageFile::NoText(what) | ImageFile::NoFile(what) => {
                    with.refuse(image, path, "", vec![Mistake::new(0..0, format!("it is {what}"))]);
                }
                ImageFile::Template(_) | ImageFile::Missing { .. } => {}
            }
        }
        // Those of the image before those of the file, as far as names do not say otherwise.
        let commands = &mut with.clusterfile.commands;
        commands.rotate_left(own);
        commands.sort_by_key(|command| command.by_name.clone());
        with
    }
}

impl WithPlugins {
    /// What is meant.
    ///
    /// # Errors
    /// When a file of plugins has mistakes.
    pub fn or_mistakes(self) -> anyhow::Result<Clusterfile> {
        match self.mistakes.into_iter().next() {
            Some(mistakes) => Err(mistakes).or_exit_hint(
                ExitCode::Input,
                "a plugin of the Clusterfile with the same name stands for one of the image; nothing was changed",
            ),
            None => Ok(self.clusterfile),
        }
    }

    fn add(&mut self, image: &str, path: &str, text: &str, own: &Clusterfile) {
        let (documents, mut mistakes) = tree::parse(text);
        let mut plugins = Vec::new();
        for document in &documents {
            if document.get("kind").and_then(tree::Node::text) != Some(plugin::KIND) {
                self.notes.push(format!(
                    "{path} of image {image}: a document that is no Plugin is not used"
                ));
                continue;
            }
            let name = document
                .get("metadata")
                .and_then(|metadata| metadata.get("name")?.text());
            if let Some(name) = name.filter(|name| own.plugins.contains(*name)) {
                self.notes.push(format!(
                    "plugin {name} of the file stands for that of {path} of image {image}"
                ));
                continue;
            }
            let Some(plugin) = plugin::document(document, &mut mistakes) else {
                continue;
            };
            self.notes
                .extend(name.map(|name| format!("plugin {name} comes from {path} of image {image}")));
            plugins.push(plugin);
        }
        let before = self.clusterfile.commands.len();
        plugin::take(
            &plugins,
            text,
            &mut self.clusterfile,
            &mut mistakes,
            &mut self.notes,
        );
        for command in &mut self.clusterfile.commands[before..] {
            if ImagePlugin::stands_in(&command.text, text) {
                command.file = Some(path.to_owned());
            } else {
                self.notes.push(format!(
                    "{} of {path} of image {image} is not written as a block (`data: |`), so hosts have to allow it",
                    command.origin.title()
                ));
            }
        }
        self.notes.dedup();
        if !mistakes.is_empty() {
            self.refuse(image, path, text, mistakes);
        }
    }

    fn refuse(&mut self, image: &str, path: &str, text: &str, mistakes: Vec<Mistake>) {
        let file = format!("{path} of image {image}");
        self.mistakes.push(Mistakes::new(file, text, mistakes));
    }
}
