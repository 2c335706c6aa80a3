//! Documents of kind Plugin, and what they add to the meaning of a file.

mod by_line;
mod lines;
mod phases;
mod select;
mod shell;

use gantry_model::{CommandMoment, ShellCommand};

use super::marks;
use crate::clusterfile::mistake::Mistake;
use crate::clusterfile::tree::Node;
use crate::clusterfile::unsupported::instead_of_plugin;
use crate::clusterfile::{Clusterfile, schema, structure};
use phases::Phase;

/// The kind of documents that do something to hosts.
pub(in crate::clusterfile) const KIND: &str = "Plugin";

/// A document whose shape is right.
pub(in crate::clusterfile) struct Plugin<'a> {
    kind: &'a str,
    name: &'a str,
    phases: Vec<Phase>,
    spec: &'a Node,
}

impl Plugin<'_> {
    /// Its name.
    pub(super) fn name(&self) -> String {
        self.name.to_owned()
    }

    fn is_newer(&self) -> bool {
        self.phases.iter().any(Phase::is_newer)
    }
}

/// The plugin that `document` is; none when it has mistakes.
pub(in crate::clusterfile) fn document<'a>(
    document: &'a Node,
    mistakes: &mut Vec<Mistake>,
) -> Option<Plugin<'a>> {
    let before = mistakes.len();
    let spec = document.get("spec");
    let kind = spec.and_then(|spec| spec.get("type"));
    if let Some((kind, word)) = kind.and_then(|kind| Some((kind, kind.text()?)))
        && let Some(instead) = instead_of_plugin(word)
    {
        let message = format!("plugins of type {word} are not supported by this version");
        mistakes.push(Mistake::new(kind.span.clone(), message).help(instead));
        return None;
    }
    mistakes.extend(structure::check(document, &schema::plugin()));
    let (kind, spec) = (kind?.text()?, spec?);
    let name = document.get("metadata")?.get("name")?;
    check_name(name, mistakes);
    let phases = phases::read(spec.get("action")?, kind, mistakes)?;
    (mistakes.len() == before).then_some(Plugin {
        kind,
        name: name.text()?,
        phases,
        spec,
    })
}

/// Whether `document` is a plugin with a phase that is one of `moments`.
pub(in crate::clusterfile) fn acts_at(document: &Node, moments: &[CommandMoment]) -> bool {
    let is_plugin = document.get("kind").and_then(Node::text) == Some(KIND);
    let action = document.get("spec").and_then(|spec| spec.get("action"));
    is_plugin
        && action
            .and_then(Node::text)
            .is_some_and(|action| phases::are_at(action, moments))
}

/// Puts what `plugins` say into `clusterfile`; they are documents of the text `text`.
pub(in crate::clusterfile) fn take(
    plugins: &[Plugin<'_>],
    text: &str,
    clusterfile: &mut Clusterfile,
    mistakes: &mut Vec<Mistake>,
    notes: &mut Vec<String>,
) {
    // Which hosts there are has to be clear before they are looked up.
    if !mistakes.is_empty() {
        return;
    }
    // Commands may be for nodes with a label, so labels come first.
    let (shell, others): (Vec<_>, Vec<_>) = plugins.iter().partition(|plugin| plugin.kind == "SHELL");
    for plugin in others {
        match plugin.kind {
            "LABEL" => by_line::mark(plugin, text, clusterfile, mistakes, marks::put_label),
            "HOSTNAME" => by_line::rename(plugin, text, clusterfile, mistakes),
            "TAINT" => by_line::mark(plugin, text, clusterfile, mistakes, marks::put_taint),
            _ => {
                // One wait is as good as two.
                clusterfile
                    .cluster_check
                    .get_or_insert_with(|| plugin.name.to_owned());
            }
        }
    }
    for plugin in in_order(shell) {
        let commands = shell::commands(plugin, clusterfile, mistakes, notes);
        clusterfile.commands.extend(commands);
    }
}

/// Those with the older phases in the order of the file, then those with the newer ones by name, as sealer runs them.
fn in_order<'a>(mut plugins: Vec<&'a Plugin<'a>>) -> Vec<&'a Plugin<'a>> {
    plugins.sort_by_key(|plugin| plugin.is_newer().then_some(plugin.name));
    plugins
}

fn check_name(name: &Node, mistakes: &mut Vec<Mistake>) {
    let Some(text) = name.text().filter(|text| !ShellCommand::is_name(text)) else {
        return;
    };
    let mistake = Mistake::new(
        name.span.clone(),
        format!("{text:?} cannot be the name of a plugin"),
    );
    mistakes.push(mistake.help("1 to 63 letters, digits, '-', '_' and '.'"));
}
