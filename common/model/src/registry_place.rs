//! This module owns [`RegistryPlaces`]: where a registry that holds images of other registries has each of them.

use crate::ImageReference;

/// Docker Hub, as names say it, and the folder it has for what has no owner.
const DOCKER_HUB: &str = "docker.io";
const DOCKER_HUB_TOO: &str = "index.docker.io";
const DOCKER_LIBRARY: &str = "library";

/// The repositories in which the `registry/` of a ClusterImage has an image.
///
/// ```text
/// nginx:1.25                     docker.io/library/nginx         library/nginx
/// registry.k8s.io/pause:3.9      registry.k8s.io/pause           pause
/// registry.lab:5000/app/web:1    registry.lab_5000/app/web       app/web
/// ```
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
        let split = repository.split_once('/');
        match split.and_then(|(folder, path)| Some((port_of(folder)?, path))) {
            Some(((host, port), path)) => format!("{host}:{port}/{path}"),
            None => repository.to_owned(),
        }
    }
}

/// Host and port for which `folder` stands, if it has a port. Names of hosts have no `_`.
fn port_of(folder: &str) -> Option<(&str, &str)> {
    let (host, port) = folder.rsplit_once('_')?;
    let is_host = !host.contains('_') && (host.contains('.') || host == "localhost");
    (is_host && port.parse::<u16>().is_ok()).then_some((host, port))
}

/// What stands for the registry at `domain` in names of repositories.
fn folder(domain: &str) -> Option<String> {
    let folder = domain.to_ascii_lowercase().replace(':', "_");
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
        ] {
            let places = RegistryPlaces::of(&reference.parse().unwrap());
            assert_eq!(places.own.as_deref(), Some(own), "{reference}");
            assert_eq!(places.shared, shared, "{reference}");
        }
        let long = format!("registry.lab:5000/{}", "a".repeat(235));
        assert_eq!(
            RegistryPlaces::of(&long.parse().unwrap())
                .own
                .map(|own| own.len()),
            Some(253)
        );
        for domain in ["", "..", "a..b", "[::1]:5000", "a/../b", "_5000"] {
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
        ] {
            assert_eq!(RegistryPlaces::name_in(repository), name);
        }
    }
}
