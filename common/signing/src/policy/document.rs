//! This module owns reading a policy file. What is not understood is refused: it was written to keep images out.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{
    DEFAULT_POLICY_PATH, Identity, MAX_POLICY_LEN, Policy, PolicyError, Requirement, Scope, SignedBy,
};
use crate::{KeyError, MAX_KEY_FILE_LEN, VerificationKey};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    default: Requirements,
    #[serde(default)]
    transports: Transports,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Transports {
    /// Names of images, wherever an image comes from.
    #[serde(default)]
    docker: Scopes,
}

#[derive(Default)]
struct Scopes(BTreeMap<Scope, Requirements>);

#[derive(Clone, Deserialize)]
#[serde(try_from = "Vec<RequirementDocument>")]
struct Requirements(Vec<RequirementDocument>);

#[derive(Clone, Deserialize)]
#[serde(try_from = "RequirementFields")]
enum RequirementDocument {
    AcceptAnything,
    Reject,
    Signed { key: Key, identity: Identity },
}

/// Where a key is.
#[derive(Clone)]
enum Key {
    Path(String),
    Given(VerificationKey),
}

/// Every field that a requirement may have. Which of them belong together is told once all are known.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RequirementFields {
    #[serde(rename = "type")]
    kind: String,
    key_path: Option<String>,
    key_data: Option<String>,
    signed_identity: Option<IdentityFields>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct IdentityFields {
    #[serde(rename = "type")]
    kind: String,
    docker_repository: Option<String>,
    prefix: Option<String>,
    signed_prefix: Option<String>,
}

const KINDS: [&str; 3] = ["insecureAcceptAnything", "reject", "sigstoreSigned"];
const IDENTITIES: [&str; 3] = ["matchRepository", "exactRepository", "remapIdentity"];

/// Whether there is nothing at `path`, not even a link that leads nowhere.
fn is_absent(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

impl Policy {
    /// Reads the policy file at `path` and the keys that it names. Where [`DEFAULT_POLICY_PATH`] is no file, everything is
    /// accepted; one that somebody chose has to be there.
    ///
    /// # Errors
    /// When it cannot be read, or says what is not understood.
    pub fn read(path: &Path) -> Result<Self, PolicyError> {
        let file = path.display().to_string();
        let text = match read_bounded(path, MAX_POLICY_LEN) {
            Ok(text) => text,
            Err(_) if path == Path::new(DEFAULT_POLICY_PATH) && is_absent(path) => {
                return Ok(Self::accept_anything());
            }
            Err(source) => return Err(PolicyError::Io { file, source }),
        };
        Self::parse(&text, &file, &|path| {
            read_bounded(Path::new(path), MAX_KEY_FILE_LEN)
        })
    }

    /// Reads a policy, which `file` names in errors; `read_key` gives the text of a key file.
    ///
    /// # Errors
    /// When it says what is not understood, or a key is none.
    pub fn parse(
        text: &str,
        file: &str,
        read_key: &dyn Fn(&str) -> io::Result<String>,
    ) -> Result<Self, PolicyError> {
        let document: Document = serde_json::from_str(text).map_err(|error| PolicyError::Wrong {
            file: file.to_owned(),
            line: error.line(),
            column: error.column().max(1),
            reason: without_place(&error),
        })?;
        let keys = Keys { text, file, read_key };
        let scopes = document.transports.docker.0.into_iter();
        Ok(Self {
            file: file.to_owned(),
            default: keys.resolve(document.default)?,
            scopes: scopes
                .map(|(scope, asked)| Ok((scope, keys.resolve(asked)?)))
                .collect::<Result<_, PolicyError>>()?,
        })
    }
}

/// Turns what a document says into what is asked of images: reads the keys.
struct Keys<'a> {
    text: &'a str,
    file: &'a str,
    read_key: &'a dyn Fn(&str) -> io::Result<String>,
}

impl Keys<'_> {
    fn resolve(&self, asked: Requirements) -> Result<Vec<Requirement>, PolicyError> {
        let resolve = |one| {
            Ok(match one {
                RequirementDocument::AcceptAnything => Requirement::AcceptAnything,
                RequirementDocument::Reject => Requirement::Reject,
                RequirementDocument::Signed { key, identity } => {
                    let (key, key_name) = match key {
                        Key::Given(key) => {
                            let name = format!("with the fingerprint {}", key.fingerprint());
                            (key, name)
                        }
                        Key::Path(path) => (self.key(&path)?, path),
                    };
                    Requirement::Signed(SignedBy {
                        key,
                        key_name,
                        identity,
                    })
                }
            })
        };
        asked.0.into_iter().map(resolve).collect()
    }

    fn key(&self, path: &str) -> Result<VerificationKey, PolicyError> {
        let wrong = |reason| {
            let quoted = serde_json::to_string(path).unwrap_or_default();
            let before = &self.text[..self.text.find(&quoted).unwrap_or(0)];
            PolicyError::Wrong {
                file: self.file.to_owned(),
                line: before.matches('\n').count() + 1,
                column: before.chars().rev().take_while(|c| *c != '\n').count() + 1,
                reason,
            }
        };
        let text =
            (self.read_key)(path).map_err(|error| wrong(format!("cannot read key {path}: {error}")))?;
        text.parse()
            .map_err(|error: KeyError| wrong(format!("{path} is not a key to verify with: {error}")))
    }
}

impl TryFrom<Vec<RequirementDocument>> for Requirements {
    type Error = &'static str;

    fn try_from(list: Vec<RequirementDocument>) -> Result<Self, &'static str> {
        if list.is_empty() {
            return Err(
                "an empty list asks for nothing and accepts nothing; say \"insecureAcceptAnything\" or \"reject\"",
            );
        }
        Ok(Self(list))
    }
}

impl TryFrom<RequirementFields> for RequirementDocument {
    type Error = String;

    fn try_from(fields: RequirementFields) -> Result<Self, String> {
        let more = fields.key_path.is_some() || fields.key_data.is_some() || fields.signed_identity.is_some();
        match &*fields.kind {
            "insecureAcceptAnything" | "reject" if more => {
                Err(format!("\"{}\" has no other fields", fields.kind))
            }
            "insecureAcceptAnything" => Ok(Self::AcceptAnything),
            "reject" => Ok(Self::Reject),
            "sigstoreSigned" => {
                let key = match (fields.key_path, fields.key_data) {
                    (Some(path), None) if path.starts_with('/') => Key::Path(path),
                    (Some(path), None) => return Err(format!("keyPath {path:?} is not an absolute path")),
                    (None, Some(data)) => Key::Given(key_data(&data)?),
                    _ => return Err("\"sigstoreSigned\" needs either keyPath or keyData".to_owned()),
                };
                let identity = match fields.signed_identity {
                    Some(fields) => fields.try_into()?,
                    None => Identity::Match,
                };
                Ok(Self::Signed { key, identity })
            }
            "signedBy" => {
                Err("\"signedBy\" asks for OpenPGP, which is not read; \"sigstoreSigned\" is".to_owned())
            }
            other => Err(unknown("requirement", other, &KINDS)),
        }
    }
}

impl TryFrom<IdentityFields> for Identity {
    type Error = String;

    fn try_from(fields: IdentityFields) -> Result<Self, String> {
        let IdentityFields {
            kind,
            docker_repository,
            prefix,
            signed_prefix,
        } = fields;
        match (&*kind, docker_repository, prefix, signed_prefix) {
            ("matchRepository", None, None, None) => Ok(Self::Match),
            ("exactRepository", Some(repository), None, None) => Ok(Self::Exact(repository)),
            ("remapIdentity", None, Some(prefix), Some(signed_prefix)) => Ok(Self::Remap {
                prefix,
                signed_prefix,
            }),
            ("matchRepository", ..) => Err("\"matchRepository\" has no other fields".to_owned()),
            ("exactRepository", ..) => {
                Err("\"exactRepository\" has the field dockerRepository, and no other".to_owned())
            }
            ("remapIdentity", ..) => {
                Err("\"remapIdentity\" has the fields prefix and signedPrefix, and no other".to_owned())
            }
            ("matchExact" | "matchRepoDigestOrExact" | "exactReference", ..) => Err(format!(
                "\"{kind}\" compares tags, and what cosign signs has none; \"matchRepository\" compares the rest"
            )),
            (other, ..) => Err(unknown("signedIdentity", other, &IDENTITIES)),
        }
    }
}

/// One entry per name; of two, which would count is anybody's guess.
impl<'de> Deserialize<'de> for Scopes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OncePerName;
        impl<'de> Visitor<'de> for OncePerName {
            type Value = Scopes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("names of images and what is asked of them")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scopes, A::Error> {
                let mut scopes = BTreeMap::new();
                while let Some(text) = map.next_key::<String>()? {
                    let scope = Scope::parse(&text).map_err(A::Error::custom)?;
                    if scopes.contains_key(&scope) {
                        return Err(A::Error::custom(format!("{text:?} is there twice")));
                    }
                    scopes.insert(scope, map.next_value()?);
                }
                Ok(Scopes(scopes))
            }
        }
        deserializer.deserialize_map(OncePerName)
    }
}

fn key_data(data: &str) -> Result<VerificationKey, String> {
    let text = STANDARD
        .decode(data)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok());
    let text = text.ok_or("keyData is not the base64 of a key in PEM")?;
    text.parse()
        .map_err(|error: KeyError| format!("keyData is not a key to verify with: {error}"))
}

fn unknown(what: &str, found: &str, known: &[&str]) -> String {
    let near = known
        .iter()
        .map(|known| (strsim::damerau_levenshtein(known, found), known))
        .min()
        .filter(|(distance, known)| *distance <= known.len() / 3);
    match near {
        Some((_, near)) => format!("unknown {what} {found:?}; did you mean {near:?}?"),
        None => format!("unknown {what} {found:?}; there is {}", known.join(", ")),
    }
}

/// serde_json's message without the place at its end.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&place).unwrap_or(&text).to_owned()
}

fn read_bounded(path: &Path, limit: u64) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(limit + 1).read_to_string(&mut text)?;
    if text.len() as u64 > limit {
        return Err(io::Error::other(format!("it has more than {limit} bytes")));
    }
    Ok(text)
}
