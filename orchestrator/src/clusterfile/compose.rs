//! The text of a Clusterfile, made of another one and of what a command line says: `gantry run IMAGE -m … -n …`.
//! Comments and layout of the other one are not kept.

use std::net::IpAddr;

use gantry_model::{ClusterName, ImageReference};

use super::Role;
use super::mistake::{Mistake, Mistakes};
use super::tree::{self, Node};
use super::validate::first_version;
use super::yaml::{Scalar, Yaml, to_text};

/// The Clusterfile of an image that brings none. `my-cluster` is the name that sealer gives.
pub const PLAIN: &str =
    "apiVersion: sealer.io/v2\nkind: Cluster\nmetadata:\n  name: my-cluster\nspec:\n  image: none\n";

/// The version of the format that is written.
const VERSION: &str = "sealer.io/v2";
const CLUSTER: &str = "Cluster";
const APPLICATION: &str = "Application";

/// What a command line says about a cluster. What is empty says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choices {
    /// The image.
    pub image: Option<ImageReference>,
    /// The cluster's name.
    pub name: Option<ClusterName>,
    /// Its control planes, and with them all of its hosts: others that a text has are not meant.
    pub masters: Vec<IpAddr>,
    /// Its workers.
    pub nodes: Vec<IpAddr>,
    /// Variables over those of the text: NAME=VALUE.
    pub env: Vec<String>,
    /// Values of what commands of the image name: NAME=VALUE.
    pub command_arguments: Vec<String>,
    /// Shell lines in the place of the image's.
    pub commands: Vec<String>,
    /// The applications that are launched; of an empty list none.
    pub applications: Option<Vec<String>>,
    /// Variables of applications: the application, and NAME=VALUE.
    pub application_env: Vec<(String, String)>,
}

/// The text that says what `base`, a Clusterfile called `file`, says, but for what `choices` say.
///
/// # Errors
/// When `base` is not YAML, or its Cluster is no mapping. What else is wrong with the result, reading it tells.
pub fn compose(file: &str, base: &str, choices: &Choices) -> Result<String, Mistakes> {
    let (documents, mistakes) = tree::parse(base);
    if !mistakes.is_empty() {
        return Err(Mistakes::new(file, base, mistakes));
    }
    if let Some(odd) = documents.iter().find(|document| document.entries().is_empty()) {
        let mistake = Mistake::new(odd.span.clone(), "a document has to be a mapping");
        return Err(Mistakes::new(file, base, vec![mistake]));
    }
    let mut composed: Vec<Yaml> = documents.iter().map(of_second).collect();
    let is_cluster = |document: &Yaml| is(document, CLUSTER);
    if !composed.iter().any(is_cluster) {
        composed.splice(0..0, Yaml::documents(PLAIN).unwrap_or_default());
    }
    composed
        .iter_mut()
        .filter(|document| is(document, CLUSTER))
        .for_each(|cluster| set_cluster(cluster, choices));
    if !choices.application_env.is_empty() {
        set_application_env(&mut composed, &choices.application_env);
    }
    Ok(to_text(&composed))
}

/// A document as it is, but a Cluster of the first version as the second says it.
fn of_second(node: &Node) -> Yaml {
    if node.get("kind").and_then(Node::text) != Some(CLUSTER) || !first_version::is(node) {
        return Yaml::of(node);
    }
    // Where hosts are chosen, those of the text may be missing, or be ones that a cloud makes.
    let mut second = Yaml::of(&first_version::to_second(node, &mut Vec::new(), &mut Vec::new()));
    second.set("apiVersion", word(VERSION));
    second
}

fn is(document: &Yaml, kind: &str) -> bool {
    document.get("kind").and_then(Yaml::text) == Some(kind)
}

fn set_cluster(cluster: &mut Yaml, choices: &Choices) {
    if let Some(name) = &choices.name {
        cluster.field_mut("metadata").set("name", word(name.as_str()));
    }
    let spec = cluster.field_mut("spec");
    if let Some(image) = &choices.image {
        spec.set("image", word(&image.to_string()));
    }
    // Nothing goes over ssh.
    spec.remove("ssh");
    set_variables(spec, "env", &choices.env);
    set_variables(spec, "cmd_args", &choices.command_arguments);
    if !choices.commands.is_empty() {
        spec.remove("appNames");
        spec.set("cmd", list(&choices.commands));
    }
    if let Some(names) = &choices.applications {
        spec.remove("cmd");
        let none = [String::new()];
        spec.set("appNames", list(if names.is_empty() { &none } else { names }));
    }
    if !choices.masters.is_empty() {
        let before = spec.get("hosts").cloned().unwrap_or(Yaml::Null);
        let groups = [(Role::Master, &choices.masters), (Role::Node, &choices.nodes)];
        let groups = groups.into_iter().filter(|(_, hosts)| !hosts.is_empty());
        let groups = groups.map(|(role, hosts)| group(&before, role, hosts)).collect();
        spec.set("hosts", Yaml::List(groups));
    }
}

/// The hosts of one role. Where the text has one group of this role, they get what it says about its own.
fn group(before: &Yaml, role: Role, hosts: &[IpAddr]) -> Yaml {
    let role = match role {
        Role::Master => "master",
        Role::Node => "node",
    };
    let has_role = |group: &&Yaml| {
        let roles = group.get("roles").map(Yaml::items).unwrap_or_default();
        roles.iter().any(|item| item.text() == Some(role))
    };
    let mut like: Vec<&Yaml> = before.items().iter().filter(has_role).collect();
    let mut group = match (like.pop(), like.is_empty()) {
        (Some(only), true) => only.clone(),
        _ => Yaml::Map(Vec::new()),
    };
    group.remove("ssh");
    let hosts = hosts.iter().map(|host| word(&host.to_string())).collect();
    group.set("ips", Yaml::List(hosts));
    if group.get("roles").is_none() {
        group.set("roles", Yaml::List(vec![word(role)]));
    }
    group
}

/// Puts variables into the list `field`; those of the same names go.
fn set_variables(spec: &mut Yaml, field: &str, variables: &[String]) {
    if variables.is_empty() {
        return;
    }
    fn name(text: &str) -> &str {
        text.split_once('=').map_or(text, |(name, _)| name)
    }
    let before = spec.get(field).map(Yaml::items).unwrap_or_default();
    let is_given = |item: &Yaml| {
        let text = item.text().unwrap_or_default();
        variables.iter().any(|given| name(given) == name(text))
    };
    let mut items: Vec<Yaml> = before.iter().filter(|item| !is_given(item)).cloned().collect();
    for (index, given) in variables.iter().enumerate() {
        // Of a name given twice the last one counts.
        if !variables[index + 1..]
            .iter()
            .any(|later| name(later) == name(given))
        {
            items.push(quoted(given));
        }
    }
    spec.set(field, Yaml::List(items));
}

/// Puts variables of applications into the document that is about applications; there is one afterwards.
fn set_application_env(documents: &mut Vec<Yaml>, variables: &[(String, String)]) {
    if !documents.iter().any(|document| is(document, APPLICATION)) {
        let mut document = Yaml::Map(Vec::new());
        document.set("apiVersion", word(VERSION));
        document.set("kind", word(APPLICATION));
        document.field_mut("metadata").set("name", word("apps"));
        documents.push(document);
    }
    let Some(document) = documents.iter_mut().find(|document| is(document, APPLICATION)) else {
        return;
    };
    let spec = document.field_mut("spec");
    let mut configs = spec.get("configs").map(Yaml::items).unwrap_or_default().to_vec();
    let mut names: Vec<&str> = variables.iter().map(|(name, _)| name.as_str()).collect();
    names.dedup();
    for name in names {
        let given = variables.iter().filter(|(of, _)| of == name);
        let given: Vec<String> = given.map(|(_, variable)| variable.clone()).collect();
        let is_its = |config: &Yaml| config.get("name").and_then(Yaml::text) == Some(name);
        let index = configs.iter().position(is_its).unwrap_or_else(|| {
            let mut config = Yaml::Map(Vec::new());
            config.set("name", quoted(name));
            configs.push(config);
            configs.len() - 1
        });
        set_variables(&mut configs[index], "env", &given);
    }
    spec.set("configs", Yaml::List(configs));
}

fn list(texts: &[String]) -> Yaml {
    Yaml::List(texts.iter().map(|text| quoted(text)).collect())
}

fn quoted(text: &str) -> Yaml {
    Yaml::Scalar(Scalar::quoted(text))
}

/// What readers of YAML 1.1 take for a truth or for nothing, whatever its case.
const NO_TEXT: [&str; 9] = ["true", "false", "yes", "no", "on", "off", "y", "n", "null"];

/// Without quotes where no reader takes it for anything but text: names, addresses, references of images.
fn word(text: &str) -> Yaml {
    let is_word = |c: char| c.is_ascii_alphanumeric() || "-._/:@".contains(c);
    // 1:30 is a number to base 60.
    let is_number = text.replace([':', '_'], "").parse::<f64>().is_ok();
    let is_other = NO_TEXT.iter().any(|other| other.eq_ignore_ascii_case(text));
    let has_mark = text.ends_with(':') || text.starts_with([':', '-', '@', '.']);
    if !text.is_empty() && text.chars().all(is_word) && !is_number && !is_other && !has_mark {
        Yaml::Scalar(Scalar::plain(text))
    } else {
        quoted(text)
    }
}

#[cfg(test)]
mod tests;
