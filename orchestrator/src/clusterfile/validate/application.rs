//! What is launched when the cluster is complete: fields of the Cluster, and the document of kind Application.

use std::collections::BTreeMap;

use gantry_model::{ApplicationLaunch, CommandMoment, CommandOrigin, ShellCommand};

use super::config::Configs;
use super::env;
use crate::clusterfile::application::{ApplicationSettings, Applications, folder};
use crate::clusterfile::command::{Command, CommandHosts};
use crate::clusterfile::mistake::Mistake;
use crate::clusterfile::tree::{Node, Span, Value};
use crate::clusterfile::{schema, structure};

/// The kind of the document.
pub(super) const APPLICATION: &str = "Application";

/// The field of that document that names applications.
const LAUNCH_APPS: &str = "launchApps";

/// The document of kind Application: there is one at most.
#[derive(Default)]
pub(super) struct Application<'a> {
    spec: Option<&'a Node>,
    settings: BTreeMap<String, ApplicationSettings>,
    /// Where each of them is named.
    named: BTreeMap<String, Span>,
}

impl<'a> Application<'a> {
    /// Takes a document; what it says about files goes to `configs`.
    pub(super) fn document(
        &mut self,
        document: &'a Node,
        configs: &mut Configs,
        mistakes: &mut Vec<Mistake>,
        notes: &mut Vec<String>,
    ) {
        mistakes.extend(structure::check(document, &schema::application()));
        let Some(spec) = document.get("spec") else { return };
        if let Some(first) = self.spec {
            let mistake = Mistake::new(document.span.clone(), "a second document of kind Application");
            let mistake = mistake.beside(first.span.clone(), "the first");
            mistakes.push(mistake.help("one document says it for all applications of the image"));
            return;
        }
        self.spec = Some(spec);
        for config in spec.get("configs").map(Node::items).unwrap_or_default() {
            self.config(config, configs, mistakes, notes);
        }
    }

    fn config(
        &mut self,
        config: &Node,
        configs: &mut Configs,
        mistakes: &mut Vec<Mistake>,
        notes: &mut Vec<String>,
    ) {
        let Some(name) = config.get("name").and_then(|node| name(node, mistakes)) else {
            return;
        };
        let span = config.get("name").unwrap_or(config).span.clone();
        if let Some(first) = self.named.insert(name.clone(), span.clone()) {
            let mistake = Mistake::new(span, format!("application {name} is set twice"));
            mistakes.push(mistake.beside(first, "first here").help("write it once"));
            return;
        }
        let env = config.get("env");
        let env = env
            .map(|list| env::variables(list, mistakes, notes))
            .unwrap_or_default();
        let launch = config.get("launch").and_then(|launch| launch.get("cmds"));
        let commands = texts(launch, "launch.cmds", mistakes);
        let settings = ApplicationSettings { env, commands };
        if let (Some(list), Some(Err(why))) = (
            launch,
            settings.text(&name).map(|text| ShellCommand::check_text(&text)),
        ) {
            mistakes.push(Mistake::new(list.span.clone(), format!("`launch.cmds` {why}")));
        }
        for file in config.get("files").map(Node::items).unwrap_or_default() {
            configs.take(file, Some(&folder(&name)), mistakes, notes);
        }
        self.settings.insert(name, settings);
    }

    /// What is launched, by the Cluster's `spec` and by this document: applications, or commands in their place.
    pub(super) fn launched(
        self,
        spec: &Node,
        mistakes: &mut Vec<Mistake>,
        notes: &mut Vec<String>,
    ) -> (Applications, Vec<Command>) {
        let of_cluster = Launched::read(spec, "cmd", "appNames", mistakes);
        let own = self.spec;
        let own = own.and_then(|spec| Launched::read(spec, "cmds", LAUNCH_APPS, mistakes));
        if of_cluster.is_some() && own.is_some() {
            notes.push("what the Cluster says is launched stands for what the Application says".into());
        }
        let (launched, commands) = match of_cluster.or(own) {
            None => (None, Vec::new()),
            Some(Launched::Applications(names)) => (Some(names), Vec::new()),
            Some(Launched::Commands(commands)) => (None, commands),
        };
        if let Some(names) = &launched {
            let of_others = self.settings.iter().filter(|(name, settings)| {
                !names.contains(name) && **settings != ApplicationSettings::default()
            });
            for (name, _) in of_others {
                notes.push(format!(
                    "application {name} is not launched; its environment and commands are not used"
                ));
            }
        }
        let applications = Applications {
            launched,
            settings: self.settings,
        };
        (applications, commands)
    }
}

/// What one document says is launched.
enum Launched {
    Applications(Vec<String>),
    Commands(Vec<Command>),
}

impl Launched {
    /// What stands in `spec`: commands in the list `cmds`, or names in the list `names`.
    fn read(spec: &Node, cmds: &str, names: &str, mistakes: &mut Vec<Mistake>) -> Option<Self> {
        let is_empty = |list: &&Node| list.items().is_empty();
        let list = |key| spec.get(key).filter(|list| matches!(list.value, Value::List(_)));
        let commands = list(cmds).filter(|list| !is_empty(list));
        // As sealer has it, an empty list says here that nothing is launched, and in the Cluster it says nothing.
        let applications = list(names).filter(|list| !is_empty(list) || names == LAUNCH_APPS);
        match (commands, applications) {
            (Some(list), Some(applications)) if !is_empty(&applications) => {
                let message = format!("`spec.{cmds}` and `spec.{names}` both say what is run");
                let mistake = Mistake::new(applications.span.clone(), message);
                mistakes.push(
                    mistake
                        .beside(list.span.clone(), "here too")
                        .help("keep one of them"),
                );
                None
            }
            (Some(list), _) => Some(Self::Commands(listed(list, cmds, mistakes))),
            (None, Some(list)) => Some(Self::Applications(names_of(list, mistakes))),
            (None, None) => None,
        }
    }
}

fn names_of(list: &Node, mistakes: &mut Vec<Mistake>) -> Vec<String> {
    let mut names: BTreeMap<String, Span> = BTreeMap::new();
    let mut ordered = Vec::new();
    for item in list.items().iter().filter(|item| item.text() != Some("")) {
        let Some(name) = name(item, mistakes) else {
            continue;
        };
        if let Some(first) = names.insert(name.clone(), item.span.clone()) {
            let mistake = Mistake::new(item.span.clone(), format!("application {name} is listed twice"));
            mistakes.push(mistake.beside(first, "first here").help("each is launched once"));
        } else {
            ordered.push(name);
        }
    }
    ordered
}

/// A name of an application. Whether the image has it, is asked when the image is known.
pub(super) fn name(node: &Node, mistakes: &mut Vec<Mistake>) -> Option<String> {
    let name = node.text()?;
    if ApplicationLaunch::is_name(name) {
        return Some(name.to_owned());
    }
    let message = format!("{name:?} cannot be the name of an application");
    let most = ApplicationLaunch::MAX_NAME_LEN;
    let help =
        format!("1 to {most} letters, digits, '-', '_' and '.'; `gantry inspect` names those of an image");
    mistakes.push(Mistake::new(node.span.clone(), message).help(help));
    None
}

/// Commands that stand for those of the image: the list `list` of the field `spec.KEY`.
fn listed(list: &Node, key: &str, mistakes: &mut Vec<Mistake>) -> Vec<Command> {
    let texts = texts(Some(list), &format!("spec.{key}"), mistakes);
    let command = |(index, text)| Command {
        origin: CommandOrigin::Listed(index),
        when: CommandMoment::Commands,
        on: CommandHosts::FirstMaster,
        text,
        file: None,
        by_name: None,
    };
    (0..).zip(texts).map(command).collect()
}

/// The commands of a list called `path`.
fn texts(list: Option<&Node>, path: &str, mistakes: &mut Vec<Mistake>) -> Vec<String> {
    let mut texts = Vec::new();
    for (index, item) in list.map(Node::items).unwrap_or_default().iter().enumerate() {
        // Anything that is no text was named by the structure check already.
        let Some(text) = item.text().filter(|_| item.kind() == "text") else {
            continue;
        };
        match ShellCommand::check_text(text) {
            Ok(()) => texts.push(text.to_owned()),
            Err(why) => mistakes.push(Mistake::new(
                item.span.clone(),
                format!("`{path}[{index}]` {why}"),
            )),
        }
    }
    texts
}
