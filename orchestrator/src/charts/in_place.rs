//! Changes in place: `{{ $_ := set $x "a" 1 }}` changes `$x` in helm, where mappings are shared. Here values never change, so what
//! such an action means is written out, `{{ $x = … }}`; where others than `$x` would see the change, that is noted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use gotmpl::{Template, TemplateError, Value};
use regex::Regex;

use super::functions::{Answer, values_merged};

/// The function that actions are rewritten to.
const FUNCTION: &str = "changed_in_place";

/// An action that changes a variable, or a field of one, and whose result goes into another one.
static ACTION: LazyLock<Regex> = LazyLock::new(|| {
    let functions = "set|unset|merge|mustMerge|mergeOverwrite|mustMergeOverwrite";
    let pattern = format!(
        r"(?s)^(?P<open>-?\s*)(?P<var>\$\w+)\s*(?P<sign>:?=)\s*(?P<function>{functions})\s+(?P<target>\$\w+)(?P<path>(?:\.\w+)*)\s+(?P<rest>.*?)(?P<close>\s*-?)$"
    );
    Regex::new(&pattern).expect("the pattern is a constant")
});

/// Whether something was changed in place that others see, who here do not.
#[derive(Debug, Clone, Default)]
pub(super) struct Lost(Arc<AtomicBool>);

impl Lost {
    /// Whether something was since this was asked last.
    pub(super) fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }

    fn note_if(&self, lost: bool) {
        self.0.fetch_or(lost, Ordering::Relaxed);
    }
}

/// `text` with what changes variables written out.
pub(super) fn with_assignments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("{{") {
        let end = rest[start..].find("}}").map_or(rest.len(), |end| start + end);
        out.push_str(&rest[..start + 2]);
        let action = &rest[start + 2..end];
        match assignment(action) {
            Some(written_out) => out.push_str(&written_out),
            None => out.push_str(action),
        }
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

fn assignment(action: &str) -> Option<String> {
    let parts = ACTION.captures(action)?;
    let (target, rest) = (&parts["target"], &parts["rest"]);
    if has_pipe(rest) {
        return None;
    }
    let (open, close) = (&parts["open"], &parts["close"]);
    let path = parts["path"].trim_start_matches('.');
    let function = &parts["function"];
    let changed = format!("{open}{target} = {FUNCTION} {function:?} {path:?} {target} {rest}");
    let (var, sign) = (&parts["var"], &parts["sign"]);
    Some(if var == "$_" {
        format!("{changed}{close}")
    } else {
        format!(
            "{changed} }}}}{{{{ {var} {sign} {target}{}{close}",
            &parts["path"]
        )
    })
}

/// Whether a pipe follows, outside of texts and parentheses.
fn has_pipe(text: &str) -> bool {
    let (mut depth, mut quote, mut escaped) = (0_i32, None, false);
    for c in text.chars() {
        match (quote, c) {
            (Some('"'), '\\') if !escaped => {
                escaped = true;
                continue;
            }
            (Some(open), c) if c == open && !escaped => quote = None,
            (Some(_), _) => {}
            (None, '"' | '`') => quote = Some(c),
            (None, '(') => depth += 1,
            (None, ')') => depth -= 1,
            (None, '|') if depth == 0 => return true,
            _ => {}
        }
        escaped = false;
    }
    false
}

/// `template` with the functions that change mappings in helm.
pub(super) fn with_functions(template: Template, lost: &Lost) -> Template {
    let (of_set, of_unset, of_all) = (lost.clone(), lost.clone(), lost.clone());
    template
        .func("set", move |a| alone("set", a, &of_set))
        .func("unset", move |a| alone("unset", a, &of_unset))
        .func(FUNCTION, move |a| {
            let [function, path, target, rest @ ..] = a else {
                return wrong("a change takes a mapping");
            };
            let path = path.to_string();
            let names: Vec<&str> = path.split('.').filter(|name| !name.is_empty()).collect();
            // The variable itself and this call have it.
            of_all.note_if(is_shared(target, 2));
            change(target, &names, &function.to_string(), rest, &of_all)
        })
}

/// A function whose result counts. That it changes its argument is lost, where anybody else has that.
fn alone(function: &str, arguments: &[Value], lost: &Lost) -> Answer {
    let [target, rest @ ..] = arguments else {
        return wrong(&format!("{function} takes a mapping"));
    };
    lost.note_if(is_shared(target, 1));
    changed(function, target, rest)
}

/// The `target` with what lies in it at `path` changed.
fn change(target: &Value, path: &[&str], function: &str, rest: &[Value], lost: &Lost) -> Answer {
    let Some((first, path)) = path.split_first() else {
        return changed(function, target, rest);
    };
    let Value::Map(fields) = target else {
        return wrong(&format!("{function} takes a mapping"));
    };
    let Some(inner) = fields.get(*first) else {
        return wrong(&format!("{function} takes a mapping, and there is no {first}"));
    };
    lost.note_if(is_shared(inner, 1));
    let inner = change(inner, path, function, rest, lost)?;
    let mut fields = BTreeMap::clone(fields);
    fields.insert((*first).into(), inner);
    Ok(Value::Map(Arc::new(fields)))
}

fn changed(function: &str, target: &Value, rest: &[Value]) -> Answer {
    let Value::Map(fields) = target else {
        return wrong(&format!("{function} takes a mapping"));
    };
    let name = || -> Arc<str> { rest.first().map(ToString::to_string).unwrap_or_default().into() };
    let mut fields = BTreeMap::clone(fields);
    match function {
        "set" => {
            fields.insert(name(), rest.get(1).cloned().unwrap_or(Value::Nil));
        }
        "unset" => {
            fields.remove(&*name());
        }
        "merge" | "mustMerge" => return Ok(values_merged(rest.iter().rev().chain([target]))),
        _ => return Ok(values_merged(std::iter::once(target).chain(rest))),
    }
    Ok(Value::Map(Arc::new(fields)))
}

/// Whether more than `known` have this mapping.
fn is_shared(value: &Value, known: usize) -> bool {
    matches!(value, Value::Map(fields) if Arc::strong_count(fields) > known)
}

/// A copy that shares nothing with `value`.
pub(super) fn deep_copy(value: &Value) -> Value {
    match value {
        Value::Map(fields) => {
            let fields = fields
                .iter()
                .map(|(name, value)| (name.clone(), deep_copy(value)));
            Value::Map(Arc::new(fields.collect()))
        }
        Value::List(items) => Value::List(items.iter().map(deep_copy).collect()),
        value => value.clone(),
    }
}

fn wrong(message: &str) -> Answer {
    Err(TemplateError::Exec(message.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_a_variable_is_written_out() {
        for (text, written_out) in [
            (
                "a {{- $_ := set $x \"k|\" (list 1 | first) -}} b",
                "a {{- $x = changed_in_place \"set\" \"\" $x \"k|\" (list 1 | first) -}} b",
            ),
            (
                "{{ $y := merge $x.a.b (dict) }}",
                "{{ $x = changed_in_place \"merge\" \"a.b\" $x (dict) }}{{ $y := $x.a.b }}",
            ),
            (
                "{{ $_ = unset $x \"k\" }}",
                "{{ $x = changed_in_place \"unset\" \"\" $x \"k\" }}",
            ),
        ] {
            assert_eq!(with_assignments(text), written_out);
        }
        for text in [
            "{{ $_ := set .Values \"k\" 1 }}",
            "{{ $y := set $x \"k\" 1 | toYaml }}",
            "{{ $settings := setter $x }}",
            "{{ $y := merge (dict) $x }}",
            "$_ := set $x 1 {{",
        ] {
            assert_eq!(with_assignments(text), text);
        }
    }
}
