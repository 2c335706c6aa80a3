//! Documents of kind Config.

use gantry_model::{ConfigPathError, check_config_path};
use gantry_template::{is_in_folders, target};

use super::application;
use super::process::{self, Processed};
use crate::clusterfile::application::{application_of, folder};
use crate::clusterfile::config::{Config, ConfigChange};
use crate::clusterfile::mistake::Mistake;
use crate::clusterfile::tree::{Node, Span};
use crate::clusterfile::yaml::{Scalar, Yaml, to_text};

/// The documents that were read, in the order of the file.
#[derive(Default)]
pub(super) struct Configs {
    pub(super) list: Vec<Config>,
    /// Where each says its path.
    paths: Vec<Span>,
}

impl Configs {
    /// Takes one more.
    pub(super) fn document(&mut self, document: &Node, mistakes: &mut Vec<Mistake>, notes: &mut Vec<String>) {
        let Some(spec) = document.get("spec") else { return };
        let application = spec.get("appName");
        let Some(name) = application.map(|name| application::name(name, mistakes)) else {
            return self.take(spec, None, mistakes, notes);
        };
        if let Some(name) = name {
            self.take(spec, Some(&folder(&name)), mistakes, notes);
        }
    }

    /// Takes what `spec` makes of one file, whose path begins with `below`.
    pub(super) fn take(
        &mut self,
        spec: &Node,
        below: Option<&str>,
        mistakes: &mut Vec<Mistake>,
        notes: &mut Vec<String>,
    ) {
        let below = below.unwrap_or_default();
        let path = spec
            .get("path")
            .and_then(|path| self::path(path, below, mistakes));
        let change = change(spec, mistakes, notes);
        let (Some((path, span)), Some(change)) = (path, change) else {
            return;
        };
        let first = self.list.iter().position(|config| config.path == path);
        if let (ConfigChange::Overwrite(_), Some(first)) = (&change, first) {
            let mistake = Mistake::new(span.clone(), format!("{path} is written over as a whole"))
                .beside(self.paths[first].clone(), "another document is about it");
            mistakes.push(mistake.help("keep one of them, or say `strategy: merge` here"));
            return;
        }
        self.list.push(Config { path, change });
        self.paths.push(span);
    }
}

fn path(node: &Node, below: &str, mistakes: &mut Vec<Mistake>) -> Option<(String, Span)> {
    let text = node.text()?;
    let whole = format!("{below}{text}");
    let mut wrong = |why: String, help: String| {
        let message = format!("{text:?} is not the path of a file: {why}");
        mistakes.push(Mistake::new(node.span.clone(), message).help(help));
    };
    let own = check_config_path(text).err();
    // In the folder of an application every name is its own.
    let own = own.filter(|error| below.is_empty() || !matches!(error, ConfigPathError::OfImagesAlone(_)));
    if let Some(error) = own.or_else(|| check_config_path(&whole).err()) {
        let names = text.split('/').filter(|name| !matches!(*name, "" | "."));
        let meant = names.collect::<Vec<_>>().join("/");
        let help = match error {
            ConfigPathError::OfImagesAlone(_) | ConfigPathError::Script => {
                "build an image with the file, `FROM` this one".to_owned()
            }
            _ if check_config_path(&format!("{below}{meant}")).is_ok() => format!("did you mean `{meant}`?"),
            _ if below.is_empty() => "write a path below the rootfs, e.g. `etc/daemon.json`".to_owned(),
            _ => format!("write a path below {below}, e.g. `values.yaml`"),
        };
        wrong(error.to_string(), help);
        return None;
    }
    if let Some(made) = target(&whole).filter(|_| is_in_folders(&whole) || application_of(&whole).is_some()) {
        wrong(
            "it is a template, and templates are rendered before".into(),
            format!(
                "write what is made of it: `{}`",
                made.strip_prefix(below).unwrap_or(made)
            ),
        );
        return None;
    }
    Some((whole, node.span.clone()))
}

fn change(spec: &Node, mistakes: &mut Vec<Mistake>, notes: &mut Vec<String>) -> Option<ConfigChange> {
    let data = spec.get("data").filter(|data| data.kind() == "text")?;
    let processed = match spec.get("process") {
        Some(process) => process::process(process, data, mistakes, notes)?,
        None => Processed {
            data: process::Data::Text(data.text()?.to_owned()),
            secret: false,
        },
    };
    if processed.secret {
        let fields = processed.data.fields(data, mistakes)?;
        let over = vec![(Scalar::plain("data"), Yaml::Map(fields))];
        return Some(ConfigChange::Secret(Yaml::Map(over)));
    }
    if spec.get("strategy").and_then(Node::text) != Some("merge") {
        return Some(ConfigChange::Overwrite(match processed.data {
            process::Data::Text(text) => text,
            process::Data::Fields(fields) => to_text(&[Yaml::Map(fields)]),
        }));
    }
    let fields = processed.data.fields(data, mistakes)?;
    Some(ConfigChange::Merge(Yaml::Map(fields)))
}
