//! Checks a tree against the JSON Schema: names of fields, kinds of values, nothing missing.
//!
//! One walk finds every such mistake. The schema is the one people get from `gantry schema`, so both agree.

use serde_json::Value as Schema;

use super::mistake::Mistake;
use super::spelling::{closest, one_of};
use super::tree::{Node, Span, Value};
use super::unsupported::instead_of;

/// The mistakes of `document` against `schema`.
pub(crate) fn check(document: &Node, schema: &Schema) -> Vec<Mistake> {
    let start = document.span.start;
    let mut walk = Walk {
        root: schema,
        mistakes: Vec::new(),
    };
    walk.value(
        document,
        schema,
        &Place {
            path: String::new(),
            name: start..start,
        },
    );
    walk.mistakes
}

/// Where the walk is: the path, and the place of the field's name.
struct Place {
    path: String,
    name: Span,
}

struct Walk<'a> {
    root: &'a Schema,
    mistakes: Vec<Mistake>,
}

impl Walk<'_> {
    fn value(&mut self, node: &Node, schema: &Schema, place: &Place) {
        let types = types(schema);
        let matched = match &node.value {
            Value::Null => return,
            Value::Map(_) => types.contains(&"object"),
            Value::List(_) => types.contains(&"array"),
            Value::Scalar { text, plain } => {
                return self.scalar(node, text, *plain, schema, &types, place);
            }
        };
        if !matched {
            return self.wrong_kind(node, &types, place);
        }
        self.fields(node, schema, place);
        for (index, item) in node.items().iter().enumerate() {
            let item_place = Place {
                path: format!("{}[{index}]", place.path),
                name: item.span.clone(),
            };
            if item.value == Value::Null {
                let message = format!("`{}` is empty", item_place.path);
                self.mistakes.push(Mistake::new(item.span.clone(), message));
            }
            self.value(item, &schema["items"], &item_place);
        }
    }

    fn fields(&mut self, node: &Node, schema: &Schema, place: &Place) {
        let Some(properties) = schema["properties"].as_object() else {
            for entry in node.entries() {
                let path = join(&place.path, &entry.key);
                let entry_place = Place {
                    path,
                    name: entry.key_span.clone(),
                };
                self.value(&entry.value, &schema["additionalProperties"], &entry_place);
            }
            return;
        };
        let required: Vec<&str> = schema["required"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Schema::as_str)
            .collect();
        let mut taken: Vec<&str> = Vec::new();
        for entry in node.entries() {
            let path = join(&place.path, &entry.key);
            let Some(property) = properties.get(&entry.key) else {
                if says_nothing(&entry.value) && instead_of(&without_indices(&path)).is_some() {
                    continue;
                }
                let known: Vec<&str> = properties
                    .keys()
                    .map(String::as_str)
                    .filter(|name| node.get(name).is_none() && !taken.contains(name))
                    .collect();
                taken.extend(self.unknown(&entry.key, &entry.key_span, &path, &known));
                continue;
            };
            if entry.value.value == Value::Null && required.contains(&entry.key.as_str()) {
                let mistake = Mistake::new(entry.key_span.clone(), format!("`{path}` is empty"));
                self.mistakes.push(mistake.help(about(&entry.key, property)));
            }
            self.value(
                &entry.value,
                property,
                &Place {
                    path,
                    name: entry.key_span.clone(),
                },
            );
        }
        for name in required {
            // A misspelt field was named already, with what was meant: it is not missing as well.
            if node.get(name).is_none() && !taken.contains(&name) {
                let path = join(&place.path, name);
                let mistake = Mistake::new(place.name.clone(), format!("`{path}` is missing"));
                self.mistakes.push(mistake.help(about(name, &properties[name])));
            }
        }
    }

    /// Reports an unknown field; returns the known one that it probably stands for.
    fn unknown<'k>(&mut self, key: &str, span: &Span, path: &str, known: &[&'k str]) -> Option<&'k str> {
        if let Some(instead) = instead_of(&without_indices(path)) {
            let message = format!("`{path}` is not supported by this version");
            self.mistakes
                .push(Mistake::new(span.clone(), message).help(instead));
            return None;
        }
        let mistake = Mistake::new(span.clone(), format!("`{path}` is not a field of a Clusterfile"));
        let meant = closest(key, known.iter().copied());
        let mut elsewhere = Vec::new();
        paths_of(self.root, key, "", &mut elsewhere);
        let mistake = match (meant, elsewhere.first()) {
            (Some(meant), _) => mistake.help(format!("did you mean `{meant}`?")),
            (None, Some(elsewhere)) => {
                mistake.help(format!("it belongs at `{elsewhere}`; check the indentation"))
            }
            (None, None) if known.is_empty() => mistake,
            (None, None) => mistake.help(format!("here go {}", one_of(known.iter().copied()))),
        };
        self.mistakes.push(mistake);
        meant
    }

    fn scalar(
        &mut self,
        node: &Node,
        text: &str,
        plain: bool,
        schema: &Schema,
        types: &[&str],
        place: &Place,
    ) {
        if let Some(words) = words(schema) {
            if !words.contains(&text) {
                let message = format!("`{}` cannot be {text:?}", place.path);
                let help = closest(text, words.iter().copied()).map_or_else(
                    || format!("it is {}", one_of(words)),
                    |meant| format!("did you mean `{meant}`?"),
                );
                self.mistakes
                    .push(Mistake::new(node.span.clone(), message).help(help));
            }
            return;
        }
        let matched = (types.contains(&"string") && node.kind() == "text")
            || (types.contains(&"boolean") && plain && matches!(text, "true" | "false"))
            || (types.contains(&"integer") && plain && text.parse::<i64>().is_ok());
        if !matched {
            return self.wrong_kind(node, types, place);
        }
        let out_of_range = text.parse::<i64>().is_ok_and(|number| {
            schema["minimum"].as_i64().is_some_and(|least| number < least)
                || schema["maximum"].as_i64().is_some_and(|most| number > most)
        });
        if types.contains(&"integer") && out_of_range {
            let message = format!("`{}` cannot be {text}", place.path);
            let range = format!(
                "it is a number from {} to {}",
                schema["minimum"], schema["maximum"]
            );
            self.mistakes
                .push(Mistake::new(node.span.clone(), message).help(range));
        }
    }

    fn wrong_kind(&mut self, node: &Node, types: &[&str], place: &Place) {
        let wanted = match types.first().copied() {
            Some("object") => "a mapping",
            Some("array") => "a list",
            Some("integer") => "a number",
            Some("boolean") => "true or false",
            _ => "text",
        };
        let found = node.kind();
        let name = if place.path.is_empty() {
            "a document".to_owned()
        } else {
            format!("`{}`", place.path)
        };
        let mistake = Mistake::new(
            node.span.clone(),
            format!("{name} has to be {wanted}, this is {found}"),
        );
        let text = node.text().unwrap_or_default();
        let mistake = match (wanted, found) {
            ("text", "a number" | "a truth value") => mistake.help(format!("write it in quotes: \"{text}\"")),
            ("a number", "text") if text.parse::<i64>().is_ok() => mistake.help("leave the quotes out"),
            ("a list", "text") => mistake.help(format!("write it as a list: [\"{text}\"]")),
            ("text", "a mapping") => pair(node, place).map_or(mistake.clone(), |pair| mistake.help(pair)),
            _ => mistake,
        };
        self.mistakes.push(mistake);
    }
}

/// Whether nothing is in it, as in what programs write of fields that are not set.
fn says_nothing(node: &Node) -> bool {
    match &node.value {
        Value::Null => true,
        Value::Scalar { text, .. } => text.is_empty(),
        Value::List(items) => items.is_empty(),
        Value::Map(entries) => entries.iter().all(|entry| says_nothing(&entry.value)),
    }
}

/// What was meant by `- NAME: value` where `- NAME=value` is wanted, or by `- KEY: EFFECT`; or by a mapping where a block
/// of text is wanted.
fn pair(node: &Node, place: &Place) -> Option<String> {
    if place.path == "spec.data" {
        return Some("write `data: |` and the text below it".into());
    }
    let [entry] = node.entries() else { return None };
    let taint = without_indices(&place.path).ends_with(".taints[]");
    let sign = if taint { ':' } else { '=' };
    Some(format!(
        "did you mean `{}{sign}{}`?",
        entry.key,
        entry.value.text().unwrap_or_default()
    ))
}

/// The words that a value may be, if it is one of some.
fn words(schema: &Schema) -> Option<Vec<&str>> {
    // Of a field that may be left out, the schema says: one of these, or nothing.
    let variants = schema["oneOf"]
        .as_array()
        .or_else(|| schema["anyOf"][0]["oneOf"].as_array())?;
    Some(
        variants
            .iter()
            .filter_map(|variant| variant["const"].as_str())
            .collect(),
    )
}

fn types(schema: &Schema) -> Vec<&str> {
    match &schema["type"] {
        Schema::String(one) => vec![one],
        Schema::Array(many) => many.iter().filter_map(Schema::as_str).collect(),
        _ => vec!["string"],
    }
}

fn join(path: &str, name: &str) -> String {
    let name = name.escape_debug();
    if path.is_empty() {
        name.to_string()
    } else {
        format!("{path}.{name}")
    }
}

fn without_indices(path: &str) -> String {
    let mut inside = false;
    let keep = |c: &char| {
        let was_inside = inside;
        inside = (*c == '[') || (inside && *c != ']');
        !was_inside || !inside
    };
    path.chars().filter(keep).collect()
}

/// Every path of the schema that ends in a field called `name`.
fn paths_of(schema: &Schema, name: &str, path: &str, found: &mut Vec<String>) {
    for (key, property) in schema["properties"].as_object().into_iter().flatten() {
        let below = join(path, key);
        if key == name {
            found.push(below.clone());
        }
        paths_of(property, name, &below, found);
        paths_of(&property["items"], name, &format!("{below}[]"), found);
    }
}

/// What a field is for, from its description.
fn about(name: &str, schema: &Schema) -> String {
    format!(
        "`{name}`: {}",
        lower_first(schema["description"].as_str().unwrap_or_default())
    )
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    match (chars.next(), chars.clone().next()) {
        (Some(first), Some(second)) if second.is_lowercase() || second == ' ' => {
            first.to_lowercase().chain(chars).collect()
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_only_what_is_empty_says_nothing() {
        for (text, nothing) in [
            ("a: { b: null, c: '', d: [], e: {} }", true),
            ("a:", true),
            ("a: { b: { c: 0 } }", false),
            ("a: [ '' ]", false),
        ] {
            let documents = crate::clusterfile::tree::parse(text).0;
            assert_eq!(says_nothing(documents[0].get("a").unwrap()), nothing, "{text}");
        }
    }

    #[test]
    fn indices_are_dropped_from_a_path() {
        assert_eq!(without_indices("spec.hosts[12].ips[0]"), "spec.hosts[].ips[]");
    }
}
