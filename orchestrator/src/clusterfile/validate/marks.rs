//! Labels and taints of hosts: of a group of them, and one by one.

use gantry_model::{NodeMarks, Taint, TaintEffect, TaintPattern, check_mark_key, check_mark_value};

use crate::clusterfile::mistake::Mistake;
use crate::clusterfile::spelling::{closest, one_of};
use crate::clusterfile::tree::{Entry, Node, Span};

/// Before the name of a free role in the label that says it.
pub(super) const ROLE_LABEL: &str = "node-role.kubernetes.io/";
const ONE_TAINT: &str = "a node has one taint for each key and effect; keep one of them";
/// Labels by which kubelets say what host they run on; they would set them again.
const OF_KUBELET: [&str; 5] = [
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
];

/// What the nodes of `group` are marked with.
pub(super) fn marks(group: &Node, mistakes: &mut Vec<Mistake>) -> NodeMarks {
    let mut marks = NodeMarks::default();
    for role in group.get("roles").map(Node::items).unwrap_or_default() {
        free_role(role, &mut marks, mistakes);
    }
    for label in group.get("labels").map(Node::entries).unwrap_or_default() {
        if let Err(mistake) = self::label(label, &mut marks) {
            mistakes.push(mistake);
        }
    }
    let mut seen: Vec<(TaintPattern, Span)> = Vec::new();
    for item in group.get("taints").map(Node::items).unwrap_or_default() {
        let Some(text) = item.text().filter(|_| item.kind() == "text") else {
            continue;
        };
        match taint(text) {
            Ok((pattern, value)) => {
                if let Some((_, first)) = seen.iter().find(|(other, _)| overlap(other, &pattern)) {
                    let mistake = Mistake::new(
                        item.span.clone(),
                        format!("{text:?} says another thing about the same taint"),
                    );
                    mistakes.push(mistake.beside(first.clone(), "the first").help(ONE_TAINT));
                    continue;
                }
                seen.push((pattern.clone(), item.span.clone()));
                put(pattern, value, &mut marks);
            }
            Err((message, help)) => mistakes.push(Mistake::new(item.span.clone(), message).help(help)),
        }
    }
    marks
}

/// Roles beside `master` and `node` become labels, as `kubectl get nodes` shows them.
fn free_role(role: &Node, marks: &mut NodeMarks, mistakes: &mut Vec<Mistake>) {
    let Some(name) = role.text().filter(|name| !matches!(*name, "master" | "node")) else {
        return;
    };
    let label = format!("{ROLE_LABEL}{name}");
    if name.contains('/') || check_mark_key(&label).is_err() {
        let mistake = Mistake::new(
            role.span.clone(),
            format!("{name:?} cannot be the name of a role"),
        );
        mistakes.push(mistake.help("it becomes a label: up to 63 letters, digits, '-', '_' and '.'"));
    } else {
        marks.labels.insert(label, String::new());
    }
}

fn label(entry: &Entry, marks: &mut NodeMarks) -> Result<(), Mistake> {
    let key = &entry.key;
    check_key(key, &entry.key_span)?;
    let Some(value) = entry.value.text() else {
        // Anything that is there and is no text was named by the structure check already.
        if entry.value.kind() == "nothing" {
            let mistake = Mistake::new(entry.key_span.clone(), format!("label {key} has no value"));
            return Err(mistake.help(format!("write `{key}: \"\"` for a label without one")));
        }
        return Ok(());
    };
    check_mark_value(value).map_err(|wrong| Mistake::new(entry.value.span.clone(), wrong))?;
    marks.labels.insert(key.clone(), value.to_owned());
    Ok(())
}

fn check_key(key: &str, span: &Span) -> Result<(), Mistake> {
    check_mark_key(key).map_err(|wrong| Mistake::new(span.clone(), wrong))?;
    if OF_KUBELET.contains(&key) {
        let mistake = Mistake::new(span.clone(), format!("label {key} cannot be set"));
        return Err(mistake.help("leave it out: kubelet says by it what host it runs on"));
    }
    Ok(())
}

/// Puts the label `KEY=VALUE` to those of one host.
pub(super) fn put_label(text: &str, span: &Span, marks: &mut NodeMarks) -> Result<(), Mistake> {
    let Some((key, value)) = text.split_once('=') else {
        let mistake = Mistake::new(span.clone(), format!("{text:?} is not a label"));
        return Err(mistake.help("write KEY=VALUE"));
    };
    check_key(key, span)?;
    check_mark_value(value).map_err(|wrong| Mistake::new(span.clone(), wrong))?;
    match marks.labels.insert(key.to_owned(), value.to_owned()) {
        Some(other) if other != value => {
            let message = format!("label {key} is {other:?} there already");
            Err(Mistake::new(span.clone(), message)
                .help("a node has one value for each label; keep one of them"))
        }
        _ => Ok(()),
    }
}

/// Puts the taint `text` to those of one host.
pub(super) fn put_taint(text: &str, span: &Span, marks: &mut NodeMarks) -> Result<(), Mistake> {
    let (pattern, value) =
        taint(text).map_err(|(message, help)| Mistake::new(span.clone(), message).help(help))?;
    let mut alone = NodeMarks::default();
    put(pattern.clone(), value, &mut alone);
    let said_before = alone.taints.iter().all(|taint| marks.taints.contains(taint))
        && alone
            .without_taints
            .iter()
            .all(|taint| marks.without_taints.contains(taint));
    if said_before {
        return Ok(());
    }
    let of_taint = |taint: &Taint| TaintPattern {
        key: taint.key.clone(),
        effect: Some(taint.effect),
    };
    let mut others = marks
        .taints
        .iter()
        .map(of_taint)
        .chain(marks.without_taints.iter().cloned());
    if others.any(|other| overlap(&other, &pattern)) {
        let message = format!("{text:?} says another thing about a taint that is there already");
        return Err(Mistake::new(span.clone(), message).help(ONE_TAINT));
    }
    marks.taints.extend(alone.taints);
    marks.without_taints.extend(alone.without_taints);
    Ok(())
}

/// `KEY[=VALUE]:EFFECT` is a taint and its value; with '-' behind it, `KEY:EFFECT-` and `KEY-` are taints that are not to
/// be there. An error is what is wrong and what to do.
fn taint(text: &str) -> Result<(TaintPattern, Option<String>), (String, String)> {
    let (body, remove) = match text.strip_suffix('-') {
        Some(body) => (body, true),
        None => (text, false),
    };
    let effects = TaintEffect::ALL.map(TaintEffect::name);
    let wrong = |help: String| (format!("{text:?} is not a taint"), help);
    let form = || {
        wrong(format!(
            "write KEY[=VALUE]:EFFECT; the effects are {}",
            effects.join(", ")
        ))
    };
    let (pair, effect) = match body.split_once(':') {
        Some((pair, effect)) => (pair, Some(effect)),
        None => (body, None),
    };
    let (key, value) = match pair.split_once('=') {
        Some((key, value)) => (key, Some(value)),
        None => (pair, None),
    };
    let effect = match effect {
        None if remove && value.is_none() => None,
        None => return Err(form()),
        Some(word) => Some(word.parse::<TaintEffect>().map_err(|_| {
            let sign = if remove { "-" } else { "" };
            match closest(word, effects) {
                Some(meant) => wrong(format!("did you mean `{pair}:{meant}{sign}`?")),
                None if word.is_empty() || word.contains(':') => form(),
                None => (
                    format!("{word:?} is no effect of a taint"),
                    format!("it is {}", one_of(effects)),
                ),
            }
        })?),
    };
    check_mark_key(key)
        .and_then(|()| check_mark_value(value.unwrap_or_default()))
        .map_err(wrong)?;
    let pattern = TaintPattern {
        key: key.to_owned(),
        effect,
    };
    Ok((pattern, (!remove).then(|| value.unwrap_or_default().to_owned())))
}

fn overlap(one: &TaintPattern, other: &TaintPattern) -> bool {
    one.key == other.key
        && match (one.effect, other.effect) {
            (Some(one), Some(other)) => one == other,
            _ => true,
        }
}

fn put(pattern: TaintPattern, value: Option<String>, marks: &mut NodeMarks) {
    match (value, pattern.effect) {
        (Some(value), Some(effect)) => marks.taints.push(Taint {
            key: pattern.key,
            value,
            effect,
        }),
        _ => marks.without_taints.push(pattern),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taints_are_written_as_sealer_writes_them() {
        let told = |text: &str| {
            let (pattern, value) = taint(text).unwrap();
            (pattern.key, pattern.effect.map(TaintEffect::name), value)
        };
        let yes = |value: &str| Some(value.to_owned());
        assert_eq!(told("k=v:NoSchedule"), ("k".into(), Some("NoSchedule"), yes("v")));
        assert_eq!(told("k:NoExecute"), ("k".into(), Some("NoExecute"), yes("")));
        assert_eq!(
            told("k=:PreferNoSchedule"),
            ("k".into(), Some("PreferNoSchedule"), yes(""))
        );
        assert_eq!(told("k:NoExecute-"), ("k".into(), Some("NoExecute"), None));
        assert_eq!(told("k=v:NoExecute-"), ("k".into(), Some("NoExecute"), None));
        assert_eq!(told("k-"), ("k".into(), None, None));
        for wrong in [
            "",
            "-",
            "k",
            "k=v",
            "k=v-",
            "k==v:NoSchedule",
            "k=a:b:NoSchedule",
            ":NoSchedule",
            "k:",
            "a b:NoSchedule",
        ] {
            assert!(taint(wrong).is_err(), "{wrong:?}");
        }
    }
}
