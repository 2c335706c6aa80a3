//! This module owns [`render_document`]: a template over a whole document, as `inspect --format` has it.

use std::sync::Arc;

use gotmpl::{MissingKey, Template, TemplateError as GoError, Value};

use crate::TemplateError;
use crate::functions::with_functions;
use crate::render::{execute, parse_with};

/// `text` with the fields of `document` in the places that name them. A field that is not there is an error; `index`
/// gives an empty text for it. Besides the functions that templates of images have there are those of docker's formats:
/// `json`, `join`, `split`, `lower`, `upper`.
///
/// # Errors
/// Where the syntax is wrong; an unknown function or field; a result above [`MAX_RENDERED_LEN`](crate::MAX_RENDERED_LEN).
pub fn render_document(text: &str, document: &serde_json::Value) -> Result<String, TemplateError> {
    let template = with_formats(with_functions(Template::new(""))).missing_key(MissingKey::Error);
    execute(&parse_with(text, template)?, &from_json(document))
}

fn with_formats(template: Template) -> Template {
    let string = |text: String| Ok(Value::String(text.into()));
    template
        .func("json", move |arguments| match arguments {
            [value] => string(to_json(value).to_string()),
            _ => wrong("json takes one value"),
        })
        .func("join", move |arguments| match arguments {
            [Value::List(list), Value::String(between)] => {
                let texts: Vec<String> = list.iter().map(ToString::to_string).collect();
                string(texts.join(between))
            }
            _ => wrong("join takes a list and the text between its values"),
        })
        .func("split", |arguments| match arguments {
            [Value::String(text), Value::String(at)] => {
                let parts = text.split(&**at).map(|part| Value::String(part.into()));
                Ok(Value::List(parts.collect()))
            }
            _ => wrong("split takes a text and the text to split it at"),
        })
        .func("lower", move |arguments| match arguments {
            [Value::String(text)] => string(text.to_lowercase()),
            _ => wrong("lower takes one text"),
        })
        .func("upper", move |arguments| match arguments {
            [Value::String(text)] => string(text.to_uppercase()),
            _ => wrong("upper takes one text"),
        })
        // As Go has it for maps of texts, which labels are: what is not there is an empty text.
        .func("index", |arguments| {
            let Some((value, keys)) = arguments.split_first() else {
                return wrong("index takes a value and keys");
            };
            let found = keys.iter().try_fold(value.clone(), |value, key| value.index(key))?;
            Ok(match found {
                Value::Nil => Value::String("".into()),
                found => found,
            })
        })
}

fn wrong(message: &str) -> Result<Value, GoError> {
    Err(GoError::Exec(message.into()))
}

/// Plain data as values of templates.
#[must_use]
pub fn from_json(value: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match value {
        Json::Null => Value::Nil,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Value::Int(number),
            (None, Some(number)) => Value::Uint(number),
            (None, None) => Value::Float(number.as_f64().unwrap_or_default()),
        },
        Json::String(text) => Value::String(text.as_str().into()),
        Json::Array(list) => Value::List(list.iter().map(from_json).collect()),
        Json::Object(map) => {
            let fields = map
                .iter()
                .map(|(name, value)| (Arc::from(name.as_str()), from_json(value)));
            Value::Map(Arc::new(fields.collect()))
        }
    }
}

/// Values of templates as plain data; functions are nothing there.
#[must_use]
pub fn to_json(value: &Value) -> serde_json::Value {
    match value {
        Value::Bool(value) => (*value).into(),
        Value::Int(number) => (*number).into(),
        Value::Uint(number) => (*number).into(),
        Value::Float(number) => (*number).into(),
        Value::String(text) => (&**text).into(),
        Value::List(list) => list.iter().map(to_json).collect(),
        Value::Map(map) => map
            .iter()
            .map(|(name, value)| (name.to_string(), to_json(value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        _ => serde_json::Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_usual_formats_work() {
        let document = json!({
            "Digest": "sha256:12", "Size": 7, "RepoTags": ["a:1", "a:2"],
            "Config": { "Labels": { "io.x/y": "z" }, "Env": [] }, "Created": null,
        });
        for (text, rendered) in [
            ("{{.Digest}} {{.Size}}", "sha256:12 7"),
            ("{{range .RepoTags}}{{.}};{{end}}", "a:1;a:2;"),
            ("{{index .Config.Labels \"io.x/y\"}}", "z"),
            ("{{index .Config.Labels \"none\"}}", ""),
            ("{{index .RepoTags 1}}", "a:2"),
            ("{{json .Config}}", r#"{"Env":[],"Labels":{"io.x/y":"z"}}"#),
            ("{{json .Created}}{{len .RepoTags}}", "null2"),
            ("{{join .RepoTags \", \"}}", "a:1, a:2"),
            ("{{upper (index (split .Digest \":\") 0)}}", "SHA256"),
            ("{{if .Config.Env}}yes{{else}}no{{end}}", "no"),
        ] {
            assert_eq!(render_document(text, &document).unwrap(), rendered, "{text}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        let document = json!({ "Digest": "sha256:12", "List": ["a"] });
        for (text, said) in [
            ("{{.Digest", "1:1: this {{ has no }}"),
            ("{{.Digset}}", "Digset"),
            ("{{join .Digest}}", "join takes a list"),
            ("{{index .List 1}}", "1"),
            ("{{nosuch .Digest}}", "nosuch"),
        ] {
            let error = render_document(text, &document).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
        let error = render_document("{{range .List}}{{end}}{{end}}", &document).unwrap_err();
        assert!(error.place.is_some(), "{error}");
    }
}
