//! What a file says about things of its image, held against the image: names of applications, arguments of commands.
//! Whoever reads the file alone cannot know them.

use gantry_model::CommandMoment;
use gantry_store::Application;

use super::Clusterfile;
use super::mistake::Mistake;
use super::spelling::{closest, one_of};
use super::tree::{self, Node};

/// Names that are listed when nothing is close to the one that was written.
const LISTED: usize = 8;

/// What an image has that a file may name.
#[derive(Debug, Clone)]
pub struct Offer<'a> {
    /// The image's name.
    pub image: String,
    /// Its applications.
    pub applications: &'a [Application],
    /// The shell lines that it wants run.
    pub lines: &'a [String],
}

/// What in `text`, which means `clusterfile`, does not fit the image, each with its place.
#[must_use]
pub fn mistakes(text: &str, clusterfile: &Clusterfile, offer: &Offer<'_>) -> Vec<Mistake> {
    let own = clusterfile.commands.iter();
    let own = own.filter(|command| command.when == CommandMoment::Commands);
    let mut lines: Vec<&str> = own.map(|command| command.text.as_str()).collect();
    let launches = lines.is_empty() && clusterfile.applications.launched.is_some();
    if lines.is_empty() && !launches {
        lines = offer.lines.iter().map(String::as_str).collect();
    }
    let launched = |name: &Node| unknown(name, offer).or_else(|| unclear(name, clusterfile, offer));
    let mut mistakes = Vec::new();
    for document in tree::parse(text).0 {
        let Some(spec) = document.get("spec") else {
            continue;
        };
        match document.get("kind").and_then(Node::text) {
            Some("Application") => {
                mistakes.extend(items(spec, "launchApps").filter_map(launched));
                let names = items(spec, "configs").filter_map(|config| config.get("name"));
                mistakes.extend(names.filter_map(|name| unknown(name, offer)));
            }
            Some("Config") => mistakes.extend(spec.get("appName").and_then(|name| unknown(name, offer))),
            Some("Cluster") => {
                mistakes.extend(items(spec, "appNames").filter_map(launched));
                mistakes.extend(
                    items(spec, "cmd_args").filter_map(|argument| unused(argument, &lines, launches)),
                );
            }
            _ => {}
        }
    }
    mistakes
}

fn items<'a>(spec: &'a Node, key: &str) -> impl Iterator<Item = &'a Node> {
    spec.get(key).map(Node::items).unwrap_or_default().iter()
}

fn unknown(node: &Node, offer: &Offer<'_>) -> Option<Mistake> {
    let name = node.text().filter(|name| !name.is_empty())?;
    let known = || {
        offer
            .applications
            .iter()
            .map(|application| application.name.as_str())
    };
    if known().any(|known| known == name) {
        return None;
    }
    let message = format!("image {} has no application {name:?}", offer.image);
    let mistake = Mistake::new(node.span.clone(), message);
    Some(match closest(name, known()) {
        Some(meant) => mistake.help(format!("did you mean `{meant}`?")),
        None if offer.applications.is_empty() => {
            mistake.help("it has no applications at all: `APP` in its Kubefile makes one")
        }
        None if offer.applications.len() > LISTED => {
            mistake.help(format!("`gantry inspect {}` names those it has", offer.image))
        }
        None => mistake.help(format!("it has {}", one_of(known()))),
    })
}

/// Neither image nor file says how the application is launched.
fn unclear(node: &Node, clusterfile: &Clusterfile, offer: &Offer<'_>) -> Option<Mistake> {
    let name = node.text()?;
    let application = offer
        .applications
        .iter()
        .find(|application| application.name == name)?;
    let settings = clusterfile.applications.settings.get(name);
    if !application.command().is_empty() || settings.is_some_and(|own| !own.commands.is_empty()) {
        return None;
    }
    let message = format!("image {} does not say how {name} is launched", offer.image);
    let help = format!(
        "write it in the Application's `configs`: `{{ name: {name}, launch: {{ cmds: [ COMMAND ] }} }}`"
    );
    Some(Mistake::new(node.span.clone(), message).help(help))
}

/// No command names the argument; `launches` says that applications are launched in their place.
fn unused(node: &Node, lines: &[&str], launches: bool) -> Option<Mistake> {
    let (name, _) = node.text()?.split_once('=')?;
    let used = || lines.iter().flat_map(|line| variables(line));
    if used().any(|used| used == name) {
        return None;
    }
    let message = format!("no command that is run names ${{{name}}}");
    let mistake = Mistake::new(node.span.clone(), message);
    Some(match closest(name, used()) {
        Some(meant) => mistake.help(format!("did you mean `{meant}`?")),
        None if launches => mistake.help(
            "applications are launched in the place of the image's commands; `env` in an Application's `configs` is theirs",
        ),
        None => mistake.help(
            "leave it out; where the Kubefile has it as ARG, it got its value when the image was built: ENV leaves it open",
        ),
    })
}

/// The variables that a shell line names.
fn variables(line: &str) -> impl Iterator<Item = &str> {
    line.split('$').skip(1).filter_map(|after| {
        let name = after.strip_prefix('{').unwrap_or(after);
        let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let name = &name[..end.unwrap_or(name.len())];
        (!name.is_empty()).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_variables_with_and_without_braces() {
        let found: Vec<&str> = variables("a $B ${C:-x}$D_1/$$ $(e) '${F'").collect();
        assert_eq!(found, ["B", "C", "D_1", "F"]);
    }
}
