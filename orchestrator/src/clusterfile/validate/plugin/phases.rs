//! The words for when a plugin acts: those of sealer before 0.9 (`PreInit`) and since (`pre-init-host`).

use gantry_model::CommandMoment;

use crate::clusterfile::mistake::Mistake;
use crate::clusterfile::spelling::{closest, one_of};
use crate::clusterfile::tree::Node;

/// A phase that a plugin names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Phase {
    pub(super) word: &'static str,
    pub(super) means: Means,
}

/// What a phase is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Means {
    /// Commands run then, on the hosts of the plugin.
    Hosts(CommandMoment),
    /// Commands run then, on the first master.
    Cluster(CommandMoment),
    /// There is none; this is to be done instead.
    Nothing(&'static str),
}

/// When labels, taints and checks come.
const PRE_GUEST: &str = "PreGuest";
/// When hosts come to another image.
const UPGRADE_HOST: &str = "upgrade-host";

/// Every phase, in the order in which they come; first the older words.
const PHASES: [Phase; 22] = [
    phase("Originally", Means::Hosts(CommandMoment::BeforeInit)),
    phase("PreInit", Means::Hosts(CommandMoment::BeforeInit)),
    phase("PreJoin", Means::Hosts(CommandMoment::BeforeInit)),
    phase(
        "PreInstall",
        Means::Nothing("sealer never came to it; did you mean `PreInit`?"),
    ),
    phase("PostJoin", Means::Hosts(CommandMoment::AfterJoin)),
    phase(PRE_GUEST, Means::Hosts(CommandMoment::BeforeCommands)),
    phase("PostInstall", Means::Hosts(CommandMoment::AfterCommands)),
    phase("PreClean", Means::Hosts(CommandMoment::BeforeClean)),
    phase("PostClean", Means::Hosts(CommandMoment::AfterClean)),
    phase("pre-install", Means::Cluster(CommandMoment::BeforeInstall)),
    phase("pre-init-host", Means::Hosts(CommandMoment::BeforeInit)),
    phase("post-init-host", Means::Hosts(CommandMoment::AfterJoin)),
    phase("post-install", Means::Cluster(CommandMoment::BeforeCommands)),
    phase("pre-clean-host", Means::Hosts(CommandMoment::BeforeClean)),
    phase("post-clean-host", Means::Hosts(CommandMoment::AfterClean)),
    phase("pre-uninstall", Means::Cluster(CommandMoment::BeforeClean)),
    phase("post-uninstall", Means::Cluster(CommandMoment::AfterClean)),
    phase("pre-scaleup", Means::Cluster(CommandMoment::BeforeScaleUp)),
    phase("post-scaleup", Means::Cluster(CommandMoment::AfterScaleUp)),
    phase(UPGRADE_HOST, Means::Hosts(CommandMoment::BeforeUpgrade)),
    phase("upgrade", Means::Cluster(CommandMoment::AfterUpgrade)),
    phase("rollback", Means::Cluster(CommandMoment::AfterRollback)),
];

const fn phase(word: &'static str, means: Means) -> Phase {
    Phase { word, means }
}

impl Phase {
    /// Whether it is a word since sealer 0.9.
    pub(super) fn is_newer(&self) -> bool {
        self.word.starts_with(|c: char| c.is_ascii_lowercase())
    }
}

/// The phases that `action` names for a plugin of type `kind`; none when it has mistakes.
pub(super) fn read(action: &Node, kind: &str, mistakes: &mut Vec<Mistake>) -> Option<Vec<Phase>> {
    let before = mistakes.len();
    let mut found: Vec<Phase> = Vec::new();
    for word in action.text()?.split('|').map(str::trim) {
        let mistake = |message: String| Mistake::new(action.span.clone(), message);
        let words = || {
            let own = PHASES
                .iter()
                .filter(|phase| !matches!(phase.means, Means::Nothing(_)));
            own.map(|phase| phase.word)
        };
        let Some(phase) = PHASES.iter().find(|phase| phase.word == word) else {
            let mistake = mistake(format!("{word:?} is no phase"));
            mistakes.push(match closest(word, words()) {
                Some(meant) => mistake.help(format!("did you mean `{meant}`?")),
                None => mistake.help(format!("it is one of {}", one_of(words()))),
            });
            continue;
        };
        let own = own_phases(kind);
        if !own.is_empty() && !own.contains(&word) {
            let message = format!("a plugin of type {kind} does nothing at {word}");
            mistakes.push(mistake(message).help(format!("its phase is {}", one_of(own.iter().copied()))));
        } else if let Means::Nothing(instead) = phase.means {
            mistakes.push(mistake(format!("nothing runs at {word}")).help(instead));
        } else {
            found.push(*phase);
        }
    }
    // What runs before the host's scripts runs with every other image anyway.
    let is_initial = |phase: &Phase| phase.means == Means::Hosts(CommandMoment::BeforeInit);
    if found.iter().any(is_initial) {
        found.retain(|phase| phase.word != UPGRADE_HOST);
    }
    (mistakes.len() == before).then_some(found)
}

/// Whether one of the phases that `action` names is at one of `moments`.
pub(super) fn are_at(action: &str, moments: &[CommandMoment]) -> bool {
    let mut named = action
        .split('|')
        .filter_map(|word| PHASES.iter().find(|phase| phase.word == word.trim()));
    named.any(|phase| match phase.means {
        Means::Hosts(moment) | Means::Cluster(moment) => moments.contains(&moment),
        Means::Nothing(_) => false,
    })
}

/// The only phases of a type of plugin; none where every phase is one.
fn own_phases(kind: &str) -> &'static [&'static str] {
    match kind {
        "SHELL" => &[],
        "HOSTNAME" => &["PreInit", "PreJoin"],
        _ => &[PRE_GUEST],
    }
}
