//! `spec.process` of a Config: what its data goes through before it comes to the file.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::clusterfile::mistake::Mistake;
use crate::clusterfile::spelling::{closest, one_of};
use crate::clusterfile::tree::Node;
use crate::clusterfile::yaml::{Scalar, Yaml};

const WORDS: [&str; 4] = ["value", "toJson", "toBase64", "toSecret"];

/// Data that went through it all.
pub(super) struct Processed {
    pub(super) data: Data,
    /// It goes into a Secret.
    pub(super) secret: bool,
}

/// Data on its way.
pub(super) enum Data {
    /// As one text.
    Text(String),
    /// Field by field.
    Fields(Vec<(Scalar, Yaml)>),
}

impl Data {
    /// The fields of what has to be one mapping.
    pub(super) fn fields(self, data: &Node, mistakes: &mut Vec<Mistake>) -> Option<Vec<(Scalar, Yaml)>> {
        match self {
            Self::Fields(fields) => Some(fields),
            Self::Text(text) => fields_of(&text, data, mistakes),
        }
    }
}

/// Sends `data` through what `process` names.
pub(super) fn process(
    process: &Node,
    data: &Node,
    mistakes: &mut Vec<Mistake>,
    notes: &mut Vec<String>,
) -> Option<Processed> {
    let words: Vec<&str> = process.text()?.split('|').map(str::trim).collect();
    let wrong = |message: String| Mistake::new(process.span.clone(), message);
    let before = mistakes.len();
    for word in words.iter().filter(|word| !WORDS.contains(word)) {
        let help = closest(word, WORDS).map_or_else(
            || format!("it is made of {}, with '|' between them", one_of(WORDS)),
            |meant| format!("did you mean `{meant}`?"),
        );
        mistakes.push(wrong(format!("`spec.process` cannot be {word:?}")).help(help));
    }
    if let Some(at) = words.iter().position(|word| *word == "toSecret")
        && at + 1 < words.len()
    {
        mistakes.push(wrong("`toSecret` is not the last in `spec.process`".into()).help("put it at the end"));
    }
    if mistakes.len() > before {
        return None;
    }
    let mut now = Data::Text(data.text()?.to_owned());
    for word in &words {
        now = match (*word, now) {
            ("value", Data::Text(text)) => Data::Fields(fields_of(&text, data, mistakes)?),
            ("toJson", Data::Text(text)) => Data::Text(json_of(&text, data, mistakes)?),
            ("toJson", Data::Fields(fields)) => each(fields, |_, value| Some(json(value)))?,
            ("toBase64", Data::Text(text)) => Data::Text(BASE64_STANDARD.encode(text)),
            ("toBase64", Data::Fields(fields)) => {
                each(fields, |name, value| encoded(name, value, data, mistakes))?
            }
            ("toSecret", now) => {
                let fields = now.fields(data, mistakes)?;
                if words.contains(&"toBase64") {
                    notes.push(
                        "toSecret encodes by itself: after toBase64, pods find base64 text in the Secret"
                            .into(),
                    );
                }
                each(fields, |name, value| encoded(name, value, data, mistakes))?
            }
            (_, now) => now,
        };
    }
    Some(Processed {
        data: now,
        secret: words.contains(&"toSecret"),
    })
}

/// Every field with text that is made of its value; none when one could not be made.
fn each(fields: Vec<(Scalar, Yaml)>, mut text: impl FnMut(&str, &Yaml) -> Option<String>) -> Option<Data> {
    let made = fields.into_iter().map(|(name, value)| {
        let text = text(&name.text, &value)?;
        Some((name, Yaml::Scalar(Scalar::quoted(text))))
    });
    // All of them, so that every mistake is found in one run.
    let made: Vec<Option<_>> = made.collect();
    made.into_iter().collect::<Option<Vec<_>>>().map(Data::Fields)
}

fn encoded(name: &str, value: &Yaml, data: &Node, mistakes: &mut Vec<Mistake>) -> Option<String> {
    match value {
        Yaml::Null => Some(String::new()),
        Yaml::Scalar(scalar) => Some(BASE64_STANDARD.encode(&scalar.text)),
        Yaml::List(_) | Yaml::Map(_) => {
            let message = format!(
                "`{name}` of `data` is {}, and only text can be encoded",
                value.kind()
            );
            mistakes.push(
                Mistake::new(data.span.clone(), message)
                    .help("put `value|toJson` first: `process: value|toJson|…`"),
            );
            None
        }
    }
}

/// JSON with its names sorted.
fn json(value: &Yaml) -> String {
    value.to_json().to_string()
}

fn json_of(text: &str, data: &Node, mistakes: &mut Vec<Mistake>) -> Option<String> {
    match Yaml::documents(text) {
        Ok(documents) => match documents.as_slice() {
            [] => Some(json(&Yaml::Null)),
            [one] => Some(json(one)),
            more => {
                mistakes.push(several(more.len(), data));
                None
            }
        },
        Err(place) => {
            mistakes.push(no_yaml(&place, data));
            None
        }
    }
}

fn fields_of(text: &str, data: &Node, mistakes: &mut Vec<Mistake>) -> Option<Vec<(Scalar, Yaml)>> {
    let mistake = match Yaml::documents(text).map(|mut documents| (documents.len(), documents.pop())) {
        Ok((1, Some(Yaml::Map(fields)))) => return Some(fields),
        Ok((_, None)) => Mistake::new(data.span.clone(), "`data` has no fields"),
        Ok((1, Some(other))) => {
            let message = format!("`data` has to be a mapping here, this is {}", other.kind());
            Mistake::new(data.span.clone(), message).help("write `NAME: VALUE` in it, as in the file")
        }
        Ok((count, _)) => several(count, data),
        Err(place) => no_yaml(&place, data),
    };
    mistakes.push(mistake);
    None
}

fn several(count: usize, data: &Node) -> Mistake {
    let message = format!("`data` has {count} documents");
    Mistake::new(data.span.clone(), message).help("write one document of kind Config for each")
}

/// `place` counts the lines of the data.
fn no_yaml(place: &str, data: &Node) -> Mistake {
    Mistake::new(data.span.clone(), format!("`data` at {place}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clusterfile::tree;
    use crate::clusterfile::yaml::to_text;

    fn processed(pipe: &str, text: &str) -> Result<String, String> {
        let (documents, _) = tree::parse(&format!("process: '{pipe}'\ndata: x\n"));
        let node = |name| documents[0].get(name).unwrap();
        let mut data = node("data").clone();
        data.value = tree::Value::Scalar {
            text: text.into(),
            plain: false,
        };
        let mut mistakes = Vec::new();
        match process(node("process"), &data, &mut mistakes, &mut Vec::new()) {
            Some(Processed { data, .. }) => Ok(match data {
                Data::Text(text) => text,
                Data::Fields(fields) => to_text(&[Yaml::Map(fields)]),
            }),
            None => Err(mistakes.remove(0).message),
        }
    }

    #[test]
    fn data_goes_through_the_pipe_from_left_to_right() {
        let text = "config: { username: root, passwd: xxx }\n";
        let json = "{\"passwd\":\"xxx\",\"username\":\"root\"}";
        let base64 = BASE64_STANDARD.encode(json);
        for (pipe, expected) in [
            ("value", "config:\n  username: root\n  passwd: xxx\n".to_owned()),
            ("toJson", format!("{{\"config\":{json}}}")),
            ("toBase64", BASE64_STANDARD.encode(text)),
            ("value|toJson", format!("config: {json:?}\n")),
            ("value | toJson | toBase64", format!("config: \"{base64}\"\n")),
            ("value|toJson|toSecret", format!("config: \"{base64}\"\n")),
            (
                "value|toJson|toBase64|toSecret",
                format!("config: \"{}\"\n", BASE64_STANDARD.encode(&base64)),
            ),
        ] {
            assert_eq!(processed(pipe, text), Ok(expected), "{pipe}");
        }
        assert_eq!(
            processed("toSecret", "n: 1\nt: on\n"),
            Ok("n: \"MQ==\"\nt: \"b24=\"\n".into())
        );
    }

    #[test]
    fn what_cannot_go_through_is_named() {
        for (pipe, text, said) in [
            ("value|tojson", "a: 1", "cannot be \"tojson\""),
            ("", "a: 1", "cannot be \"\""),
            ("toSecret|toJson", "a: 1", "not the last"),
            ("value|toBase64", "a: { b: 1 }", "`a` of `data` is a mapping"),
            ("toSecret", "- a", "has to be a mapping"),
            ("toJson", "a: 1\n---\nb: 2\n", "2 documents"),
            ("toSecret", "a: [", "1:"),
        ] {
            let error = processed(pipe, text).unwrap_err();
            assert!(error.contains(said), "{pipe} {error}");
        }
    }
}
