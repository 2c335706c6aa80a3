//! What has to change about a node, so that it has the marks it shall have and none it had from us before. Pure.
//!
//! What was set is written down in an annotation of the node, in the same change: so every control plane knows it, and
//! marks that others set stay.

use std::collections::BTreeSet;

use gantry_model::{NodeMarks, Taint};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The annotation: [`Ours`] as JSON.
const ANNOTATION: &str = "gantry.io/marks";

/// What was set on a node: keys of labels, `KEY:EFFECT` of taints.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Ours {
    labels: BTreeSet<String>,
    taints: BTreeSet<String>,
}

/// The JSON merge patch (RFC 7386) that gives `node`, an object of the Kubernetes API, its `marks`; none when it has them.
pub(super) fn patch(node: &Value, marks: &NodeMarks) -> Option<Value> {
    let metadata = &node["metadata"];
    let written = metadata["annotations"][ANNOTATION].as_str();
    // An annotation that somebody spoilt says nothing.
    let before: Ours = written
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    let mut ours = Ours::default();
    let labels = labels(metadata, marks, &before, &mut ours);
    let there = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
    let taints = taints(&there, marks, &before, &mut ours);

    let note = (ours != Ours::default()).then(|| serde_json::to_string(&ours).unwrap_or_default());
    if labels.is_empty() && taints == there && note.as_deref() == written {
        return None;
    }
    let mut patch = json!({
        // Whoever changed the node meanwhile is not overruled by what was read before.
        "metadata": { "resourceVersion": metadata["resourceVersion"], "annotations": { ANNOTATION: note } },
    });
    if !labels.is_empty() {
        patch["metadata"]["labels"] = labels.into();
    }
    if taints != there {
        patch["spec"] = json!({ "taints": taints });
    }
    Some(patch)
}

/// Whether `node` has marks that were set so.
pub(super) fn is_marked(node: &Value) -> bool {
    !node["metadata"]["annotations"][ANNOTATION].is_null()
}

fn labels(metadata: &Value, marks: &NodeMarks, before: &Ours, ours: &mut Ours) -> Map<String, Value> {
    let there = |key: &str| metadata["labels"][key].as_str();
    let mut changes = Map::new();
    for key in before
        .labels
        .iter()
        .filter(|key| !marks.labels.contains_key(*key))
    {
        if there(key).is_some() {
            changes.insert(key.clone(), Value::Null);
        }
    }
    for (key, value) in &marks.labels {
        let is_so = there(key) == Some(value);
        if !is_so {
            changes.insert(key.clone(), value.as_str().into());
        }
        if !is_so || before.labels.contains(key) {
            ours.labels.insert(key.clone());
        }
    }
    changes
}

fn taints(there: &[Value], marks: &NodeMarks, before: &Ours, ours: &mut Ours) -> Vec<Value> {
    let name = |key: &str, effect: &str| format!("{key}:{effect}");
    let mut taints = there.to_vec();
    let wanted = |key: &str, effect: &str| {
        let is = |taint: &&Taint| taint.key == key && taint.effect.name() == effect;
        marks.taints.iter().find(is)
    };
    taints.retain(|taint| {
        let (key, effect) = key_and_effect(taint);
        let gone = before.taints.contains(&name(key, effect))
            || marks
                .without_taints
                .iter()
                .any(|pattern| pattern.matches(key, effect));
        wanted(key, effect).is_some() || !gone
    });
    for taint in &marks.taints {
        let (key, effect) = (taint.key.as_str(), taint.effect.name());
        let mut found = taints
            .iter_mut()
            .find(|taint| key_and_effect(taint) == (key, effect));
        let is_so = found
            .as_ref()
            .is_some_and(|found| found["value"].as_str().unwrap_or_default() == taint.value);
        match &mut found {
            _ if is_so => {}
            Some(found) => found["value"] = taint.value.as_str().into(),
            None => taints.push(json!({ "key": key, "value": taint.value, "effect": effect })),
        }
        if !is_so || before.taints.contains(&name(key, effect)) {
            ours.taints.insert(name(key, effect));
        }
    }
    taints
}

fn key_and_effect(taint: &Value) -> (&str, &str) {
    let text = |field: &str| taint[field].as_str().unwrap_or_default();
    (text("key"), text("effect"))
}

#[cfg(test)]
mod tests {
    use gantry_model::{TaintEffect, TaintPattern};

    use super::*;

    /// A node with marks of its own, as Kubernetes has it.
    fn node() -> Value {
        json!({
            "metadata": { "name": "host2", "resourceVersion": "7", "labels": { "kubernetes.io/os": "linux", "zone": "a" } },
            "spec": { "taints": [{ "key": "node-role.kubernetes.io/master", "effect": "NoSchedule" }] },
        })
    }

    fn marks(labels: &[(&str, &str)], taints: &[(&str, &str)]) -> NodeMarks {
        NodeMarks {
            labels: labels.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
            taints: taints
                .iter()
                .map(|(key, value)| Taint {
                    key: (*key).into(),
                    value: (*value).into(),
                    effect: TaintEffect::NoSchedule,
                })
                .collect(),
            without_taints: vec![],
        }
    }

    /// The node after the patch, by RFC 7386.
    fn patched(node: &Value, marks: &NodeMarks) -> Value {
        fn merge(to: &mut Value, patch: &Value) {
            let Value::Object(fields) = patch else {
                *to = patch.clone();
                return;
            };
            if !to.is_object() {
                *to = json!({});
            }
            for (key, value) in fields {
                if value.is_null() {
                    to.as_object_mut().unwrap().remove(key);
                } else {
                    merge(&mut to[key], value);
                }
            }
        }
        let mut after = node.clone();
        merge(&mut after, &patch(node, marks).unwrap());
        assert_eq!(patch(&after, marks), None, "the second time nothing changes");
        after
    }

    #[test]
    fn marks_come_change_and_go_and_those_of_others_stay() {
        let first = patched(
            &node(),
            &marks(&[("disk", "ssd"), ("tier", "1")], &[("dedicated", "db")]),
        );
        assert_eq!(
            first["metadata"]["labels"],
            json!({ "kubernetes.io/os": "linux", "zone": "a", "disk": "ssd", "tier": "1" })
        );
        let taint = json!({ "key": "dedicated", "value": "db", "effect": "NoSchedule" });
        assert_eq!(first["spec"]["taints"][1], taint);

        let second = patched(&first, &marks(&[("disk", "nvme")], &[("dedicated", "web")]));
        assert_eq!(
            second["metadata"]["labels"],
            json!({ "kubernetes.io/os": "linux", "zone": "a", "disk": "nvme" })
        );
        assert_eq!(second["spec"]["taints"].as_array().unwrap().len(), 2);
        assert_eq!(second["spec"]["taints"][1]["value"], "web");

        let mut bare = patched(&second, &NodeMarks::default());
        assert!(!is_marked(&bare));
        bare["metadata"].as_object_mut().unwrap().remove("annotations");
        assert_eq!(bare, node());
    }

    #[test]
    fn what_was_so_before_is_not_ours_to_take_away() {
        let same = marks(&[("zone", "a")], &[]);
        assert_eq!(patch(&node(), &same), None);
        let other = patched(&node(), &marks(&[("zone", "a"), ("disk", "ssd")], &[]));
        let bare = patched(&other, &NodeMarks::default());
        assert_eq!(bare["metadata"]["labels"]["zone"], "a");
    }

    #[test]
    fn a_taint_of_kubernetes_can_be_taken_away() {
        let pattern = TaintPattern {
            key: "node-role.kubernetes.io/master".into(),
            effect: Some(TaintEffect::NoSchedule),
        };
        let without = NodeMarks {
            without_taints: vec![pattern],
            ..NodeMarks::default()
        };
        assert_eq!(patched(&node(), &without)["spec"]["taints"], json!([]));
    }

    #[test]
    fn a_change_is_made_to_what_was_read_only() {
        let patch = patch(&node(), &marks(&[("disk", "ssd")], &[])).unwrap();
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
        assert!(patch.get("spec").is_none(), "{patch}");
    }
}
