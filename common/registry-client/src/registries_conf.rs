//! This module owns [`RegistriesConf`]: mirrors, insecure and blocked registries, and what short names mean
//! (containers-registries.conf(5), version 2).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use gantry_model::ImageReference;
use serde::Deserialize;

use crate::limits::MAX_FILE_LEN;
use crate::{Places, Registry, RegistryError, Repository};

/// What all files together say.
#[derive(Debug, Clone, Default)]
pub struct RegistriesConf {
    search: Vec<String>,
    aliases: BTreeMap<String, String>,
    rules: BTreeMap<String, Rule>,
}

/// Where to ask for a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The repository there.
    pub repository: Repository,
    /// Whether its certificate need not be valid, or it may speak plain HTTP.
    pub insecure: bool,
    /// Whether it is a mirror: another one may have what it has not.
    pub mirror: bool,
}

impl Endpoint {
    /// Whether this error is a reason to go on to the next one at once: a mirror that does not answer is not waited for, the
    /// registry itself may.
    pub(crate) const fn is_passed_over(&self, error: &RegistryError) -> bool {
        self.mirror && matches!(error, RegistryError::Unreachable { .. })
    }
}

#[derive(Debug, Clone)]
struct Rule {
    location: Option<String>,
    insecure: bool,
    blocked: bool,
    mirrors: Vec<Mirror>,
    path: PathBuf,
}

#[derive(Debug, Clone)]
struct Mirror {
    location: String,
    insecure: bool,
    for_digests: bool,
    for_tags: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Document {
    #[serde(default)]
    unqualified_search_registries: Option<Vec<String>>,
    #[serde(default)]
    registry: Vec<RegistryTable>,
    #[serde(default)]
    aliases: BTreeMap<String, String>,
    /// Version 1 of the format.
    registries: Option<toml::Table>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RegistryTable {
    prefix: Option<String>,
    location: Option<String>,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror_by_digest_only: bool,
    #[serde(default)]
    mirror: Vec<MirrorTable>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct MirrorTable {
    location: String,
    #[serde(default)]
    insecure: bool,
    pull_from_mirror: Option<Pull>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Pull {
    All,
    DigestOnly,
    TagOnly,
}

impl RegistriesConf {
    /// What the files of `places` say; files that do not exist say nothing.
    ///
    /// # Errors
    /// When one cannot be read or is not valid.
    pub fn load(places: &Places) -> Result<Self, RegistryError> {
        let mut conf = Self::default();
        for path in places.registries_conf_files() {
            let mut text = String::new();
            match File::open(&path).and_then(|file| file.take(MAX_FILE_LEN).read_to_string(&mut text)) {
                Ok(_) => conf.add(&path, &text)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(wrong(&path, String::new(), error.to_string())),
            }
        }
        Ok(conf)
    }

    /// Adds the text of one file; it goes over what was there.
    ///
    /// # Errors
    /// When it is not valid.
    pub fn add(&mut self, path: &Path, text: &str) -> Result<(), RegistryError> {
        let document: Document = toml::from_str(text).map_err(|error| {
            let place = error
                .span()
                .map_or_else(String::new, |span| place(text, span.start));
            wrong(path, place, error.message().to_owned())
        })?;
        if document.registries.is_some() {
            let reason = "[registries.…] is version 1 of the format; write [[registry]] tables (man 5 containers-registries.conf)";
            return Err(wrong(path, String::new(), reason.to_owned()));
        }
        if let Some(search) = document.unqualified_search_registries {
            self.search = search;
        }
        self.aliases.extend(document.aliases);
        for table in document.registry {
            let (prefix, rule) = rule(table, path)?;
            self.rules.insert(prefix, rule);
        }
        Ok(())
    }

    /// The full names that `name` may stand for, in the order to try them. A short name is looked up among the aliases,
    /// then in the search registries; without any it is Docker Hub's.
    ///
    /// # Errors
    /// When an alias or a search registry is no address.
    pub fn full_names(&self, name: &ImageReference) -> Result<Vec<ImageReference>, RegistryError> {
        if name.domain().is_some() {
            return Ok(vec![name.clone()]);
        }
        let rest = &name.to_string()[name.name().len()..];
        let full = |start: String| {
            format!("{start}{rest}").parse().map_err(|error| {
                RegistryError::Name(format!(
                    "registries.conf makes {name} a name that is none: {error}"
                ))
            })
        };
        if let Some(alias) = self.aliases.get(name.name()).filter(|alias| !alias.is_empty()) {
            return Ok(vec![full(alias.clone())?]);
        }
        if self.search.is_empty() {
            let hub = if name.name().contains('/') {
                "docker.io"
            } else {
                "docker.io/library"
            };
            return Ok(vec![full(format!("{hub}/{}", name.name()))?]);
        }
        let found = self.search.iter();
        found
            .map(|registry| full(format!("{registry}/{}", name.name())))
            .collect()
    }

    /// Where to ask for a repository, mirrors first. `by_digest` says whether the image is named by its digest.
    ///
    /// # Errors
    /// When the repository is blocked, or a location is no address.
    pub fn endpoints(
        &self,
        repository: &Repository,
        by_digest: bool,
    ) -> Result<Vec<Endpoint>, RegistryError> {
        let name = repository.to_string();
        let fitting = self.rules.iter().filter(|(prefix, _)| fits(prefix, &name));
        let Some((prefix, rule)) = fitting.max_by_key(|(prefix, _)| prefix.len()) else {
            return Ok(vec![Endpoint {
                repository: repository.clone(),
                insecure: false,
                mirror: false,
            }]);
        };
        if rule.blocked {
            return Err(RegistryError::Blocked {
                registry: name,
                path: rule.path.clone(),
            });
        }
        let moved = |location: &str| -> Result<Repository, RegistryError> {
            // A prefix with a star stands for a host; what follows the host stays.
            let rest = if prefix.starts_with("*.") {
                &name[repository.registry().name().len()..]
            } else {
                &name[prefix.len()..]
            };
            let moved = format!("{location}{rest}");
            let (registry, path) = moved.split_once('/').unwrap_or((&moved, ""));
            let registry =
                Registry::parse(registry).map_err(|reason| wrong(&rule.path, String::new(), reason))?;
            if path.is_empty() {
                let reason = format!("location {location:?} leaves nothing of {name}");
                return Err(wrong(&rule.path, String::new(), reason));
            }
            Ok(Repository::new(registry, path))
        };
        let mut endpoints = Vec::new();
        for mirror in &rule.mirrors {
            if if by_digest {
                mirror.for_digests
            } else {
                mirror.for_tags
            } {
                endpoints.push(Endpoint {
                    repository: moved(&mirror.location)?,
                    insecure: mirror.insecure,
                    mirror: true,
                });
            }
        }
        endpoints.push(Endpoint {
            repository: match &rule.location {
                Some(location) => moved(location)?,
                None => repository.clone(),
            },
            insecure: rule.insecure,
            mirror: false,
        });
        Ok(endpoints)
    }
}

fn rule(table: RegistryTable, path: &Path) -> Result<(String, Rule), RegistryError> {
    let Some(prefix) = table.prefix.clone().or_else(|| table.location.clone()) else {
        let reason = "a [[registry]] table has neither prefix nor location".to_owned();
        return Err(wrong(path, String::new(), reason));
    };
    let prefix = prefix.trim_end_matches('/').to_owned();
    let host = prefix.strip_prefix("*.").unwrap_or(&prefix);
    Registry::parse(host).map_err(|reason| wrong(path, String::new(), reason))?;
    let mirrors = table.mirror.into_iter().map(|mirror| {
        let pull = mirror.pull_from_mirror.unwrap_or(if table.mirror_by_digest_only {
            Pull::DigestOnly
        } else {
            Pull::All
        });
        Mirror {
            location: mirror.location.trim_end_matches('/').to_owned(),
            insecure: mirror.insecure,
            for_digests: pull != Pull::TagOnly,
            for_tags: pull != Pull::DigestOnly,
        }
    });
    let rule = Rule {
        location: table
            .location
            .map(|location| location.trim_end_matches('/').to_owned()),
        insecure: table.insecure,
        blocked: table.blocked,
        mirrors: mirrors.collect(),
        path: path.to_owned(),
    };
    Ok((prefix, rule))
}

/// Whether `prefix` stands for the repository `name`: itself, something below it, or with `*.` a host below its domain.
fn fits(prefix: &str, name: &str) -> bool {
    if let Some(domain) = prefix.strip_prefix('*') {
        let host = name.split('/').next().unwrap_or_default();
        let without_port = host.split(':').next().unwrap_or_default();
        return host.ends_with(domain) || without_port.ends_with(domain);
    }
    name.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// `:LINE:COLUMN` of a byte of a text.
fn place(text: &str, at: usize) -> String {
    let before = &text.as_bytes()[..at.min(text.len())];
    let line = before.iter().filter(|b| **b == b'\n').count() + 1;
    let column = before.iter().rev().take_while(|b| **b != b'\n').count() + 1;
    format!(":{line}:{column}")
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

    const CONF: &str = r#"
unqualified-search-registries = ["hub.corp:5000", "docker.io"]
[[registry]]
prefix = "docker.io"
location = "docker.io"
[[registry.mirror]]
location = "mirror.corp/hub"
[[registry.mirror]]
location = "digests.corp:5000"
insecure = true
pull-from-mirror = "digest-only"
[[registry]]
location = "hub.corp:5000"
insecure = true
[[registry]]
prefix = "*.evil.io"
blocked = true
[[registry]]
prefix = "old.io/team"
location = "new.io/moved"
[aliases]
"kubernetes" = "sea.hub:5000/base/kubernetes"
"#;

    fn conf() -> RegistriesConf {
        let mut conf = RegistriesConf::default();
        conf.add(Path::new("/etc/registries.conf"), CONF).unwrap();
        conf
    }

    fn places_of(name: &str, by_digest: bool) -> Vec<String> {
        let repository = Repository::of(&name.parse().unwrap()).unwrap();
        let endpoints = conf().endpoints(&repository, by_digest).unwrap();
        let shown = endpoints.iter().map(|endpoint| {
            let insecure = if endpoint.insecure { " insecure" } else { "" };
            format!("{}{insecure}", endpoint.repository)
        });
        shown.collect()
    }

    #[test]
    fn mirrors_come_first_and_prefixes_move() {
        assert_eq!(
            places_of("nginx", false),
            ["mirror.corp/hub/library/nginx", "docker.io/library/nginx"]
        );
        assert_eq!(
            places_of("nginx", true),
            [
                "mirror.corp/hub/library/nginx",
                "digests.corp:5000/library/nginx insecure",
                "docker.io/library/nginx"
            ]
        );
        assert_eq!(places_of("hub.corp:5000/a", false), ["hub.corp:5000/a insecure"]);
        assert_eq!(places_of("old.io/team/a", false), ["new.io/moved/a"]);
        assert_eq!(places_of("old.io/teams/a", false), ["old.io/teams/a"]);
        assert_eq!(places_of("other.io/a", false), ["other.io/a"]);
        let blocked = Repository::of(&"x.evil.io:80/a".parse().unwrap()).unwrap();
        let error = conf().endpoints(&blocked, false).unwrap_err().to_string();
        assert_eq!(
            error,
            "registry x.evil.io:80/a is blocked by /etc/registries.conf"
        );
    }

    #[test]
    fn short_names_are_looked_up() {
        let names = |conf: &RegistriesConf, name: &str| -> Vec<String> {
            let names = conf.full_names(&name.parse().unwrap()).unwrap();
            names.iter().map(ToString::to_string).collect()
        };
        assert_eq!(
            names(&conf(), "kubernetes:v1"),
            ["sea.hub:5000/base/kubernetes:v1"]
        );
        assert_eq!(
            names(&conf(), "etcd"),
            ["hub.corp:5000/etcd:latest", "docker.io/etcd:latest"]
        );
        assert_eq!(names(&conf(), "a.io/b:1"), ["a.io/b:1"]);
        let none = RegistriesConf::default();
        assert_eq!(names(&none, "etcd:3"), ["docker.io/library/etcd:3"]);
        assert_eq!(names(&none, "grafana/loki:3"), ["docker.io/grafana/loki:3"]);
    }

    #[test]
    fn a_mistake_has_a_place() {
        let add = |text: &str| {
            RegistriesConf::default()
                .add(Path::new("r.conf"), text)
                .unwrap_err()
                .to_string()
        };
        let error = add("unqualified-search-registries = []\n[[registry]]\nprefix = 3\n");
        assert!(error.starts_with("r.conf:3:10: "), "{error}");
        assert!(add("[[registry]]\n").contains("neither prefix nor location"));
        assert!(add("[registries.search]\nregistries = []\n").contains("version 1"));
        assert!(add("[[registry]]\nlocation = \"a b\"\n").contains("not the address of a registry"));
    }

    proptest! {
        #[test]
        fn no_file_is_too_strange(text in ".{0,200}", prefix in "[a-z.*:/0-9]{0,20}", location in "[a-z.:/0-9]{0,20}") {
            let mut conf = RegistriesConf::default();
            let _ = conf.add(Path::new("r.conf"), &text);
            let table = format!("[[registry]]\nprefix = {prefix:?}\nlocation = {location:?}\n[[registry.mirror]]\nlocation = {location:?}\n");
            if conf.add(Path::new("r.conf"), &table).is_ok() {
                for name in ["nginx", "a.io/b/c", "localhost/x"] {
                    let repository = Repository::of(&name.parse().unwrap()).unwrap();
                    let _ = conf.endpoints(&repository, true);
                }
            }
        }
    }
}
