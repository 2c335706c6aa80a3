//! This module owns where an image lies: its registry, its repository, and what it is called there.

use std::fmt;

use gantry_model::{Digest, ImageReference, host_and_port, ipv6_in_brackets, port_number};

/// Docker Hub, as names say it.
const DOCKER_HUB: &str = "docker.io";
/// Docker Hub, as its registry is reached.
const DOCKER_HUB_HOST: &str = "registry-1.docker.io";
/// Docker Hub's key in docker's own auth file.
const DOCKER_HUB_KEY: &str = "index.docker.io";

/// A registry: `HOST[:PORT]`, lower case; an IPv6 address stands in brackets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Registry(String);

/// Whose images a login is for: `HOST[:PORT]` for all of a registry, `HOST[:PORT]/PATH` for one repository or those below it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Namespace {
    registry: Registry,
    /// Empty for all of the registry.
    path: String,
}

/// A repository of a registry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository {
    registry: Registry,
    path: String,
}

/// One image of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteImage {
    /// Where it lies.
    pub repository: Repository,
    /// Its tag; none when it is named by its digest alone.
    pub tag: Option<String>,
    /// Its digest, where the name says it.
    pub digest: Option<Digest>,
}

impl Registry {
    /// The registry that `text` names: `HOST[:PORT]`, also as docker writes it into its auth file, `https://HOST/v1/`.
    ///
    /// # Errors
    /// When it is no address, with the reason.
    pub fn parse(text: &str) -> Result<Self, String> {
        let rest = text
            .strip_prefix("https://")
            .or_else(|| text.strip_prefix("http://"))
            .unwrap_or(text);
        let host = rest.split('/').next().unwrap_or_default().to_ascii_lowercase();
        let (name, port) = host_and_port(&host);
        let address = ipv6_in_brackets(name);
        let is_name = |name: &str| {
            !name.is_empty()
                && name
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
        };
        if address.is_none() && !is_name(name) {
            return Err(format!(
                "{text:?} is not the address of a registry: write HOST, HOST:PORT or [IPV6]:PORT"
            ));
        }
        if port.is_some_and(|port| port_number(port).is_none()) {
            return Err(format!(
                "the port of {text:?} is not a number from 0 to 65535; write it in digits alone, as in {name}:5000"
            ));
        }
        // An IPv6 address has several spellings, and is known by one.
        let host = match (address, port) {
            (Some(address), Some(port)) => format!("[{address}]:{port}"),
            (Some(address), None) => format!("[{address}]"),
            (None, _) => host,
        };
        Ok(match &*host {
            DOCKER_HUB_KEY | DOCKER_HUB_HOST | "registry.hub.docker.com" => Self(DOCKER_HUB.to_owned()),
            _ => Self(host),
        })
    }

    /// What names and auth files call it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }

    /// The host that is connected to, with its port.
    #[must_use]
    pub fn host(&self) -> &str {
        if self.0 == DOCKER_HUB {
            DOCKER_HUB_HOST
        } else {
            &self.0
        }
    }

    /// What docker calls it in its auth file and towards credential helpers.
    #[must_use]
    pub fn docker_key(&self) -> &str {
        if self.0 == DOCKER_HUB {
            "https://index.docker.io/v1/"
        } else {
            &self.0
        }
    }
}

impl Namespace {
    /// All of a registry, or the part of it that `text` names. What docker writes behind the host in its auth file (`/v1/`) is no
    /// part.
    ///
    /// # Errors
    /// When it is neither, with the reason.
    pub fn parse(text: &str) -> Result<Self, String> {
        let registry = Registry::parse(text)?;
        let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
        let (_, path) = rest.split_once('/').unwrap_or_default();
        let path = path.trim_end_matches('/');
        if matches!(path, "" | "v1" | "v2") {
            return Ok(registry.into());
        }
        let parsed: Result<ImageReference, _> = format!("{DOCKER_HUB}/{path}").parse();
        let parsed = parsed.map_err(|error| format!("{text:?} is no part of a registry: {error}"))?;
        if parsed.path() != path {
            return Err(format!(
                "a login is for repositories, with all of their images: leave out {:?} of {text:?}",
                path.strip_prefix(parsed.path()).unwrap_or_default()
            ));
        }
        let path = path.to_owned();
        Ok(Self { registry, path })
    }

    /// Its registry.
    #[must_use]
    pub const fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Whether it is all of the registry.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.path.is_empty()
    }

    /// A repository in it, whether there is one of this name or not.
    pub(crate) fn repository(&self) -> Repository {
        let path = format!("{}/any/repository", self.path);
        Repository::new(self.registry.clone(), path.trim_start_matches('/'))
    }

    /// What the containers tools and docker call it in their auth files.
    #[must_use]
    pub fn key(&self) -> String {
        if self.is_whole() {
            self.registry.docker_key().to_owned()
        } else {
            self.to_string()
        }
    }
}

impl From<Registry> for Namespace {
    fn from(registry: Registry) -> Self {
        let path = String::new();
        Self { registry, path }
    }
}

impl Repository {
    /// A repository; `path` is one as [`ImageReference`] has checked it.
    #[must_use]
    pub fn new(registry: Registry, path: &str) -> Self {
        let path = if registry.0 == DOCKER_HUB && !path.contains('/') {
            format!("library/{path}")
        } else {
            path.to_owned()
        };
        Self { registry, path }
    }

    /// The repository of a full name; the registry of a short one is Docker Hub.
    ///
    /// # Errors
    /// When the registry's address is none.
    pub fn of(name: &ImageReference) -> Result<Self, String> {
        let registry = Registry::parse(name.domain().unwrap_or(DOCKER_HUB))?;
        Ok(Self::new(registry, name.path()))
    }

    /// Its registry.
    #[must_use]
    pub const fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Its path, e.g. `library/nginx`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl RemoteImage {
    /// Where the image of this name lies.
    ///
    /// # Errors
    /// When the registry's address is none.
    pub fn of(name: &ImageReference) -> Result<Self, String> {
        Ok(Self {
            repository: Repository::of(name)?,
            tag: name.tag().map(str::to_owned),
            digest: name.digest().copied(),
        })
    }

    /// What is asked for: the digest if there is one, else the tag.
    #[must_use]
    pub fn reference(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }
}

impl fmt::Display for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.registry)?;
        if self.is_whole() {
            return Ok(());
        }
        write!(f, "/{}", self.path)
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.path)
    }
}

impl fmt::Display for RemoteImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_registries() {
        for (name, host, path) in [
            ("nginx", "registry-1.docker.io", "library/nginx"),
            ("grafana/loki:3", "registry-1.docker.io", "grafana/loki"),
            ("docker.io/nginx", "registry-1.docker.io", "library/nginx"),
            ("sea.hub:5000/kubernetes:v1", "sea.hub:5000", "kubernetes"),
            ("localhost/a/b/c", "localhost", "a/b/c"),
            ("[::1]:5000/team/a:v1", "[::1]:5000", "team/a"),
            ("[2001:db8::5]/a", "[2001:db8::5]", "a"),
        ] {
            let repository = Repository::of(&name.parse().unwrap()).unwrap();
            assert_eq!(
                (repository.registry().host(), repository.path()),
                (host, path),
                "{name}"
            );
        }
    }

    #[test]
    fn a_login_is_for_a_registry_or_a_part_of_it() {
        for (text, name) in [
            ("Hub:5000", "hub:5000"),
            ("https://index.docker.io/v1/", "docker.io"),
            ("hub:5000/", "hub:5000"),
            ("Hub:5000/team", "hub:5000/team"),
            ("https://hub:5000/team/a/", "hub:5000/team/a"),
            ("docker.io/team", "docker.io/team"),
            ("[0:0:0:0:0:0:0:1]:5000/team", "[::1]:5000/team"),
        ] {
            assert_eq!(Namespace::parse(text).unwrap().to_string(), name, "{text}");
        }
        for (text, said) in [
            ("hub/team/a:v1", "leave out \":v1\""),
            ("hub/Team", "no part of a registry"),
            ("hub//a", "no part of a registry"),
            ("hub:x/team", "port"),
        ] {
            let error = Namespace::parse(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn a_registry_has_one_spelling() {
        assert_eq!(
            Registry::parse("https://index.docker.io/v1/").unwrap().name(),
            "docker.io"
        );
        assert_eq!(Registry::parse("Sea.Hub:5000").unwrap().name(), "sea.hub:5000");
        for one in ["[::1]:5000", "[0:0:0:0:0:0:0:1]:5000", "http://[::0001]:5000/v2/"] {
            assert_eq!(Registry::parse(one).unwrap().name(), "[::1]:5000", "{one}");
        }
        for wrong in [
            "",
            "a b",
            "host:port",
            "https:///x",
            "ho\nst",
            "::1",
            "[::1",
            "[::1]x",
            "[::1]:port",
            "[]",
            "[a.b]:1",
        ] {
            assert!(Registry::parse(wrong).is_err(), "{wrong}");
        }
    }
}
