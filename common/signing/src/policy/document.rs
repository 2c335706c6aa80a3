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
    DEFAULT_POLICY_PATH, HOST_KEYS_PATH, Identity, MAX_POLICY_LEN, Policy, PolicyError, Requirement, Scope,
    SignedBy,
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
    Signed { keys: Vec<Key>, identity: Identity },
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
    key_paths: Option<Vec<String>>,
    key_data: Option<String>,
    key_datas: Option<Vec<String>>,
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
        Self::read_for(path, Place::Host)
    }

    /// The same where images are kept, not run. What hosts ask for by keys that orchestrators bring ([`HOST_KEYS_PATH`]), nothing asks
    /// for here: here is where images are signed for them. So one machine can be both.
    ///
    /// # Errors
    /// As [`Policy::read`].
    pub fn read_for_store(path: &Path) -> Result<Self, PolicyError> {
        Self::read_for(path, Place::Store)
    }

    fn read_for(path: &Path, place: Place) -> Result<Self, PolicyError> {
        let file = path.display().to_string();
        let text = match read_bounded(path, MAX_POLICY_LEN) {
            Ok(text) => text,
            Err(_) if path == Path::new(DEFAULT_POLICY_PATH) && is_absent(path) => {
                return Ok(Self::accept_anything());
            }
            Err(source) => return Err(PolicyError::Io { file, source }),
        };
        let read_key = |path: &str| read_bounded(Path::new(path), MAX_KEY_FILE_LEN);
        Self::parse_for(&text, &file, &read_key, place)
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
        Self::parse_for(text, file, read_key, Place::Host)
    }

    fn parse_for(
        text: &str,
        file: &str,
        read_key: &dyn Fn(&str) -> io::Result<String>,
        place: Place,
    ) -> Result<Self, PolicyError> {
        let document: Document = serde_json::from_str(text).map_err(|error| PolicyError::Wrong {
            file: file.to_owned(),
            line: error.line(),
            column: error.column().max(1),
            reason: without_place(&error),
        })?;
        let keys = Keys {
            text,
            file,
            read_key,
            place,
        };
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

/// Where a policy counts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Host,
    Store,
}

/// Turns what a document says into what is asked of images: reads the keys.
struct Keys<'a> {
    text: &'a str,
    file: &'a str,
    read_key: &'a dyn Fn(&str) -> io::Result<String>,
    place: Place,
}

impl Keys<'_> {
    fn resolve(&self, asked: Requirements) -> Result<Vec<Requirement>, PolicyError> {
        let resolve = |one| {
            Ok(match one {
                RequirementDocument::AcceptAnything => Requirement::AcceptAnything,
                RequirementDocument::Reject => Requirement::Reject,
                RequirementDocument::Signed { keys, .. } if self.is_left_to_hosts(&keys) => {
                    Requirement::AcceptAnything
                }
                RequirementDocument::Signed {
                    keys: asked,
                    identity,
                } => {
                    let (mut keys, mut names) = (Vec::new(), Vec::new());
                    for key in asked {
                        match key {
                            Key::Given(key) => {
                                names.push(format!("with the fingerprint {}", key.fingerprint()));
                                keys.push(key);
                            }
                            Key::Path(path) => {
                                keys.extend(self.keys(&path)?);
                                names.push(path);
                            }
                        }
                    }
                    Requirement::Signed(SignedBy {
                        keys,
                        key_name: names.join(" or "),
                        identity,
                    })
                }
            })
        };
        asked.0.into_iter().map(resolve).collect()
    }

    fn is_left_to_hosts(&self, keys: &[Key]) -> bool {
        let is_brought = |key: &Key| matches!(key, Key::Path(path) if path == HOST_KEYS_PATH);
        self.place == Place::Store && keys.iter().any(is_brought)
    }

    fn keys(&self, path: &str) -> Result<Vec<VerificationKey>, PolicyError> {
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
        let text = (self.read_key)(path).map_err(|error| {
            if path == HOST_KEYS_PATH && error.kind() == io::ErrorKind::NotFound {
                return wrong(format!(
                    "no orchestrator has brought its key to {path}; run the same command again, with a `gantry` that is as new \
                     as this agent: it does"
                ));
            }
            wrong(format!("cannot read key {path}: {error}"))
        })?;
        VerificationKey::parse_all(&text)
            .map_err(|error| wrong(format!("{path} is not a key to verify with: {error}")))
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
        let more = fields.has_keys() || fields.signed_identity.is_some();
        match &*fields.kind {
            "insecureAcceptAnything" | "reject" if more => {
                Err(format!("\"{}\" has no other fields", fields.kind))
            }
            "insecureAcceptAnything" => Ok(Self::AcceptAnything),
            "reject" => Ok(Self::Reject),
            "sigstoreSigned" => {
                let keys = match (
                    fields.key_path,
                    fields.key_paths,
                    fields.key_data,
                    fields.key_datas,
                ) {
                    (Some(path), None, None, None) => vec![key_path(path)?],
                    (None, Some(paths), None, None) => {
                        paths.into_iter().map(key_path).collect::<Result<_, _>>()?
                    }
                    (None, None, Some(data), None) => vec![key_data(&data)?],
                    (None, None, None, Some(datas)) => datas
                        .iter()
                        .map(|data| key_data(data))
                        .collect::<Result<_, _>>()?,
                    _ => vec![],
                };
                if keys.is_empty() {
                    return Err(
                        "\"sigstoreSigned\" needs either keyPath or keyData; keyPaths or keyDatas for any of several"
                            .to_owned(),
                    );
                }
                let identity = match fields.signed_identity {
                    Some(fields) => fields.try_into()?,
                    None => Identity::Match,
                };
                Ok(Self::Signed { keys, identity })
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

impl RequirementFields {
    fn has_keys(&self) -> bool {
        self.key_path.is_some()
            || self.key_paths.is_some()
            || self.key_data.is_some()
            || self.key_datas.is_some()
    }
}

fn key_path(path: String) -> Result<Key, String> {
    if path.starts_with('/') {
        Ok(Key::Path(path))
    } else {
        Err(format!("keyPath {path:?} is not an absolute path"))
    }
}

fn key_data(data: &str) -> Result<Key, String> {
    let text = STANDARD
        .decode(data)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok());
    let text = text.ok_or("keyData is not the base64 of a key in PEM")?;
    text.parse()
        .map(Key::Given)
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
