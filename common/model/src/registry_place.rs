//! This module owns [`RegistryPlaces`]: where a registry that holds images of other registries has each of them.

use std::net::Ipv6Addr;

use crate::ImageReference;
use crate::image_reference::{host_and_port, ipv6_in_brackets, port_number};

/// Docker Hub, as names say it, and the folder it has for what has no owner.
const DOCKER_HUB: &str = "docker.io";
const DOCKER_HUB_TOO: &str = "index.docker.io";
const DOCKER_LIBRARY: &str = "library";
/// What follows an IPv6 address. Names below it are reserved for addresses (RFC 3596, section 2.5), so no other registry is called so.
const IPV6: &str = ".ip6.arpa";

/// The repositories in which the `registry/` of a ClusterImage has an image.
///
/// ```text
/// nginx:1.25                     docker.io/library/nginx         library/nginx
/// registry.k8s.io/pause:3.9      registry.k8s.io/pause           pause
/// registry.lab:5000/app/web:1    registry.lab_5000/app/web       app/web
/// [fd00::9]:5000/app/web:1       fd00-0-0-0-0-0-0-9.ip6.arpa_5000/app/web
/// ```
///
/// A name of a repository has no `[` and no `::` (the grammar of the distribution project's references), so all eight groups of an
/// IPv6 address are written: however a name spells it, it is one place. containerd says to a mirror which registry it asks for as
/// images name it (`?ns=[fd00::9]:5000`), so the place is found by that, and no name of a folder in its `certs.d` has to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryPlaces {
    /// The one that no image of another registry has: the registry's address, then the path. A port follows a `_`, for a
    /// name of a repository has no `:` (distribution-spec, "Pulling manifests"). None where that makes no name.
    pub own: Option<String>,
    /// The one that mirrors are asked for: the path alone. Images of several registries may have the same.
    pub shared: String,
}

impl RegistryPlaces {
    /// The places of the image that `reference` names. What has no registry is Docker Hub's.
    #[must_use]
    pub fn of(reference: &ImageReference) -> Self {
        Self::in_registry(reference.domain().unwrap_or(DOCKER_HUB), reference.path())
    }

    /// The places of the repository `path` of the registry at `domain`, which may be what containerd says to a mirror
    /// (`?ns=`, containerd's docs/hosts.md).
    #[must_use]
    pub fn in_registry(domain: &str, path: &str) -> Self {
        let is_docker_hub = domain == DOCKER_HUB || domain == DOCKER_HUB_TOO;
        let domain = if is_docker_hub { DOCKER_HUB } else { domain };
        let shared = if is_docker_hub && !path.contains('/') {
            format!("{DOCKER_LIBRARY}/{path}")
        } else {
            path.to_owned()
        };
        Self {
            own: folder(domain)
                .map(|folder| format!("{folder}/{shared}"))
                .filter(|own| own.len() <= ImageReference::MAX_NAME_LEN),
            shared,
        }
    }

    /// Whether `folder`, the first part of a repository's name, stands for a registry.
    #[must_use]
    pub fn is_registry(folder: &str) -> bool {
        folder.contains('.') || folder == "localhost" || port_of(folder).is_some()
    }

    /// The name, without tag, of an image in `repository`: its own place says the registry, the shared one does not.
    #[must_use]
    pub fn name_in(repository: &str) -> String {
        let Some((folder, path)) = repository.split_once('/') else {
            return repository.to_owned();
        };
        let (host, port) = match port_of(folder) {
            Some((host, port)) => (host, format!(":{port}")),
            None => (folder, String::new()),
        };
        match ipv6_of(host) {
            Some(address) => format!("[{address}]{port}/{path}"),
            None => format!("{host}{port}/{path}"),
        }
    }
}

/// Host and port for which `folder` stands, if it has a port. Names of hosts have no `_`.
fn port_of(folder: &str) -> Option<(&str, &str)> {
    let (host, port) = folder.rsplit_once('_')?;
    let is_host = !host.contains('_') && (host.contains('.') || host == "localhost");
    (is_host && port_number(port).is_some()).then_some((host, port))
}

/// The IPv6 address for which `host` stands, if it is one as [`folder`] writes it.
fn ipv6_of(host: &str) -> Option<Ipv6Addr> {
    let address = host.strip_suffix(IPV6)?.replace('-', ":").parse().ok()?;
    (ipv6_host(&address) == host).then_some(address)
}

fn ipv6_host(address: &Ipv6Addr) -> String {
    let groups = address.segments().map(|group| format!("{group:x}"));
    format!("{}{IPV6}", groups.join("-"))
}

/// What stands for the registry at `domain` in names of repositories.
fn folder(domain: &str) -> Option<String> {
    let (host, port) = host_and_port(domain);
    let folder = match (ipv6_in_brackets(host), port) {
        (Some(address), None) => ipv6_host(&address),
        (Some(address), Some(port)) => format!("{}_{port}", ipv6_host(&address)),
        (None, _) => domain.to_ascii_lowercase().replace(':', "_"),
    };
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = folder.as_bytes();
    let ends =
        bytes.first().is_some_and(|byte| plain(*byte)) && bytes.last().is_some_and(|byte| plain(*byte));
    let between = bytes
        .split(|byte| plain(*byte))
        .all(|between| matches!(between, b"" | b"." | b"_") || between.iter().all(|byte| *byte == b'-'));
    (ends && between).then_some(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_registry_has_a_place_of_its_own() {
        for (reference, own, shared) in [
            ("nginx:1.25", "docker.io/library/nginx", "library/nginx"),
            ("index.docker.io/a/b", "docker.io/a/b", "a/b"),
            ("registry.k8s.io/pause:3.9", "registry.k8s.io/pause", "pause"),
            (
                "Registry.Lab:5000/app/web:1",
                "registry.lab_5000/app/web",
                "app/web",
            ),
            ("localhost:5000/web", "localhost_5000/web", "web"),
            (
                "[::1]:5000/app/web:1",
                "0-0-0-0-0-0-0-1.ip6.arpa_5000/app/web",
                "app/web",
            ),
            ("[FD00:0:0::9]/web", "fd00-0-0-0-0-0-0-9.ip6.arpa/web", "web"),
        ] {
            let places = RegistryPlaces::of(&reference.parse().unwrap());
            assert_eq!(places.own.as_deref(), Some(own), "{reference}");
            assert_eq!(places.shared, shared, "{reference}");
            // It is a name as the distribution project has them.
            format!("sea.hub:5000/{own}").parse::<ImageReference>().unwrap();
        }
        let long = format!("registry.lab:5000/{}", "a".repeat(235));
        assert_eq!(
            RegistryPlaces::of(&long.parse().unwrap())
                .own
                .map(|own| own.len()),
            Some(253)
        );
        for domain in [
            "",
            "..",
            "a..b",
            "[::1]:",
            "[::1]:x/../y",
            "[::g]",
            "::1",
            "a/../b",
            "_5000",
        ] {
            assert_eq!(RegistryPlaces::in_registry(domain, "web").own, None, "{domain}");
        }
    }

    #[test]
    fn a_place_of_its_own_says_the_name() {
        for (repository, name) in [
            ("registry.lab_5000/app/web", "registry.lab:5000/app/web"),
            ("localhost_5000/web", "localhost:5000/web"),
            ("docker.io/library/nginx", "docker.io/library/nginx"),
            ("library/nginx", "library/nginx"),
            ("team_7/web", "team_7/web"),
            ("a.b__5000/web", "a.b__5000/web"),
            ("0-0-0-0-0-0-0-1.ip6.arpa_5000/app/web", "[::1]:5000/app/web"),
            ("fd00-0-0-0-0-0-0-9.ip6.arpa/web", "[fd00::9]/web"),
            ("00-0-0-0-0-0-0-1.ip6.arpa/web", "00-0-0-0-0-0-0-1.ip6.arpa/web"),
            ("1-2.ip6.arpa_5000/web", "1-2.ip6.arpa:5000/web"),
        ] {
            assert_eq!(RegistryPlaces::name_in(repository), name);
        }
    }
}
