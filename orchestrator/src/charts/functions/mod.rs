//! The functions that charts' templates have: those of the sprig library that charts use, and helm's own.

mod collections;
mod numbers;
mod texts;
mod values;

use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) use gantry_template::from_json;
use gantry_template::to_json;
use gotmpl::{Template, TemplateError, Value};

/// What a function gives, or why it cannot.
pub(super) type Answer = Result<Value, TemplateError>;

/// `template` with all of them but `include` and `tpl`, which know the other templates.
pub(super) fn with_functions(template: Template) -> Template {
    collections::add(texts::add(numbers::add(values::add(template))))
}

/// A text.
pub(super) fn string(text: impl Into<Arc<str>>) -> Value {
    Value::String(text.into())
}

/// A function as a value.
pub(super) fn function(f: impl Fn(&[Value]) -> Answer + Send + Sync + 'static) -> Value {
    Value::Function(Arc::new(f))
}

/// A mapping.
pub(super) fn map<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let fields: BTreeMap<Arc<str>, Value> = fields
        .into_iter()
        .map(|(name, value)| (name.into(), value))
        .collect();
    Value::Map(Arc::new(fields))
}

/// The text of a value, as Go prints it; of nothing, none.
fn text(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Nil) => String::new(),
        Some(value) => value.to_string(),
    }
}

fn error(message: impl Into<String>) -> Answer {
    Err(TemplateError::Exec(message.into()))
}

/// Mappings put over each other, the last on top.
pub(super) fn values_merged<'v>(values: impl Iterator<Item = &'v Value>) -> Value {
    values.fold(map([]), |merged, over| put_over(&merged, over))
}

fn put_over(value: &Value, over: &Value) -> Value {
    let (Value::Map(fields), Value::Map(over)) = (value, over) else {
        return over.clone();
    };
    let mut fields = BTreeMap::clone(fields);
    for (name, over) in over.iter() {
        let merged = fields
            .get(name)
            .map_or_else(|| over.clone(), |value| put_over(value, over));
        fields.insert(name.clone(), merged);
    }
    Value::Map(Arc::new(fields))
}
