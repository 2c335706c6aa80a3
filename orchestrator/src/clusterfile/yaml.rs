//! This module owns [`Yaml`]: values of YAML documents as they are written, so that a file can be changed in one place
//! and keeps its meaning everywhere else, whichever version of YAML its reader knows: `0644`, `on` and `"on"` stay what
//! they are. Comments and layout are not kept.

mod text;

use serde_json::Value as Json;

use super::kubernetes;
use super::tree::{self, Bounds, Entry, Node, Value};

pub use text::to_text;

/// Bounds of a file of an image: definitions of resources are nested deep.
const BOUNDS: Bounds = Bounds {
    nodes: 200_000,
    depth: 128,
    documents: 1024,
};
/// The field whose mappings stand for fields beside it (YAML's merge key).
const MERGE_KEY: &str = "<<";

/// A value. Scalars stay text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Yaml {
    /// Nothing, `~` or `null`.
    Null,
    /// A scalar.
    Scalar(Scalar),
    /// A list.
    List(Vec<Self>),
    /// A mapping, in the order of the text.
    Map(Vec<(Scalar, Self)>),
}

/// A scalar, or the name of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scalar {
    /// Its text, escapes resolved.
    pub text: String,
    /// Written without quotes, so that it may be a number or a truth value.
    pub plain: bool,
}

impl Scalar {
    /// Text, whatever it looks like.
    pub fn quoted(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            plain: false,
        }
    }

    /// A word that needs no quotes.
    pub fn plain(word: impl Into<String>) -> Self {
        Self {
            text: word.into(),
            plain: true,
        }
    }
}

impl Yaml {
    /// The value of a node. Merge keys are resolved: what they stand for is put beside them, under what is there.
    #[must_use]
    pub fn of(node: &Node) -> Self {
        match &node.value {
            Value::Null => Self::Null,
            Value::Scalar { text, plain } => Self::Scalar(Scalar {
                text: text.clone(),
                plain: *plain,
            }),
            Value::List(items) => Self::List(items.iter().map(Self::of).collect()),
            Value::Map(entries) => Self::Map(fields(entries)),
        }
    }

    /// Reads the documents of `text` that are not empty.
    ///
    /// # Errors
    /// `LINE:COLUMN: what` of the first mistake.
    pub fn documents(text: &str) -> Result<Vec<Self>, String> {
        let (documents, mistakes) = tree::parse_within(text, BOUNDS);
        if let Some(mistake) = mistakes.first() {
            let before = &text[..text.floor_char_boundary(mistake.span.start)];
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
            return Err(format!("{line}:{column}: {}", mistake.message));
        }
        Ok(documents.iter().map(Self::of).collect())
    }

    /// As plain data, by YAML's core schema (YAML 1.2, section 10.3.2): unquoted words may be numbers or truths.
    #[must_use]
    pub fn to_json(&self) -> Json {
        match self {
            Self::Null => Json::Null,
            Self::Scalar(Scalar { text, plain: false }) => Json::String(text.clone()),
            Self::Scalar(Scalar { text, plain: true }) => kubernetes::scalar(text),
            Self::List(items) => Json::Array(items.iter().map(Self::to_json).collect()),
            Self::Map(fields) => {
                let pairs = fields
                    .iter()
                    .map(|(name, value)| (name.text.clone(), value.to_json()));
                Json::Object(pairs.collect())
            }
        }
    }

    /// The field `name` of a mapping.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Self> {
        let Self::Map(fields) = self else { return None };
        fields
            .iter()
            .find(|(key, _)| key.text == name)
            .map(|(_, value)| value)
    }

    /// The text of a scalar.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Scalar(scalar) => Some(&scalar.text),
            _ => None,
        }
    }

    /// The items of a list; none for anything else.
    #[must_use]
    pub fn items(&self) -> &[Self] {
        match self {
            Self::List(items) => items,
            _ => &[],
        }
    }

    /// The field `name`, which is nothing where there was none. What is no mapping becomes one.
    pub fn field_mut(&mut self, name: &str) -> &mut Self {
        if !matches!(self, Self::Map(_)) {
            *self = Self::Map(Vec::new());
        }
        let Self::Map(fields) = self else {
            unreachable!("it was made a mapping");
        };
        let index = fields.iter().position(|(key, _)| key.text == name);
        let index = index.unwrap_or_else(|| {
            fields.push((Scalar::plain(name), Self::Null));
            fields.len() - 1
        });
        &mut fields[index].1
    }

    /// Makes `value` the field `name` of a mapping.
    pub fn set(&mut self, name: &str, value: Self) {
        *self.field_mut(name) = value;
    }

    /// Takes the field `name` out of a mapping.
    pub fn remove(&mut self, name: &str) {
        if let Self::Map(fields) = self {
            fields.retain(|(key, _)| key.text != name);
        }
    }

    /// What it is, in words.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Scalar(_) => "a scalar",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }

    /// Puts `over` on top: mappings are merged, field by field; everything else, lists too, is replaced.
    pub fn merge(&mut self, over: &Self) {
        let (Self::Map(fields), Self::Map(over)) = (&mut *self, over) else {
            *self = over.clone();
            return;
        };
        for (name, value) in over {
            match fields.iter_mut().find(|(key, _)| key.text == name.text) {
                Some((_, there)) => there.merge(value),
                None => fields.push((name.clone(), value.clone())),
            }
        }
    }
}

fn fields(entries: &[Entry]) -> Vec<(Scalar, Yaml)> {
    let is_merge = |entry: &&Entry| entry.key_plain && entry.key == MERGE_KEY;
    let field = |entry: &Entry| {
        let name = Scalar {
            text: entry.key.clone(),
            plain: entry.key_plain,
        };
        (name, Yaml::of(&entry.value))
    };
    let mut fields: Vec<_> = entries
        .iter()
        .filter(|entry| !is_merge(entry))
        .map(field)
        .collect();
    for entry in entries.iter().filter(is_merge) {
        let maps = match &entry.value.value {
            Value::List(items) => items.as_slice(),
            _ => std::slice::from_ref(&entry.value),
        };
        // Of several mappings the first one that has a field counts.
        for (name, value) in maps.iter().flat_map(|map| self::fields(map.entries())) {
            if !fields.iter().any(|(there, _)| there.text == name.text) {
                fields.push((name, value));
            }
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Yaml {
        Yaml::documents(text).unwrap().remove(0)
    }

    #[test]
    fn mappings_are_merged_and_everything_else_is_replaced() {
        let mut file = one("a: { x: 1, y: 2 }\nlist: [1, 2]\nb: text\n");
        file.merge(&one("a: { y: 0, z: 3 }\nlist: [3]\nb: { c: d }\nnew: true\n"));
        let expected = one("a: { x: 1, y: 0, z: 3 }\nlist: [3]\nb: { c: d }\nnew: true\n");
        assert_eq!(file, expected);
        let again = file.clone();
        file.merge(&one("a: { y: 0 }\n"));
        assert_eq!(file, again);
    }

    #[test]
    fn merge_keys_stand_for_fields_beside_them() {
        let found = one(
            "base: &base { a: 1, b: 1 }\nmore: &more { b: 2, c: 2 }\nuse:\n  <<: [*base, *more]\n  a: 9\n",
        );
        assert_eq!(found.get("use"), Some(&one("a: 9\nb: 1\nc: 2\n")));
    }

    #[test]
    fn mistakes_have_their_place() {
        let error = Yaml::documents("a: 1\nb: [1\nc: {{ .Values }}\n").unwrap_err();
        assert!(error.starts_with("3:"), "{error}");
    }
}
