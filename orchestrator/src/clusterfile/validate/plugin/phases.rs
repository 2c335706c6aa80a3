//! The words for when a plugin acts: those of sealer before 0.9 (`PreInit`) and since (`pre-init-host`).

use crate::clusterfile::mistake::Mistake;
use crate::clusterfile::spelling::{closest, one_of};
use crate::clusterfile::tree::Node;

/// When labels, taints and checks come.
const PRE_GUEST: &str = "PreGuest";
/// Every phase.
const PHASES: [&str; 22] = [
    "Originally",
    "PreInit",
    "PreInstall",
    PRE_GUEST,
    "PostInstall",
    "PreJoin",
    "PostJoin",
    "PreClean",
    "PostClean",
    "pre-install",
    "post-install",
    "pre-init-host",
    "post-init-host",
    "pre-clean-host",
    "post-clean-host",
    "pre-uninstall",
    "post-uninstall",
    "pre-scaleup",
    "post-scaleup",
    "upgrade",
    "upgrade-host",
    "rollback",
];

/// Whether the phases that `action` names are those of a plugin of this type.
pub(super) fn check(action: &Node, kind: &str, mistakes: &mut Vec<Mistake>) {
    for word in action.text().unwrap_or_default().split('|').map(str::trim) {
        let mistake = |message: String| Mistake::new(action.span.clone(), message);
        if !PHASES.contains(&word) {
            let mistake = mistake(format!("{word:?} is no phase"));
            mistakes.push(match closest(word, PHASES) {
                Some(meant) => mistake.help(format!("did you mean `{meant}`?")),
                None => mistake.help(format!("it is one of {}", one_of(PHASES))),
            });
        } else if word != PRE_GUEST {
            let message = format!("a plugin of type {kind} does nothing at {word}");
            mistakes.push(mistake(message).help(format!("its phase is `{PRE_GUEST}`")));
        }
    }
}
