//! This module owns [`Route`]: what the path of a request names. Whatever is not exactly a name, a tag or a digest leads
//! nowhere, so that no path leads out of the tree.

use gantry_model::Digest;
use percent_encoding::percent_decode_str;

/// Longest path of a request, in bytes, and longest name of a repository, as docker's registry has it.
const MAX_PATH_LEN: usize = 1024;
const MAX_NAME_LEN: usize = 255;
/// Longest tag.
const MAX_TAG_LEN: usize = 128;

/// What the path of a request names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    /// `/`: what health checks ask for.
    Alive,
    /// `/v2/`: whether this is a registry.
    Base,
    /// `/v2/_catalog`: the names of all repositories.
    Catalog,
    /// `/v2/NAME/tags/list`.
    Tags {
        /// The repository.
        name: String,
    },
    /// `/v2/NAME/manifests/REFERENCE`.
    Manifest {
        /// The repository.
        name: String,
        /// Tag or digest.
        reference: Reference,
    },
    /// `/v2/NAME/blobs/DIGEST`.
    Blob {
        /// The repository.
        name: String,
        /// The blob.
        digest: Digest,
    },
    /// Something with a digest that is none.
    BadDigest,
    /// Nothing.
    Nowhere,
}

/// What names a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reference {
    /// A tag.
    Tag(String),
    /// A digest.
    Digest(Digest),
}

impl Route {
    /// What `path` names.
    pub(super) fn of(path: &str) -> Self {
        if path.len() > MAX_PATH_LEN {
            return Self::Nowhere;
        }
        let Ok(path) = percent_decode_str(path).decode_utf8() else {
            return Self::Nowhere;
        };
        match &*path {
            "/" => return Self::Alive,
            "/v2/" => return Self::Base,
            "/v2/_catalog" => return Self::Catalog,
            _ => {}
        }
        let Some(segments) = path.strip_prefix("/v2/") else {
            return Self::Nowhere;
        };
        let segments: Vec<&str> = segments.split('/').collect();
        let [name @ .., kind, last] = &segments[..] else {
            return Self::Nowhere;
        };
        let name = name.join("/");
        if !is_name(&name) {
            return Self::Nowhere;
        }
        match (*kind, *last) {
            ("tags", "list") => Self::Tags { name },
            ("manifests", last) if last.contains(':') => match last.parse() {
                Ok(digest) => Self::Manifest {
                    name,
                    reference: Reference::Digest(digest),
                },
                Err(_) => Self::BadDigest,
            },
            ("manifests", last) if is_tag(last) => Self::Manifest {
                name,
                reference: Reference::Tag(last.to_owned()),
            },
            ("blobs", last) => match last.parse() {
                Ok(digest) => Self::Blob { name, digest },
                Err(_) if last.is_empty() => Self::Nowhere,
                Err(_) => Self::BadDigest,
            },
            _ => Self::Nowhere,
        }
    }
}

/// Whether `name` can be a repository's: parts of small letters and digits, with `.`, `_`, `__` or any number of `-`
/// between them.
pub(super) fn is_name(name: &str) -> bool {
    name.len() <= MAX_NAME_LEN && name.split('/').all(is_part)
}

fn is_part(part: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = part.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    plain(*first)
        && plain(*last)
        && bytes.split(|byte| plain(*byte)).all(|between| {
            matches!(between, b"" | b"." | b"_" | b"__") || between.iter().all(|byte| *byte == b'-')
        })
}

/// Whether `tag` can be a tag.
pub(super) fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let bytes = tag.as_bytes();
    bytes.len() <= MAX_TAG_LEN
        && bytes.first().is_some_and(|first| word(*first))
        && bytes
            .iter()
            .all(|byte| word(*byte) || matches!(byte, b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DIGEST: &str = "sha256:962f4e51bb2ed86874d2363ad7c7984b8914aa50ab94e3ef0bb1b32fb2a369d4";

    #[test]
    fn paths_name_what_the_specification_says() {
        let name = || "library/my-app__x".to_owned();
        let digest: Digest = DIGEST.parse().unwrap();
        for (path, expected) in [
            ("/", Route::Alive),
            ("/v2/", Route::Base),
            ("/v2/_catalog", Route::Catalog),
            ("/v2/library/my-app__x/tags/list", Route::Tags { name: name() }),
            (
                "/v2/library/my-app__x/manifests/V1.0_-",
                Route::Manifest {
                    name: name(),
                    reference: Reference::Tag("V1.0_-".into()),
                },
            ),
            (
                &format!("/v2/library/my-app__x/manifests/{DIGEST}"),
                Route::Manifest {
                    name: name(),
                    reference: Reference::Digest(digest),
                },
            ),
            (
                &format!("/v2/library/my-app__x/blobs/{}", DIGEST.replace(':', "%3A")),
                Route::Blob { name: name(), digest },
            ),
            // A repository may be called like this.
            (
                "/v2/tags/list/tags/list",
                Route::Tags {
                    name: "tags/list".into(),
                },
            ),
        ] {
            assert_eq!(Route::of(path), expected, "{path}");
        }
    }

    #[test]
    fn what_is_no_name_leads_nowhere() {
        for path in [
            "",
            "/v2",
            "/v3/",
            "/v2/../../etc/passwd",
            "/v2/hello/../hello/tags/list",
            "/v2/%2e%2e/manifests/x",
            "/v2/hello%2f..%2fhello/tags/list",
            "/v2/hello/manifests/..",
            "/v2/hello/manifests/.hidden",
            "/v2/hello/manifests/a%2Fb",
            "/v2//hello/tags/list",
            "/v2/UPPER/tags/list",
            "/v2/-hello/tags/list",
            "/v2/he..llo/tags/list",
            "/v2/hello/tags/list/",
            "/v2/_manifests/tags/list",
            "/v2/hello%00/tags/list",
            "/v2/hello/blobs/uploads/",
        ] {
            assert_eq!(Route::of(path), Route::Nowhere, "{path}");
        }
        for path in [
            "/v2/hello/blobs/sha256:xyz",
            "/v2/hello/manifests/sha256:abcd",
            "/v2/hello/blobs/..",
        ] {
            assert_eq!(Route::of(path), Route::BadDigest, "{path}");
        }
    }

    proptest! {
        #[test]
        fn no_route_has_a_name_that_leads_out(path in "/v2/[a-z./%2eE_:-]{0,40}/(tags/list|manifests/[.a-z%/]{0,8})") {
            match Route::of(&path) {
                Route::Tags { name } | Route::Manifest { name, reference: Reference::Tag(_) } => {
                    prop_assert!(name.split('/').all(|part| !part.is_empty() && !part.starts_with(['.', '_'])));
                }
                _ => {}
            }
        }
    }
}
