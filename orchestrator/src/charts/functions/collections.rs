//! Functions over lists and mappings. None of them changes its arguments; what does in helm is in `in_place.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::{Template, Value};

use super::super::in_place::deep_copy;
use super::values_merged;
use super::{Answer, error, string, text, to_json};

type Fields = BTreeMap<Arc<str>, Value>;

/// Longest text that a function makes, in bytes.
const MAX_TEXT_LEN: usize = 16 << 20;
/// Longest list that a function makes.
const MAX_ITEMS: usize = 100_000;

/// Adds them.
pub(super) fn add(template: Template) -> Template {
    let mut template = template;
    for name in ["list", "tuple"] {
        template = template.func(name, |a| Ok(Value::List(a.into())));
    }
    for name in ["append", "mustAppend", "push"] {
        template = template.func(name, |a| {
            let mut all = items(a.first());
            all.extend(a.get(1).cloned());
            list(all)
        });
    }
    for name in ["first", "mustFirst"] {
        template = template.func(name, |a| {
            Ok(items(a.first()).first().cloned().unwrap_or(Value::Nil))
        });
    }
    for name in ["uniq", "mustUniq"] {
        template = template.func(name, |a| {
            let mut all: Vec<Value> = Vec::new();
            for item in items(a.first()) {
                if all.iter().all(|known| to_json(known) != to_json(&item)) {
                    all.push(item);
                }
            }
            list(all)
        });
    }
    for name in ["merge", "mustMerge"] {
        template = template.func(name, |a| Ok(values_merged(a.iter().rev())));
    }
    for name in ["mergeOverwrite", "mustMergeOverwrite"] {
        template = template.func(name, |a| Ok(values_merged(a.iter())));
    }
    for name in ["deepCopy", "mustDeepCopy"] {
        template = template.func(name, |a| Ok(a.first().map_or(Value::Nil, deep_copy)));
    }
    template
        .func("last", |a| {
            Ok(items(a.first()).last().cloned().unwrap_or(Value::Nil))
        })
        .func("rest", |a| list(items(a.first()).into_iter().skip(1).collect()))
        .func("initial", |a| {
            let mut all = items(a.first());
            all.pop();
            list(all)
        })
        .func("prepend", |a| {
            let mut all: Vec<Value> = a.get(1).cloned().into_iter().collect();
            all.extend(items(a.first()));
            list(all)
        })
        .func("concat", |a| {
            list(a.iter().flat_map(|one| items(Some(one))).collect())
        })
        .func("reverse", |a| list(items(a.first()).into_iter().rev().collect()))
        .func("compact", |a| {
            list(items(a.first()).into_iter().filter(Value::is_truthy).collect())
        })
        .func("without", |a| {
            let gone: Vec<_> = a.iter().skip(1).map(to_json).collect();
            let kept = items(a.first())
                .into_iter()
                .filter(|one| !gone.contains(&to_json(one)));
            list(kept.collect())
        })
        .func("has", has)
        .func("mustHas", has)
        .func("join", |a| {
            let texts: Vec<String> = items(a.get(1)).iter().map(|one| text(Some(one))).collect();
            if texts.iter().map(String::len).fold(0_usize, usize::saturating_add) > MAX_TEXT_LEN {
                return error("join makes too long a text");
            }
            Ok(string(texts.join(&text(a.first()))))
        })
        .func("sortAlpha", |a| {
            let mut texts: Vec<String> = items(a.first()).iter().map(|one| text(Some(one))).collect();
            texts.sort();
            list(texts.into_iter().map(string).collect())
        })
        .func("toStrings", |a| {
            list(
                items(a.first())
                    .iter()
                    .map(|one| string(text(Some(one))))
                    .collect(),
            )
        })
        .func("splitn", |a| {
            let (what, at) = (text(a.get(2)), text(a.first()));
            let many = usize::try_from(a.get(1).and_then(Value::as_int).unwrap_or(1)).unwrap_or(1);
            let parts = what.splitn(many, at.as_str()).enumerate();
            let parts: Fields = parts
                .map(|(number, part)| (format!("_{number}").into(), string(part)))
                .collect();
            Ok(Value::Map(Arc::new(parts)))
        })
        .func("seq", |a| {
            let number = |at: usize| a.get(at).and_then(Value::as_int);
            let (first, last) = match a.len() {
                1 => (1, number(0).unwrap_or(0)),
                length => (number(0).unwrap_or(1), number(length - 1).unwrap_or(0)),
            };
            let many = usize::try_from(last.saturating_sub(first).saturating_add(1)).unwrap_or(0);
            let texts: Vec<String> = (first..)
                .take(many.min(MAX_ITEMS))
                .map(|number| number.to_string())
                .collect();
            Ok(string(texts.join(" ")))
        })
        .func("chunk", |a| {
            let many = usize::try_from(a.first().and_then(Value::as_int).unwrap_or(1))
                .unwrap_or(1)
                .max(1);
            let all = items(a.get(1));
            list(all.chunks(many).map(|some| Value::List(some.into())).collect())
        })
        .func("splitList", |a| {
            let what = text(a.get(1));
            list(what.split(&text(a.first())).map(string).collect())
        })
        .func("split", |a| {
            let what = text(a.get(1));
            let at = text(a.first());
            let parts = what.split(&at).enumerate();
            let parts: Fields = parts
                .map(|(number, part)| (format!("_{number}").into(), string(part)))
                .collect();
            Ok(Value::Map(Arc::new(parts)))
        })
        .func("dict", |a| {
            let pairs = a.chunks(2);
            let pairs = pairs.map(|pair| {
                let value = pair.get(1).cloned().unwrap_or_else(|| string(""));
                (Arc::from(text(pair.first())), value)
            });
            Ok(Value::Map(Arc::new(pairs.collect())))
        })
        .func("get", |a| {
            let name = text(a.get(1));
            Ok(fields(a.first())
                .get(name.as_str())
                .cloned()
                .unwrap_or_else(|| string("")))
        })
        .func("hasKey", |a| {
            Ok(Value::Bool(
                fields(a.first()).contains_key(text(a.get(1)).as_str()),
            ))
        })
        .func("keys", |a| {
            let names = a.iter().flat_map(|one| fields(Some(one)).into_keys());
            list(names.map(Value::String).collect())
        })
        .func("values", |a| list(fields(a.first()).into_values().collect()))
        .func("pluck", |a| {
            let name = text(a.first());
            let found = a
                .iter()
                .skip(1)
                .filter_map(|one| fields(Some(one)).get(name.as_str()).cloned());
            list(found.collect())
        })
        .func("pick", |a| Ok(chosen(a, true)))
        .func("omit", |a| Ok(chosen(a, false)))
        .func("dig", |a| {
            let [names @ .., otherwise, from] = a else {
                return error("dig takes names, a default and a mapping");
            };
            let found = names.iter().try_fold(from.clone(), |at, name| {
                fields(Some(&at)).get(text(Some(name)).as_str()).cloned()
            });
            Ok(found.unwrap_or_else(|| otherwise.clone()))
        })
        .func("any", |a| Ok(Value::Bool(a.iter().any(Value::is_truthy))))
        .func("all", |a| Ok(Value::Bool(a.iter().all(Value::is_truthy))))
}

fn has(arguments: &[Value]) -> Answer {
    let wanted = arguments.first().map(to_json);
    let items = items(arguments.get(1));
    Ok(Value::Bool(items.iter().any(|one| Some(to_json(one)) == wanted)))
}

fn items(value: Option<&Value>) -> Vec<Value> {
    match value {
        Some(Value::List(items)) => items.to_vec(),
        _ => Vec::new(),
    }
}

fn fields(value: Option<&Value>) -> Fields {
    match value {
        Some(Value::Map(fields)) => Fields::clone(fields),
        _ => Fields::new(),
    }
}

fn list(items: Vec<Value>) -> Answer {
    if items.len() > MAX_ITEMS {
        return error(format!("a list of more than {MAX_ITEMS} items"));
    }
    Ok(Value::List(items.into()))
}

fn chosen(arguments: &[Value], named: bool) -> Value {
    let names: Vec<String> = arguments.iter().skip(1).map(|one| text(Some(one))).collect();
    let mut all = fields(arguments.first());
    all.retain(|name, _| names.iter().any(|one| **one == **name) == named);
    Value::Map(Arc::new(all))
}
