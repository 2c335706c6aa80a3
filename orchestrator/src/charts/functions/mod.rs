//! The functions that charts' templates have: those of the sprig library that charts use, and helm's own.

mod collections;
mod numbers;
mod texts;
mod values;

use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::{Template, TemplateError, Value};
use serde_json::Value as Json;

/// What a function gives, or why it cannot.
type Answer = Result<Value, TemplateError>;

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

/// Plain data as values of templates.
pub(super) fn from_json(value: &Json) -> Value {
    match value {
        Json::Null => Value::Nil,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => Value::Int(number),
            (None, number) => Value::Float(number.unwrap_or_default()),
        },
        Json::String(text) => string(text.as_str()),
        Json::Array(items) => Value::List(items.iter().map(from_json).collect()),
        Json::Object(fields) => {
            let fields = fields
                .iter()
                .map(|(name, value)| (Arc::from(name.as_str()), from_json(value)));
            Value::Map(Arc::new(fields.collect()))
        }
    }
}

/// Values of templates as plain data.
fn to_json(value: &Value) -> Json {
    match value {
        Value::Bool(value) => (*value).into(),
        Value::Int(number) => (*number).into(),
        Value::Uint(number) => (*number).into(),
        Value::Float(number) => (*number).into(),
        Value::String(text) => (&**text).into(),
        Value::List(items) => items.iter().map(to_json).collect(),
        Value::Map(fields) => {
            let fields = fields
                .iter()
                .map(|(name, value)| (name.to_string(), to_json(value)));
            Json::Object(fields.collect())
        }
        _ => Json::Null,
    }
}

/// Mappings put over each other, the last on top.
fn values_merged<'v>(values: impl Iterator<Item = &'v Value>) -> Value {
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
