//! This module owns [`Scope`]: the names that an entry of a policy is about.

use std::fmt;

use gantry_model::{ImageReference, host_and_port, ipv6_in_brackets, port_number};

/// What stands before a name that says no registry, as docker and podman read it.
const DEFAULT_REGISTRY: &str = "docker.io";
/// cosign's own word for [`DEFAULT_REGISTRY`].
const DEFAULT_REGISTRY_OF_COSIGN: &str = "index.docker.io/";
/// What stands before a name of one part there.
const DEFAULT_NAMESPACE: &str = "library";

/// A part of all names: an image, a repository, what lies below a path of one registry, a registry, or the registries of a
/// domain (`*.example.com`). The empty one is every name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Scope(String);

impl Scope {
    /// Reads a scope as people write it; names without a registry mean docker.io, as everywhere.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if let (host, Some(port)) = host_and_port(text)
            && !host.contains(['.', ':'])
            && host != "localhost"
            && is_registry(text)
        {
            return Err(format!(
                "{text:?} may be a registry and a tag: write {DEFAULT_REGISTRY}/{DEFAULT_NAMESPACE}/{host}:{port} for the image, \
                 or {text}/PATH for what lies in the registry"
            ));
        }
        if text.is_empty() || is_registry(text) {
            return Ok(Self(text.to_owned()));
        }
        if let Some(domain) = text.strip_prefix("*.") {
            let plain = is_registry(domain) && !domain.contains(':');
            return if plain {
                Ok(Self(text.to_owned()))
            } else {
                Err(format!("{text:?} is not a domain after \"*.\""))
            };
        }
        // Whether a tag stands there, names say; without one they would be given `latest`.
        let has_tag = text
            .rsplit('/')
            .next()
            .is_some_and(|last| last.contains([':', '@']));
        match text.parse::<ImageReference>() {
            Ok(name) => {
                let text = if has_tag {
                    name.to_string()
                } else {
                    name.name().to_owned()
                };
                // With a registry it may be the beginning of names, which nothing is put into.
                Ok(Self(if name.domain().is_some() {
                    text
                } else {
                    full(&text)
                }))
            }
            Err(error) => Err(error.to_string()),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The scopes that a name is in, the most specific first (containers-policy.json(5), "docker:").
pub(super) fn of(name: &ImageReference) -> impl Iterator<Item = Scope> {
    let repository = full(name.name());
    let mut scopes = Vec::new();
    if let Some(digest) = name.digest() {
        scopes.push(format!("{repository}@{digest}"));
    }
    if let Some(tag) = name.tag() {
        scopes.push(format!("{repository}:{tag}"));
    }
    let mut path = repository.as_str();
    scopes.push(path.to_owned());
    while let Some((above, _)) = path.rsplit_once('/') {
        scopes.push(above.to_owned());
        path = above;
    }
    let host = path.split(':').next().unwrap_or(path);
    let dots = host.match_indices('.').map(|(at, _)| &host[at + 1..]);
    let domains: Vec<String> = dots.map(|domain| format!("*.{domain}")).collect();
    scopes.extend(domains);
    scopes.push(String::new());
    scopes.into_iter().map(Scope)
}

/// A repository in full: as docker and podman compare them.
pub(super) fn full(name: &str) -> String {
    let name = name
        .strip_prefix(DEFAULT_REGISTRY_OF_COSIGN)
        .map_or_else(|| name.to_owned(), |path| format!("{DEFAULT_REGISTRY}/{path}"));
    let (first, has_more) = name
        .split_once('/')
        .map_or((&*name, false), |(first, _)| (first, true));
    let path = match first {
        DEFAULT_REGISTRY if has_more => name[DEFAULT_REGISTRY.len() + 1..].to_owned(),
        registry if has_more && is_registry(registry) => return name,
        _ => name,
    };
    if path.contains('/') {
        format!("{DEFAULT_REGISTRY}/{path}")
    } else {
        format!("{DEFAULT_REGISTRY}/{DEFAULT_NAMESPACE}/{path}")
    }
}

/// Whether a text without `/` is a registry: a name with a dot or a port, `localhost`, or an IPv6 address in brackets.
fn is_registry(text: &str) -> bool {
    let (host, port) = host_and_port(text);
    let is_ipv6 = ipv6_in_brackets(host).is_some();
    let host_is_one = is_ipv6
        || host
            .split('.')
            .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
    let port_is_one = port.is_none_or(|port| port_number(port).is_some());
    host_is_one && port_is_one && (is_ipv6 || port.is_some() || host.contains('.') || host == "localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_comes_first() {
        let name = "sea.hub.example:5000/team/demo:v1".parse().unwrap();
        let scopes: Vec<_> = of(&name).map(|scope| scope.to_string()).collect();
        assert_eq!(
            scopes,
            [
                "sea.hub.example:5000/team/demo:v1",
                "sea.hub.example:5000/team/demo",
                "sea.hub.example:5000/team",
                "sea.hub.example:5000",
                "*.hub.example",
                "*.example",
                ""
            ]
        );
    }

    #[test]
    fn short_names_and_long_ones_are_the_same() {
        for (short, long) in [
            ("demo", "docker.io/library/demo"),
            ("team/demo", "docker.io/team/demo"),
            ("docker.io/demo", "docker.io/library/demo"),
            ("index.docker.io/library/demo", "docker.io/library/demo"),
            ("localhost/demo", "localhost/demo"),
            ("hub:5000/demo", "hub:5000/demo"),
            ("[::1]:5000/demo", "[::1]:5000/demo"),
            ("[::1]/demo", "[::1]/demo"),
        ] {
            assert_eq!(full(short), long);
            assert_eq!(full(long), long);
        }
        let name = "demo:v1".parse().unwrap();
        for text in [
            "demo:v1",
            "demo",
            "docker.io/library/demo",
            "docker.io/library",
            "docker.io",
            "",
        ] {
            let scope = Scope::parse(text).unwrap();
            assert!(of(&name).any(|one| one == scope), "{text}");
        }
    }

    #[test]
    fn what_is_no_scope_is_refused() {
        for text in [
            "Demo",
            "*.",
            "*.hub:5000",
            "a//b",
            "hub.example/a:",
            "/a",
            "kubernetes:131",
        ] {
            assert!(Scope::parse(text).is_err(), "{text}");
        }
        for text in [
            "hub.example:5000",
            "[::1]:5000",
            "[2001:db8::5]",
            "[::1]:5000/team/a:v1",
            "hub:5000/a",
            "localhost:5000",
            "localhost",
            "hub.example/a/b@sha256:0000000000000000000000000000000000000000000000000000000000000000",
        ] {
            assert_eq!(Scope::parse(text).unwrap().to_string(), text);
        }
    }
}
