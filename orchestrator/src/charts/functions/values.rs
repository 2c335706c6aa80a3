//! Functions over values of every kind: defaults, kinds, and their forms as text.

use gotmpl::{Template, Value};
use serde_json::Value as Json;

use super::{from_json, map, string, text, to_json};
use crate::clusterfile::yaml::{Scalar, Yaml, to_text};

/// Functions that give chance or keys, which no name of an image depends on: each gives this text.
const CHANCE: [&str; 10] = [
    "randAlphaNum",
    "randAlpha",
    "randNumeric",
    "randAscii",
    "uuidv4",
    "derivePassword",
    "htpasswd",
    "bcrypt",
    "encryptAES",
    "randBytes",
];

/// Functions that no name of an image depends on either: each gives an empty text. `fail` is one of them: whoever installs the
/// chart gives the values that it asks for.
const NOTHING: [&str; 17] = [
    "genPrivateKey",
    "now",
    "date",
    "htmlDate",
    "dateInZone",
    "dateModify",
    "date_modify",
    "toDate",
    "unixEpoch",
    "duration",
    "ago",
    "env",
    "expandenv",
    "fail",
    "urlParse",
    "urlJoin",
    "getHostByName",
];

/// Adds them.
pub(super) fn add(template: Template) -> Template {
    let mut template = template;
    for name in CHANCE {
        template = template.func(name, |_| Ok(string("chance")));
    }
    for name in [
        "genCA",
        "genSelfSignedCert",
        "genSignedCert",
        "genCAWithKey",
        "genSelfSignedCertWithKey",
    ] {
        template = template.func(name, |_| Ok(map([("Cert", string("")), ("Key", string(""))])));
    }
    for name in NOTHING {
        template = template.func(name, |_| Ok(string("")));
    }
    template
        .func("lookup", |_| Ok(map([])))
        .func("default", |a| {
            let value = a.get(1).unwrap_or(&Value::Nil);
            Ok(if value.is_truthy() { value.clone() } else { a.first().cloned().unwrap_or(Value::Nil) })
        })
        .func("empty", |a| Ok(Value::Bool(!a.first().is_some_and(Value::is_truthy))))
        .func("coalesce", |a| {
            Ok(a.iter().find(|one| one.is_truthy()).cloned().unwrap_or(Value::Nil))
        })
        .func("ternary", |a| {
            let is = a.get(2).is_some_and(Value::is_truthy);
            Ok(a.get(usize::from(!is)).cloned().unwrap_or(Value::Nil))
        })
        // Without the values that it asks for, nobody would install the chart; with them, everything else is as it is.
        .func("required", |a| Ok(a.get(1).cloned().unwrap_or(Value::Nil)))
        .func("toString", |a| Ok(string(text(a.first()))))
        .func("kindOf", |a| Ok(string(kind(a.first()))))
        .func("typeOf", |a| Ok(string(kind(a.first()))))
        .func("kindIs", is_kind)
        .func("typeIs", is_kind)
        .func("typeIsLike", is_kind)
        .func("deepEqual", |a| {
            Ok(Value::Bool(a.first().map(to_json) == a.get(1).map(to_json)))
        })
        .func("toYaml", to_yaml)
        .func("mustToYaml", to_yaml)
        .func("toYamlPretty", to_yaml)
        .func("fromYaml", |a| {
            let documents = Yaml::documents(&text(a.first())).unwrap_or_default();
            Ok(documents.first().map_or_else(|| map([]), |document| from_json(&document.to_json())))
        })
        .func("fromYamlArray", |a| {
            let documents = Yaml::documents(&text(a.first())).unwrap_or_default();
            Ok(documents.first().map_or_else(|| map([]), |document| from_json(&document.to_json())))
        })
        .func("toJson", |a| Ok(string(a.first().map_or(Json::Null, to_json).to_string())))
        .func("mustToJson", |a| Ok(string(a.first().map_or(Json::Null, to_json).to_string())))
        .func("toRawJson", |a| Ok(string(a.first().map_or(Json::Null, to_json).to_string())))
        .func("toPrettyJson", |a| Ok(string(a.first().map_or(Json::Null, to_json).to_string())))
        .func("fromJsonArray", |a| {
            let value: Json = serde_json::from_str(&text(a.first())).unwrap_or_default();
            Ok(from_json(&value))
        })
        .func("fromJson", |a| {
            let value: Json = serde_json::from_str(&text(a.first())).unwrap_or_default();
            Ok(from_json(&value))
        })
        .func("toToml", |_| Ok(string("")))
}

fn to_yaml(arguments: &[Value]) -> super::Answer {
    let yaml = arguments
        .first()
        .map_or(Yaml::Null, |value| yaml(&to_json(value)));
    Ok(string(to_text(&[yaml]).trim_end()))
}

/// Numbers of values are floats to helm, and whole numbers here.
fn is_kind(arguments: &[Value]) -> super::Answer {
    let wanted = text(arguments.first());
    let kind = kind(arguments.get(1));
    let is_number = |name: &str| matches!(name, "int" | "int64" | "float64");
    Ok(Value::Bool(
        wanted == kind || (is_number(&wanted) && is_number(kind)),
    ))
}

/// What Go calls the kind of a value.
fn kind(value: Option<&Value>) -> &'static str {
    match value {
        Some(Value::Bool(_)) => "bool",
        Some(Value::Int(_) | Value::Uint(_)) => "int64",
        Some(Value::Float(_)) => "float64",
        Some(Value::String(_)) => "string",
        Some(Value::List(_)) => "slice",
        Some(Value::Map(_)) => "map",
        Some(Value::Function(_)) => "func",
        _ => "invalid",
    }
}

fn yaml(value: &Json) -> Yaml {
    match value {
        Json::Null => Yaml::Null,
        Json::Bool(value) => Yaml::Scalar(Scalar::plain(value.to_string())),
        Json::Number(number) => Yaml::Scalar(Scalar::plain(number.to_string())),
        Json::String(text) => Yaml::Scalar(scalar(text)),
        Json::Array(items) => Yaml::List(items.iter().map(yaml).collect()),
        Json::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| (scalar(name), yaml(value)));
            Yaml::Map(fields.collect())
        }
    }
}

/// Words that are texts in every version of YAML need no quotes.
fn scalar(text: &str) -> Scalar {
    let is_word = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b));
    let lower = text.to_ascii_lowercase();
    let means_more = matches!(
        &*lower,
        "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "y" | "n"
    );
    if is_word && !means_more {
        Scalar::plain(text)
    } else {
        Scalar::quoted(text)
    }
}
