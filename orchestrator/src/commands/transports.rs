//! Names of images as skopeo, podman and buildah write them: with where the image lies before the name (containers-transports(5)).

use gantry_model::ImageReference;

/// Stands before an image in a registry.
const REGISTRY: &str = "docker://";

/// Where else an image may lie; what brings it into the store from there, and what brings it there.
const ELSEWHERE: [(&str, &str, &str); 6] = [
    ("oci-archive:", LOAD_FILE, "`gantry save -o FILE IMAGE`"),
    (
        "docker-archive:",
        LOAD_FILE,
        "`gantry save --format docker-archive -o FILE IMAGE`",
    ),
    (
        "oci:",
        LOAD_FOLDER,
        "`gantry save --format oci-dir -o FOLDER IMAGE`",
    ),
    (
        "dir:",
        LOAD_FOLDER,
        "`gantry save --format docker-dir -o FOLDER IMAGE`",
    ),
    (
        "containers-storage:",
        "`podman save -o FILE IMAGE`, then `gantry load FILE`",
        "`gantry save -o FILE IMAGE`, then `podman load -i FILE`",
    ),
    (
        "docker-daemon:",
        "`docker save -o FILE IMAGE`, then `gantry load FILE`",
        "`gantry save --format docker-archive -o FILE IMAGE`, then `docker load -i FILE`",
    ),
];
const LOAD_FILE: &str = "`gantry load FILE`";
const LOAD_FOLDER: &str = "`gantry load FOLDER`";

/// The image in a registry that is to be brought from there.
///
/// # Errors
/// When `text` is no name, or one of an image that lies elsewhere, with what brings it from there.
pub(super) fn from_registry(text: &str) -> Result<ImageReference, String> {
    match elsewhere(text) {
        Some((place, from, _)) => Err(format!("{place} is no registry: {from} brings the image in")),
        None => in_registry(text),
    }
}

/// The image in a registry that something is to become.
///
/// # Errors
/// When `text` is no name, or one of an image that lies elsewhere, with what brings it there.
pub(super) fn to_registry(text: &str) -> Result<ImageReference, String> {
    match elsewhere(text) {
        Some((place, _, to)) => Err(format!("{place} is no registry: {to} brings the image there")),
        None => in_registry(text),
    }
}

/// The name or id of an image in the store, where `dir:v1` is one.
///
/// # Errors
/// When it is named where it lies elsewhere, with what brings it from there.
pub(super) fn in_store(text: &str) -> Result<String, String> {
    if let Some(name) = text.strip_prefix(REGISTRY) {
        return Err(format!(
            "what is looked into is in the store: `gantry pull {name}` brings it in, and it is {name} there"
        ));
    }
    match elsewhere(text) {
        Some((_, from, _)) if text.parse::<ImageReference>().is_err() => Err(format!(
            "what is looked into is in the store: {from} brings it in"
        )),
        _ => Ok(text.to_owned()),
    }
}

fn in_registry(text: &str) -> Result<ImageReference, String> {
    let name = text.strip_prefix(REGISTRY).unwrap_or(text);
    name.parse().map_err(|error| format!("{error}"))
}

/// The entry of the table that `text` begins with, unless that is a registry with a port: `oci:5000/a`.
fn elsewhere(text: &str) -> Option<&'static (&'static str, &'static str, &'static str)> {
    let is_registry = |name: ImageReference| name.domain().is_some();
    let found = ELSEWHERE.iter().find(|(place, ..)| text.starts_with(place));
    found.filter(|_| !text.parse().is_ok_and(is_registry))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_meant_with_and_without_its_transport() {
        for text in ["docker://hub:5000/a:v1", "hub:5000/a:v1"] {
            assert_eq!(from_registry(text).unwrap().to_string(), "hub:5000/a:v1");
            assert_eq!(to_registry(text).unwrap().to_string(), "hub:5000/a:v1");
        }
        assert_eq!(
            from_registry("docker://nginx").unwrap().to_string(),
            "nginx:latest"
        );
        assert_eq!(
            from_registry("oci:5000/a").unwrap().to_string(),
            "oci:5000/a:latest"
        );
        for name in ["oci:5000/a", "dir:v1", "sha256:12"] {
            assert_eq!(in_store(name).unwrap(), name);
        }
        assert!(
            from_registry("docker://Hub/A")
                .unwrap_err()
                .contains("\"Hub/A\" is not an image name")
        );
    }

    #[test]
    fn what_lies_elsewhere_is_told_what_reads_and_writes_it() {
        for (place, from, to) in ELSEWHERE {
            for name in ["out", "/tmp/out:v1", "hub:5000/a:v1"] {
                let text = format!("{place}{name}");
                assert!(from_registry(&text).unwrap_err().contains(from), "{text}");
                assert!(to_registry(&text).unwrap_err().contains(to), "{text}");
                let inspected = in_store(&text);
                assert!(name == "out" || inspected.unwrap_err().contains(from), "{text}");
            }
        }
        assert!(
            in_store("docker://hub/a:v1")
                .unwrap_err()
                .contains("`gantry pull hub/a:v1`")
        );
    }
}
