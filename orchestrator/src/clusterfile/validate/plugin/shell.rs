//! Plugins of type SHELL: commands, the hosts they are for, and when they run.

use gantry_model::{CommandOrigin, ShellCommand};

use super::phases::Means;
use super::{Plugin, select};
use crate::clusterfile::Clusterfile;
use crate::clusterfile::command::{Command, CommandHosts};
use crate::clusterfile::mistake::Mistake;
use crate::clusterfile::tree::Node;

/// The commands that `plugin` is, one for each moment.
pub(super) fn commands(
    plugin: &Plugin<'_>,
    clusterfile: &Clusterfile,
    mistakes: &mut Vec<Mistake>,
    notes: &mut Vec<String>,
) -> Vec<Command> {
    let before = mistakes.len();
    let hosts = hosts(plugin, clusterfile, mistakes);
    let text = plugin.spec.get("data");
    match text.map(|data| (data, ShellCommand::check_text(data.text().unwrap_or_default()))) {
        None => {
            let mistake = Mistake::new(
                plugin.spec.span.clone(),
                "`spec.data` is missing; type SHELL needs it",
            );
            mistakes.push(mistake.help("write `data: |` and the commands below it"));
        }
        Some((data, Err(why))) => {
            mistakes.push(Mistake::new(data.span.clone(), format!("`spec.data` {why}")));
        }
        Some((_, Ok(()))) => {}
    }
    let (Some(hosts), Some(text)) = (hosts, text.and_then(Node::text)) else {
        return Vec::new();
    };
    if mistakes.len() > before {
        return Vec::new();
    }
    let mut commands: Vec<Command> = Vec::new();
    for phase in &plugin.phases {
        let (when, on) = match phase.means {
            Means::Hosts(when) => (when, hosts.clone()),
            Means::Cluster(when) => (when, CommandHosts::FirstMaster),
            Means::Nothing(_) => continue,
        };
        if phase.word == "Originally" {
            notes.push(format!(
                "plugin {}: Originally is here when the rootfs is there and no script ran, as PreInit",
                plugin.name
            ));
        }
        let command = Command {
            origin: CommandOrigin::Plugin(plugin.name.to_owned()),
            when,
            on,
            text: text.to_owned(),
            file: None,
            by_name: plugin.is_newer().then(|| plugin.name.to_owned()),
        };
        if !commands.contains(&command) {
            commands.push(command);
        }
    }
    commands
}

/// Which hosts `on`, or `scope`, names.
fn hosts(
    plugin: &Plugin<'_>,
    clusterfile: &Clusterfile,
    mistakes: &mut Vec<Mistake>,
) -> Option<CommandHosts> {
    let (on, scope) = (plugin.spec.get("on"), plugin.spec.get("scope"));
    if let (Some(on), Some(scope)) = (on, scope) {
        let mistake = Mistake::new(scope.span.clone(), "`spec.on` and `spec.scope` both name hosts");
        mistakes.push(
            mistake
                .beside(on.span.clone(), "here too")
                .help("keep one of them"),
        );
        return None;
    }
    let Some(given) = on.or(scope) else {
        return Some(CommandHosts::All);
    };
    match select::by_word(given.text()?, &given.span, &clusterfile.hosts) {
        Ok(hosts) => Some(hosts),
        Err(mistake) => {
            mistakes.push(mistake);
            None
        }
    }
}
