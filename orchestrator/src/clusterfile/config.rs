//! This module owns [`Config`]: what a document of kind Config makes of one file of the rootfs.

use super::yaml::{Yaml, to_text};

/// What a document makes of one file, on every host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The file, below the rootfs.
    pub path: String,
    /// What becomes of it.
    pub change: ConfigChange,
}

/// What becomes of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigChange {
    /// This text.
    Overwrite(String),
    /// What it is, with this mapping over every document.
    Merge(Yaml),
    /// What it is, with this mapping over the Secret that it holds.
    Secret(Yaml),
}

impl ConfigChange {
    /// What becomes of a file with the text `file`; none is no file.
    ///
    /// # Errors
    /// What is wrong with the file, in words that follow its path.
    pub fn applied(&self, file: Option<&str>) -> Result<String, String> {
        let over = match self {
            Self::Overwrite(text) => return Ok(text.clone()),
            Self::Merge(over) | Self::Secret(over) => over,
        };
        let file = file.ok_or("is not in the image, so nothing can be merged into it")?;
        let mut documents = Yaml::documents(file).map_err(|place| format!(":{place}"))?;
        if documents.is_empty() {
            documents.push(Yaml::Map(Vec::new()));
        }
        let number_of = |index: usize| match documents.len() {
            1 => String::new(),
            _ => format!(" in document {}", index + 1),
        };
        for (index, document) in documents.iter().enumerate() {
            let number = number_of(index);
            if !matches!(document, Yaml::Map(_)) {
                let kind = document.kind();
                return Err(format!("has {kind}{number}, and only mappings can be merged"));
            }
            let is_secret = document.get("kind").and_then(Yaml::text) == Some("Secret");
            if matches!(self, Self::Secret(_)) && !is_secret {
                return Err(format!(
                    "has no `kind: Secret`{number}, and toSecret is for Secrets"
                ));
            }
        }
        for document in &mut documents {
            document.merge(over);
        }
        Ok(to_text(&documents))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merge(over: &str) -> ConfigChange {
        ConfigChange::Merge(Yaml::documents(over).unwrap().remove(0))
    }

    #[test]
    fn data_is_merged_into_every_document_of_the_file() {
        let file = "kind: ConfigMap\ndata:\n  key1: a\n---\n# two\nkind: ConfigMap\ndata: # none\n";
        assert_eq!(
            merge("data: { more: b }\nmetadata: { namespace: test }\n").applied(Some(file)),
            Ok(
                "kind: ConfigMap\ndata:\n  key1: a\n  more: b\nmetadata:\n  namespace: test\n---\n\
                kind: ConfigMap\ndata:\n  more: b\nmetadata:\n  namespace: test\n"
                    .to_owned()
            )
        );
        assert_eq!(merge("a: 1").applied(Some("# empty\n")), Ok("a: 1\n".to_owned()));
    }

    #[test]
    fn what_cannot_be_merged_is_named() {
        let said = |change: ConfigChange, file| change.applied(file).unwrap_err();
        assert!(said(merge("a: 1"), None).contains("not in the image"));
        assert!(said(merge("a: 1"), Some("a: 1\n---\n- b\n")).contains("a list in document 2"));
        assert!(said(merge("a: 1"), Some("a: [\n")).starts_with(":"));
        let secret = ConfigChange::Secret(Yaml::documents("data: { a: YQ== }").unwrap().remove(0));
        assert!(said(secret.clone(), Some("kind: ConfigMap\n")).contains("kind: Secret"));
        assert_eq!(
            secret.applied(Some("kind: Secret\ndata:\n  b: Yg==\n")),
            Ok("kind: Secret\ndata:\n  b: Yg==\n  a: YQ==\n".to_owned())
        );
    }
}
