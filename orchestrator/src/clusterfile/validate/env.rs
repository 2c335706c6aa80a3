//! Lists of `NAME=VALUE`.

use std::collections::BTreeMap;

use gantry_model::takes_code;

use crate::clusterfile::mistake::Mistake;
use crate::clusterfile::tree::Node;

/// Names Gantry sets itself, by their beginning: what a file says under them is not used.
const OWN_PREFIXES: [&str; 3] = ["LocalRegistry", "ExternalRegistry", "Registry"];
/// Names Gantry sets itself.
const OWN_NAMES: [&str; 3] = ["HostIP", "HostIPFamily", "ContainerRuntime"];

/// The variables of `list`; of a name given twice the last one counts.
pub(super) fn variables(
    list: &Node,
    mistakes: &mut Vec<Mistake>,
    notes: &mut Vec<String>,
) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    for item in list.items() {
        let Some(text) = item.text() else { continue };
        let Some((name, value)) = text.split_once('=') else {
            // A number or truth value was named by the structure check already.
            if item.kind() == "text" {
                let mistake = Mistake::new(item.span.clone(), format!("{text:?} has no '='"));
                let meant = text
                    .split_once([':', ' '])
                    .map_or((text, ""), |(name, value)| (name, value.trim()));
                mistakes.push(mistake.help(format!("write NAME=VALUE, e.g. `{}={}`", meant.0, meant.1)));
            }
            continue;
        };
        if let Some(wrong) = wrong_name(name) {
            mistakes.push(
                Mistake::new(item.span.clone(), format!("{name:?} is not a variable's name")).help(wrong),
            );
            continue;
        }
        if takes_code(name) {
            let mistake = format!("{name} makes programs run what no image brings");
            mistakes.push(
                Mistake::new(item.span.clone(), mistake)
                    .help("leave it out: hosts run what is in verified images and nothing else"),
            );
            continue;
        }
        if value.contains('\0') {
            mistakes.push(Mistake::new(
                item.span.clone(),
                format!("the value of {name} has a NUL character"),
            ));
            continue;
        }
        if OWN_NAMES.contains(&name) || OWN_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
            notes.push(format!(
                "{name} is set by Gantry; the value in the file is not used"
            ));
            continue;
        }
        if variables.insert(name.to_owned(), value.to_owned()).is_some() {
            notes.push(format!("{name} is given twice in one list; the last one counts"));
        }
    }
    variables
}

fn wrong_name(name: &str) -> Option<&'static str> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    match name.as_bytes() {
        [] => Some("write NAME=VALUE"),
        _ if name.trim() != name => Some("remove the spaces around it"),
        [first, ..] if first.is_ascii_digit() => Some("it cannot start with a digit"),
        bytes if bytes.iter().all(|b| word(*b)) => None,
        _ => Some("it is made of letters, digits and '_'"),
    }
}
