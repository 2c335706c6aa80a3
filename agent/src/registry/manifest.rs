//! What kind of manifest some bytes are, and whether a client takes that kind.

use gantry_model::Digest;
use hyper::HeaderMap;
use hyper::header::ACCEPT;
use serde::Deserialize;

use super::problem::Problem;

const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_SCHEMA_1: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";

/// What is read of a manifest.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    #[serde(default)]
    schema_version: u32,
    #[serde(default)]
    media_type: String,
    manifests: Option<Vec<Entry>>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    digest: Digest,
    platform: Option<Platform>,
}

#[derive(Debug, Deserialize)]
struct Platform {
    os: String,
    architecture: String,
}

/// What to answer with a manifest.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Served {
    /// It, as this media type.
    As(&'static str),
    /// The manifest of this digest in its place: the client knows no lists.
    Instead(Digest),
}

/// How a client with these `headers` is served the manifest `bytes`. Lists are resolved only when asked for `by_tag`:
/// by digest something else would not be what was named.
///
/// # Errors
/// When the client does not take it, or it is no manifest.
pub(super) fn serve(bytes: &[u8], headers: &HeaderMap, by_tag: bool) -> Result<Served, Problem> {
    let manifest: Manifest = serde_json::from_slice(bytes).map_err(|error| {
        tracing::error!("a manifest in the registry's tree makes no sense: {error}");
        Problem::no_manifest(serde_json::json!({}))
    })?;
    let media_type = match (manifest.schema_version, &*manifest.media_type) {
        (1, _) => DOCKER_SCHEMA_1,
        (_, DOCKER_MANIFEST) => DOCKER_MANIFEST,
        (_, DOCKER_LIST) => DOCKER_LIST,
        (_, OCI_INDEX) => OCI_INDEX,
        // OCI leaves it out at will.
        (_, "") if manifest.manifests.is_some() => OCI_INDEX,
        _ => OCI_MANIFEST,
    };
    match media_type {
        OCI_MANIFEST if !accepts(headers, OCI_MANIFEST) => Err(Problem::not_acceptable(
            "OCI manifest found, but accept header does not support OCI manifests",
        )),
        // One that does not name its own type goes to everybody, as from docker's registry.
        OCI_INDEX if !manifest.media_type.is_empty() && !accepts(headers, OCI_INDEX) => Err(
            Problem::not_acceptable("OCI index found, but accept header does not support OCI indexes"),
        ),
        DOCKER_LIST if by_tag && !accepts(headers, DOCKER_LIST) => {
            let entries = manifest.manifests.unwrap_or_default();
            let of_this_host = entries.iter().find(|entry| {
                entry
                    .platform
                    .as_ref()
                    .is_some_and(|platform| platform.os == "linux" && platform.architecture == architecture())
            });
            of_this_host
                .map(|entry| Served::Instead(entry.digest))
                .ok_or_else(|| Problem::no_manifest(serde_json::json!({})))
        }
        media_type => Ok(Served::As(media_type)),
    }
}

/// Whether a client names `media_type` as one it takes. As with docker's registry, wildcards do not count: clients that
/// send them alone know no OCI images.
fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|one| one.split(';').next())
        .any(|one| one.trim().eq_ignore_ascii_case(media_type))
}

/// This host's, in OCI words.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    fn taking(media_types: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for media_type in media_types {
            headers.append(ACCEPT, HeaderValue::from_str(media_type).unwrap());
        }
        headers
    }

    #[test]
    fn a_client_gets_what_it_takes() {
        let oci = br#"{"schemaVersion":2,"config":{},"layers":[]}"#;
        assert_eq!(
            serve(
                oci,
                &taking(&["text/html, application/vnd.oci.image.manifest.v1+json;q=0.5"]),
                true
            ),
            Ok(Served::As(OCI_MANIFEST))
        );
        assert!(serve(oci, &taking(&[DOCKER_MANIFEST, "*/*"]), true).is_err());
        let index =
            br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
        assert_eq!(
            serve(index, &taking(&[DOCKER_MANIFEST, OCI_INDEX]), true),
            Ok(Served::As(OCI_INDEX))
        );
        assert!(serve(index, &taking(&[OCI_MANIFEST]), true).is_err());
        let untyped = br#"{"schemaVersion":2,"manifests":[]}"#;
        assert_eq!(
            serve(untyped, &taking(&[OCI_MANIFEST]), true),
            Ok(Served::As(OCI_INDEX))
        );
        let docker = format!(r#"{{"schemaVersion":2,"mediaType":"{DOCKER_MANIFEST}"}}"#);
        assert_eq!(
            serve(docker.as_bytes(), &taking(&[]), true),
            Ok(Served::As(DOCKER_MANIFEST))
        );
        assert!(serve(b"no JSON", &taking(&[]), true).is_err());
    }

    #[test]
    fn a_client_without_lists_gets_the_manifest_for_this_host() {
        let digest = Digest::of(b"ours");
        let list = format!(
            r#"{{"schemaVersion":2,"mediaType":"{DOCKER_LIST}","manifests":[
                {{"digest":"{}","platform":{{"os":"linux","architecture":"s390x"}}}},
                {{"digest":"{digest}","platform":{{"os":"linux","architecture":"{}"}}}}]}}"#,
            Digest::of(b"another"),
            architecture()
        );
        let list = list.as_bytes();
        assert_eq!(
            serve(list, &taking(&[DOCKER_MANIFEST]), true),
            Ok(Served::Instead(digest))
        );
        assert_eq!(
            serve(list, &taking(&[DOCKER_MANIFEST]), false),
            Ok(Served::As(DOCKER_LIST))
        );
        assert_eq!(
            serve(list, &taking(&[DOCKER_LIST]), true),
            Ok(Served::As(DOCKER_LIST))
        );
    }
}
