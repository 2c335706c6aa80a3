//! This module owns [`AuthFile`]: `auth.json` of the containers tools (containers-auth.json(5)), which is also docker's
//! `config.json`.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gantry_system::files::write_atomically;
use serde_json::{Map, Value, json};

use super::Credentials;
use super::helper::Helper;
use crate::limits::MAX_FILE_LEN;
use crate::{Namespace, Registry, RegistryError, Repository};

/// An auth file. What is in it beside credentials (docker keeps settings there) stays as it is.
#[derive(Debug, Clone)]
pub struct AuthFile {
    path: PathBuf,
    document: Map<String, Value>,
}

/// What an auth file says about a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    /// The credentials.
    Here(Credentials),
    /// A program knows them.
    Helper(Helper),
}

impl AuthFile {
    /// Reads the file; one that does not exist is empty.
    ///
    /// # Errors
    /// When it cannot be read or is not valid.
    pub fn read(path: &Path) -> Result<Self, RegistryError> {
        let mut text = String::new();
        match File::open(path).and_then(|file| file.take(MAX_FILE_LEN).read_to_string(&mut text)) {
            Ok(_) => Self::parse(path, &text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::parse(path, ""),
            Err(error) => Err(wrong(path, String::new(), error.to_string())),
        }
    }

    /// The file with this text.
    ///
    /// # Errors
    /// When it is not a JSON object.
    pub fn parse(path: &Path, text: &str) -> Result<Self, RegistryError> {
        // podman itself leaves an empty file behind now and then.
        let document = if text.trim().is_empty() {
            Map::new()
        } else {
            // The error names a place, and what kind of thing is wrong there, but never the text.
            serde_json::from_str(text).map_err(|error| {
                let place = format!(":{}:{}", error.line(), error.column());
                wrong(path, place, "this is not a JSON object".to_owned())
            })?
        };
        Ok(Self {
            path: path.to_owned(),
            document,
        })
    }

    /// What it says about `repository`: the longest key that fits, then the helpers.
    pub(super) fn entry(&self, repository: &Repository) -> Result<Option<Entry>, RegistryError> {
        if let Some(name) = self.text_in("credHelpers", repository.registry()) {
            return Ok(Some(Entry::Helper(Helper::named(&name, &self.path)?)));
        }
        let mut wanted = repository.to_string();
        loop {
            let fitting = self.auths().filter(|(key, _)| normal(key) == wanted);
            for (key, value) in fitting {
                if let Some(credentials) = self.credentials(key, value)? {
                    return Ok(Some(Entry::Here(credentials)));
                }
            }
            match wanted.rsplit_once('/') {
                Some((shorter, _)) => wanted = shorter.to_owned(),
                None => break,
            }
        }
        match self.document.get("credsStore").and_then(Value::as_str) {
            Some(name) if !name.is_empty() => Ok(Some(Entry::Helper(Helper::named(name, &self.path)?))),
            _ => Ok(None),
        }
    }

    /// The helper that keeps credentials of `registry`, if one does.
    pub(super) fn helper(&self, registry: &Registry) -> Result<Option<Helper>, RegistryError> {
        let store = || self.document.get("credsStore")?.as_str().map(str::to_owned);
        let name = self.text_in("credHelpers", registry).or_else(store);
        name.filter(|name| !name.is_empty())
            .map(|name| Helper::named(&name, &self.path))
            .transpose()
    }

    /// Puts credentials in.
    pub fn set(&mut self, namespace: &Namespace, credentials: &Credentials) {
        self.remove(namespace);
        let entry = match credentials {
            Credentials::Password { user, secret } => {
                json!({ "auth": STANDARD.encode(format!("{user}:{secret}")) })
            }
            Credentials::IdentityToken(token) => json!({ "identitytoken": token }),
        };
        let auths = self.document.entry("auths").or_insert_with(|| json!({}));
        if !auths.is_object() {
            *auths = json!({});
        }
        if let Some(auths) = auths.as_object_mut() {
            auths.insert(namespace.key(), entry);
        }
    }

    /// Takes the credentials for a registry, or for this part of it, out; says whether there were any.
    pub fn remove(&mut self, namespace: &Namespace) -> bool {
        let Some(auths) = self.document.get_mut("auths").and_then(Value::as_object_mut) else {
            return false;
        };
        let (before, name) = (auths.len(), namespace.to_string());
        auths.retain(|key, _| normal(key) != name);
        auths.len() != before
    }

    /// Writes it back; only its owner may read it.
    ///
    /// # Errors
    /// When the folder cannot be made or the file not written.
    pub fn write(&self) -> Result<(), RegistryError> {
        let cannot = |error: io::Error| wrong(&self.path, String::new(), format!("cannot write it: {error}"));
        let mut text = serde_json::to_vec_pretty(&self.document).expect("JSON that was read can be written");
        text.push(b'\n');
        // Where a link leads is what is meant, for example a file in a folder of secrets.
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        if let Some(folder) = path.parent() {
            use std::os::unix::fs::DirBuilderExt as _;
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .map_err(cannot)?;
        }
        write_atomically(&path, &text, 0o600).map_err(cannot)
    }

    fn auths(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.document
            .get("auths")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
    }

    fn text_in(&self, field: &str, registry: &Registry) -> Option<String> {
        let map = self.document.get(field)?.as_object()?;
        let (_, value) = map.iter().find(|(key, _)| normal(key) == registry.name())?;
        value.as_str().map(str::to_owned)
    }

    /// The credentials of one entry; an entry without any says that a helper has them.
    fn credentials(&self, key: &str, value: &Value) -> Result<Option<Credentials>, RegistryError> {
        let text = |name: &str| {
            value
                .get(name)
                .and_then(Value::as_str)
                .filter(|text| !text.is_empty())
        };
        if let Some(token) = text("identitytoken") {
            return Ok(Some(Credentials::IdentityToken(token.to_owned())));
        }
        if let (Some(user), Some(secret)) = (text("username"), text("password")) {
            return Ok(Some(Credentials::Password {
                user: user.to_owned(),
                secret: secret.to_owned(),
            }));
        }
        let Some(auth) = text("auth") else {
            return Ok(None);
        };
        let decoded = STANDARD
            .decode(auth.trim())
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok());
        let pair = decoded.as_deref().and_then(|text| text.split_once(':'));
        let Some((user, secret)) = pair else {
            let reason = format!(
                "auths.{key:?}.auth is not the base64 form of NAME:PASSWORD; run `gantry login` again"
            );
            return Err(wrong(&self.path, String::new(), reason));
        };
        Ok(Some(Credentials::Password {
            user: user.to_owned(),
            secret: secret.trim_end_matches('\0').to_owned(),
        }))
    }
}

/// A key as the containers tools write it, `HOST[:PORT][/PATH]`; docker writes addresses.
fn normal(key: &str) -> String {
    let is_address = key.starts_with("https://") || key.starts_with("http://");
    let bare = key
        .split_once('/')
        .is_none_or(|(_, path)| matches!(path, "v1/" | "v2/" | "v1" | "v2"));
    if is_address || bare {
        return Registry::parse(key).map_or_else(|_| key.to_owned(), |registry| registry.name().to_owned());
    }
    key.trim_end_matches('/').to_owned()
}

fn wrong(path: &Path, place: String, reason: String) -> RegistryError {
    RegistryError::Config {
        path: path.to_owned(),
        place,
        reason,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> AuthFile {
        AuthFile::parse(Path::new("auth.json"), text).unwrap()
    }

    fn entry(file: &AuthFile, name: &str) -> Option<Entry> {
        file.entry(&Repository::of(&name.parse().unwrap()).unwrap())
            .unwrap()
    }

    fn password(user: &str, secret: &str) -> Option<Entry> {
        Some(Entry::Here(Credentials::Password {
            user: user.to_owned(),
            secret: secret.to_owned(),
        }))
    }

    #[test]
    fn the_longest_key_decides() {
        let auth = |text: &str| STANDARD.encode(text);
        let file = parsed(&format!(
            r#"{{"auths": {{"hub:5000": {{"auth": "{}"}}, "hub:5000/team": {{"auth": "{}"}},
                "https://index.docker.io/v1/": {{"auth": "{}"}}, "t.io": {{"identitytoken": "T"}}, "empty.io": {{}}}}}}"#,
            auth("all:1"),
            auth("team:2:3"),
            auth("hub:4"),
        ));
        assert_eq!(entry(&file, "hub:5000/other/a"), password("all", "1"));
        assert_eq!(entry(&file, "hub:5000/team/a"), password("team", "2:3"));
        assert_eq!(entry(&file, "hub:5000/teams"), password("all", "1"));
        assert_eq!(entry(&file, "nginx"), password("hub", "4"));
        assert_eq!(
            entry(&file, "t.io/a"),
            Some(Entry::Here(Credentials::IdentityToken("T".into())))
        );
        assert_eq!(entry(&file, "empty.io/a"), None);
        assert_eq!(entry(&file, "elsewhere.io/a"), None);
    }

    #[test]
    fn an_ipv6_address_is_found_however_it_is_spelled() {
        let auth = STANDARD.encode("six:1");
        for key in [
            "[::1]:5000",
            "[0:0:0:0:0:0:0:1]:5000",
            "https://[::1]:5000",
            "http://[::1]:5000/v2/",
        ] {
            let file = parsed(&json!({ "auths": { key: { "auth": auth } } }).to_string());
            assert_eq!(
                entry(&file, "[::1]:5000/team/a:v1"),
                password("six", "1"),
                "{key}"
            );
            assert_eq!(entry(&file, "[::1]:5001/team/a:v1"), None, "{key}");
        }
        let file = parsed(&json!({ "auths": { "[::1]:5000/team": { "auth": auth } } }).to_string());
        assert_eq!(entry(&file, "[::1]:5000/team/a"), password("six", "1"));
        assert_eq!(entry(&file, "[::1]:5000/other/a"), None);
    }

    #[test]
    fn helpers_come_by_registry_and_for_the_rest() {
        let file = parsed(r#"{"credHelpers": {"gcr.io": "gcloud"}, "credsStore": "pass"}"#);
        let helper = |name: &str| {
            Some(Entry::Helper(
                Helper::named(name, Path::new("auth.json")).unwrap(),
            ))
        };
        assert_eq!(entry(&file, "gcr.io/a"), helper("gcloud"));
        assert_eq!(entry(&file, "hub:5000/a"), helper("pass"));
        let evil = parsed(r#"{"credsStore": "../../bin/sh"}"#);
        let repository = Repository::of(&"hub:5000/a".parse().unwrap()).unwrap();
        for error in [
            evil.entry(&repository).unwrap_err(),
            evil.helper(repository.registry()).unwrap_err(),
        ] {
            assert!(
                error
                    .to_string()
                    .contains("is not the name of a credential helper"),
                "{error}"
            );
        }
    }

    #[test]
    fn what_login_writes_is_read_and_nothing_else_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/config.json");
        let mut file = AuthFile::parse(
            &path,
            r#"{"HttpHeaders": {"a": "b"}, "auths": {"x.io": {"auth": "YTpi"}}}"#,
        )
        .unwrap();
        let registry = Namespace::parse("hub:5000").unwrap();
        let credentials = Credentials::Password {
            user: "ops".into(),
            secret: "geheim:1".into(),
        };
        file.set(&registry, &credentials);
        file.write().unwrap();
        let mut file = AuthFile::read(&path).unwrap();
        assert_eq!(entry(&file, "hub:5000/a"), password("ops", "geheim:1"));
        assert_eq!(entry(&file, "x.io/a"), password("a", "b"));
        assert_eq!(file.document["HttpHeaders"]["a"], "b");
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        assert!(file.remove(&registry) && !file.remove(&registry));
        assert!(!format!("{credentials:?}").contains("geheim"));
    }

    #[test]
    fn a_login_to_a_part_of_a_registry_is_kept_as_skopeo_keeps_it() {
        let password = |user: &str| Credentials::Password {
            user: user.to_owned(),
            secret: "geheim".to_owned(),
        };
        let found = |file: &AuthFile, name: &str| match entry(file, name) {
            Some(Entry::Here(credentials)) => credentials.user().to_owned(),
            other => format!("{other:?}"),
        };
        let (whole, team) = (
            Namespace::parse("hub:5000").unwrap(),
            Namespace::parse("hub:5000/team").unwrap(),
        );
        let mut file = parsed("");
        file.set(&team, &password("team"));
        // What `skopeo login hub:5000/team` writes, and `skopeo login docker.io/team`.
        let auth = STANDARD.encode("team:geheim");
        assert_eq!(
            Value::Object(file.document.clone()),
            json!({ "auths": { "hub:5000/team": { "auth": auth } } })
        );
        assert_eq!(
            Namespace::parse("docker.io/team").unwrap().key(),
            "docker.io/team"
        );
        assert_eq!(found(&file, "hub:5000/team/a"), "team");
        assert_eq!(found(&file, "hub:5000/other/a"), "None");

        // Neither login touches the other.
        file.set(&whole, &password("all"));
        assert_eq!(found(&file, "hub:5000/team/a"), "team");
        assert_eq!(found(&file, "hub:5000/other/a"), "all");
        assert!(file.remove(&whole) && !file.remove(&whole));
        assert_eq!(found(&file, "hub:5000/team/a"), "team");
        file.set(&whole, &password("all"));
        assert!(file.remove(&team) && !file.remove(&team));
        assert_eq!(found(&file, "hub:5000/team/a"), "all");
    }

    #[test]
    fn a_broken_file_is_named_with_the_place_and_without_its_secrets() {
        let error =
            AuthFile::parse(Path::new("/a/auth.json"), "{\"auths\": {\n \"x\": geheim}}").unwrap_err();
        let error = error.to_string();
        assert!(
            error.starts_with("/a/auth.json:2:") && !error.contains("geheim"),
            "{error}"
        );
        let file = parsed(r#"{"auths": {"x.io": {"auth": "geheim"}}}"#);
        let error = file
            .entry(&Repository::of(&"x.io/a".parse().unwrap()).unwrap())
            .unwrap_err()
            .to_string();
        assert!(error.contains("x.io") && !error.contains("geheim"), "{error}");
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in ".{0,200}", key in "[a-z:/.0-9]{0,30}", auth in "[A-Za-z0-9=+/]{0,20}") {
            let _ = AuthFile::parse(Path::new("auth.json"), &text);
            let document = json!({ "auths": { key: { "auth": auth } } }).to_string();
            let file = parsed(&document);
            let _ = file.entry(&Repository::of(&"hub:5000/a/b".parse().unwrap()).unwrap());
        }

        #[test]
        fn any_password_survives(user in "[^:\\x00]{1,20}", secret in "[^\\x00]{1,40}") {
            let mut file = parsed("");
            let registry = Namespace::parse("hub:5000").unwrap();
            file.set(&registry, &Credentials::Password { user: user.clone(), secret: secret.clone() });
            prop_assert_eq!(entry(&file, "hub:5000/a"), password(&user, &secret));
        }
    }
}
