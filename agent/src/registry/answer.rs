//! What is answered to a request: status, headers and body, as docker's registry answers, and the OCI distribution
//! specification says.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom};
use std::sync::Arc;

use gantry_model::{Digest, RegistryPlaces};
use hyper::body::Bytes;
use hyper::header::{
    ACCEPT_RANGES, ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName,
    HeaderValue, IF_NONE_MATCH, IF_RANGE, LINK, RANGE,
};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Response, StatusCode};
use serde_json::json;

use super::body::{self, Body};
use super::connection::Progress;
use super::listing::{self, Listing, Page};
use super::manifest::{self, Served};
use super::problem::Problem;
use super::range::{self, Wanted};
use super::route::{Reference, Route, is_name};
use super::tree::{Tree, TreeError};

const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const JSON: &str = "application/json; charset=utf-8";
/// What a digest names never changes.
const FOREVER: &str = "max-age=31536000";

/// An answer before it is one of HTTP's.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Text(Bytes),
    /// As many bytes of a file, from where it stands.
    File(File, u64),
}

/// The answer to a request.
pub(super) async fn answer(tree: Tree, request: Parts, progress: Arc<Progress>) -> Response<Body> {
    let head = request.method == Method::HEAD;
    let decided = tokio::task::spawn_blocking(move || decide(&tree, &request)).await;
    let answer = decided.unwrap_or_else(|error| {
        tracing::error!("{error}");
        Err(Problem::of(io::Error::other(error).into(), Problem::no_such_path))
    });
    let answer = answer.unwrap_or_else(|problem| {
        let mut answer = Answer::text(problem.status, JSON, problem.to_text());
        if problem.status == StatusCode::METHOD_NOT_ALLOWED {
            answer
                .headers
                .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        answer
    });
    answer.into_response(head, progress)
}

fn decide(tree: &Tree, request: &Parts) -> Result<Answer, Problem> {
    if request.method != Method::GET && request.method != Method::HEAD {
        return Err(Problem::read_only());
    }
    let query = request.uri.query();
    match Route::of(request.uri.path()) {
        Route::Alive => {
            let mut answer = Answer::text(StatusCode::OK, JSON, String::new());
            answer
                .headers
                .insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
            Ok(answer)
        }
        Route::Base => Ok(Answer::text(StatusCode::OK, JSON, "{}".into())),
        Route::Catalog => Answer::listing(listing::catalog(tree, &Page::of(query))?),
        Route::Tags { name } => Answer::listing(listing::tags(tree, &name, &Page::of(query))?),
        Route::Manifest { name, reference } => {
            let look = |name: &str| manifest(tree, name, &reference, &request.headers);
            match (mirrored(query, &name), &reference) {
                (Some(own), Reference::Tag(tag)) => look(&own).or_else(|problem| {
                    let elsewhere =
                        problem.status == StatusCode::NOT_FOUND && !is_of_another(tree, &name, tag);
                    if elsewhere { look(&name) } else { Err(problem) }
                }),
                (Some(own), Reference::Digest(_)) => in_either(&own, &name, look),
                (None, _) => look(&name),
            }
        }
        Route::Blob { name, digest } => {
            let look = |name: &str| blob(tree, name, &digest, &request.headers);
            match mirrored(query, &name) {
                Some(own) => in_either(&own, &name, look),
                None => look(&name),
            }
        }
        Route::BadDigest => Err(Problem::bad_digest()),
        Route::Nowhere => Err(Problem::no_such_path()),
    }
}

/// Where the tree has the images of the registry that is mirrored, if the question says which one that is (`?ns=`, containerd's
/// docs/hosts.md).
fn mirrored(query: Option<&str>, name: &str) -> Option<String> {
    let mut fields = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let (_, domain) = fields.find(|(field, _)| field == "ns")?;
    let own = RegistryPlaces::in_registry(&domain, name).own;
    own.filter(|own| is_name(own))
}

/// What a digest names is the same wherever it lies: in a registry's own place, or under the path alone.
fn in_either(
    own: &str,
    name: &str,
    look: impl Fn(&str) -> Result<Answer, Problem>,
) -> Result<Answer, Problem> {
    match look(own) {
        Err(problem) if problem.status == StatusCode::NOT_FOUND => look(name),
        answer => answer,
    }
}

/// Whether what lies under the path alone is the image that another registry has in its own place. Images without such places
/// have everything under its path, and it is anybody's.
fn is_of_another(tree: &Tree, name: &str, tag: &str) -> bool {
    let Ok(digest) = tree.tagged(name, tag) else {
        return false;
    };
    let folders = tree.below_repositories(&[]).unwrap_or_default();
    let mut registries = folders
        .iter()
        .filter(|folder| RegistryPlaces::is_registry(folder));
    registries.any(|registry| {
        let other = tree.tagged(&format!("{registry}/{name}"), tag);
        other.is_ok_and(|other| other == digest)
    })
}

fn manifest(tree: &Tree, name: &str, reference: &Reference, headers: &HeaderMap) -> Result<Answer, Problem> {
    let unknown =
        |digest: &Digest| Problem::no_manifest(json!({ "Name": name, "Revision": digest.to_string() }));
    let (mut digest, by_tag) = match reference {
        Reference::Digest(digest) => (*digest, false),
        Reference::Tag(tag) => {
            let unknown = || Problem::no_manifest(json!({ "Tag": tag }));
            let found = tree.tagged(name, tag);
            (found.map_err(|error| Problem::of(error, unknown))?, true)
        }
    };
    if has(headers, &digest) {
        return Ok(Answer::not_modified(&digest));
    }
    let read = |digest: &Digest| {
        let read = tree.manifest(name, digest);
        read.map_err(|error| Problem::of(error, || unknown(digest)))
    };
    let mut bytes = read(&digest)?;
    let media_type = match manifest::serve(&bytes, headers, by_tag)? {
        Served::As(media_type) => media_type,
        Served::Instead(other) => {
            digest = other;
            bytes = read(&digest)?;
            match manifest::serve(&bytes, headers, false)? {
                Served::As(media_type) => media_type,
                Served::Instead(_) => return Err(unknown(&digest)),
            }
        }
    };
    let mut answer = Answer::new(StatusCode::OK, Content::Text(bytes.into()));
    answer
        .headers
        .insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    answer.name(&digest);
    Ok(answer)
}

fn blob(tree: &Tree, name: &str, digest: &Digest, headers: &HeaderMap) -> Result<Answer, Problem> {
    let unknown = || Problem::no_blob(&digest.to_string());
    let failed = |error: TreeError| Problem::of(error, unknown);
    let (mut file, len) = tree.blob(name, digest).map_err(failed)?;
    let forever = (CACHE_CONTROL, HeaderValue::from_static(FOREVER));
    if has(headers, digest) {
        let mut answer = Answer::not_modified(digest);
        answer.headers.extend([(Some(forever.0), forever.1)]);
        return Ok(answer);
    }
    let header = |name| {
        headers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    // Parts of another version would not fit; there is only one version of a blob.
    let same = header(IF_RANGE).is_none_or(|etag| etag == etag_of(digest));
    let wanted = range::wanted(header(RANGE).filter(|_| same), len);
    let mut answer = match wanted {
        Wanted::Whole => Answer::new(StatusCode::OK, Content::File(file, len)),
        Wanted::Part { start, len: part } => {
            file.seek(SeekFrom::Start(start))
                .map_err(|error| failed(error.into()))?;
            let mut answer = Answer::new(StatusCode::PARTIAL_CONTENT, Content::File(file, part));
            answer.set(
                CONTENT_RANGE,
                &format!("bytes {start}-{}/{len}", start + part - 1),
            );
            answer
        }
        Wanted::Unsatisfiable => {
            let text = "invalid range: failed to overlap\n".to_owned();
            let mut answer = Answer::text(
                StatusCode::RANGE_NOT_SATISFIABLE,
                "text/plain; charset=utf-8",
                text,
            );
            answer.set(CONTENT_RANGE, &format!("bytes */{len}"));
            answer
        }
    };
    if wanted != Wanted::Unsatisfiable {
        answer.set(CONTENT_TYPE, "application/octet-stream");
        answer.set(ACCEPT_RANGES, "bytes");
    }
    answer.headers.insert(forever.0, forever.1);
    answer.name(digest);
    Ok(answer)
}

/// Whether the client has what `digest` names already.
fn has(headers: &HeaderMap, digest: &Digest) -> bool {
    let etag = etag_of(digest);
    headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|one| one.trim().trim_start_matches("W/"))
        .any(|one| one == "*" || one == etag || one == etag.trim_matches('"'))
}

fn etag_of(digest: &Digest) -> String {
    format!("\"{digest}\"")
}

impl Answer {
    fn new(status: StatusCode, content: Content) -> Self {
        Self {
            status,
            headers: HeaderMap::new(),
            content,
        }
    }

    fn text(status: StatusCode, media_type: &'static str, text: String) -> Self {
        let mut answer = Self::new(status, Content::Text(text.into()));
        answer
            .headers
            .insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        answer
    }

    fn listing(listing: Listing) -> Result<Self, Problem> {
        let mut answer = Self::text(StatusCode::OK, JSON, listing.text);
        if let Some(next) = listing.next {
            answer.set(LINK, &format!("<{next}>; rel=\"next\""));
        }
        Ok(answer)
    }

    fn not_modified(digest: &Digest) -> Self {
        let mut answer = Self::new(StatusCode::NOT_MODIFIED, Content::Text(Bytes::new()));
        answer.name(digest);
        answer
    }

    /// Says what the content is called.
    fn name(&mut self, digest: &Digest) {
        self.set(CONTENT_DIGEST, &digest.to_string());
        self.set(ETAG, &etag_of(digest));
    }

    /// All values set here are digests, numbers, or were encoded for a URL: legal in a header.
    fn set(&mut self, name: HeaderName, value: &str) {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
    }

    fn into_response(mut self, head: bool, progress: Arc<Progress>) -> Response<Body> {
        self.set(API_VERSION, "registry/2.0");
        let len = match &self.content {
            Content::Text(bytes) => bytes.len() as u64,
            Content::File(_, len) => *len,
        };
        if self.status != StatusCode::NOT_MODIFIED {
            self.headers.insert(CONTENT_LENGTH, len.into());
        }
        let content = match self.content {
            _ if head => body::text(Bytes::new()),
            Content::Text(bytes) => body::text(bytes),
            Content::File(file, len) => body::file(file, len, progress),
        };
        let mut response = Response::new(content);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree::tests::{BLOB, Sample};
    use super::*;
    use http_body_util::BodyExt as _;
    use hyper::Request;

    const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";

    /// Status, headers and body of the answer to METHOD PATH with these headers.
    async fn ask(sample: &Sample, request: &str, headers: &[(&str, &str)]) -> (u16, HeaderMap, Vec<u8>) {
        let (method, path) = request.split_once(' ').unwrap();
        let mut builder = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        let parts = builder.body(()).unwrap().into_parts().0;
        let response = answer(sample.tree(), parts, Arc::new(Progress::new())).await;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes().to_vec();
        (parts.status.as_u16(), parts.headers, bytes)
    }

    #[tokio::test]
    async fn blobs_are_served_whole_in_part_and_by_head() {
        let sample = Sample::new();
        let blob = format!("/v2/hello/blobs/{}", sample.blob);
        let (status, headers, body) = ask(&sample, &format!("GET {blob}"), &[]).await;
        assert_eq!((status, &*body), (200, BLOB));
        assert_eq!(headers["docker-content-digest"], sample.blob.to_string());
        assert_eq!(headers["etag"], format!("\"{}\"", sample.blob));
        assert_eq!(headers["content-type"], "application/octet-stream");
        let (status, headers, body) = ask(&sample, &format!("HEAD {blob}"), &[]).await;
        assert_eq!((status, body.len()), (200, 0));
        assert_eq!(headers["content-length"], "10");
        let (status, headers, body) = ask(&sample, &format!("GET {blob}"), &[("range", "bytes=2-4")]).await;
        assert_eq!((status, &*body), (206, &BLOB[2..5]));
        assert_eq!(headers["content-range"], "bytes 2-4/10");
        let (status, headers, _) = ask(&sample, &format!("GET {blob}"), &[("range", "bytes=10-")]).await;
        assert_eq!(
            (status, &headers["content-range"]),
            (416, &HeaderValue::from_static("bytes */10"))
        );
        let etag = format!("\"{}\"", sample.blob);
        let (status, ..) = ask(&sample, &format!("GET {blob}"), &[("if-none-match", &etag)]).await;
        assert_eq!(status, 304);
        let (status, ..) = ask(
            &sample,
            &format!("GET {blob}"),
            &[("range", "bytes=2-4"), ("if-range", "x")],
        )
        .await;
        assert_eq!(status, 200);
    }

    #[tokio::test]
    async fn a_mirror_has_the_images_of_each_registry_apart() {
        let sample = Sample::new();
        // The image of another registry with the same path and tag.
        sample.tag("registry.lab_5000/hello", "1.0", &sample.index);
        sample.tag("fd00-0-0-0-0-0-0-9.ip6.arpa_5000/hello", "1.0", &sample.index);
        let accepted = format!("{DOCKER}, application/vnd.oci.image.index.v1+json");
        let digest = async |namespace: &str| {
            let request = format!("HEAD /v2/hello/manifests/1.0{namespace}");
            let (status, headers, _) = ask(&sample, &request, &[("accept", &accepted)]).await;
            assert_eq!(status, 200, "{namespace}");
            headers["docker-content-digest"].to_str().unwrap().to_owned()
        };
        assert_eq!(digest("?ns=registry.lab:5000").await, sample.index.to_string());
        assert_eq!(digest("?ns=registry.lab%3A5000").await, sample.index.to_string());
        // As containerd writes it, however the name spells the address.
        for address in ["%5Bfd00%3A%3A9%5D%3A5000", "%5BFD00%3A0%3A%3A9%5D%3A5000"] {
            assert_eq!(
                digest(&format!("?ns={address}")).await,
                sample.index.to_string(),
                "{address}"
            );
        }
        for elsewhere in [
            "",
            "?ns=docker.io",
            "?ns=..",
            "?ns=../../hello",
            "?ns=%5Bfd00%3A%3A8%5D%3A5000",
        ] {
            assert_eq!(digest(elsewhere).await, sample.manifest.to_string());
        }
        let blob = format!("HEAD /v2/hello/blobs/{}?ns=registry.lab:5000", sample.blob);
        assert_eq!(ask(&sample, &blob, &[]).await.0, 200, "by the path alone");

        // By its path alone it is known whose it is: nobody else is given it by a tag.
        let image = "library/nested/deep";
        sample.tag(&format!("docker.io/{image}"), "1.0", &sample.manifest);
        for (reference, namespace, status) in [
            ("1.0", "docker.io", 200),
            ("1.0", "registry.lab:5000", 404),
            ("latest", "registry.lab:5000", 200),
            (&*sample.manifest.to_string(), "registry.lab:5000", 200),
        ] {
            let request = format!("HEAD /v2/{image}/manifests/{reference}?ns={namespace}");
            let (found, ..) = ask(&sample, &request, &[("accept", &accepted)]).await;
            assert_eq!(found, status, "{request}");
        }
    }

    #[tokio::test]
    async fn manifests_are_served_by_tag_and_digest() {
        let sample = Sample::new();
        for reference in ["1.0".to_owned(), sample.manifest.to_string()] {
            let request = format!("GET /v2/library/nested/deep/manifests/{reference}");
            let (status, headers, body) = ask(&sample, &request, &[]).await;
            assert_eq!(status, 200);
            assert_eq!(headers["content-type"], DOCKER);
            assert_eq!(headers["docker-content-digest"], sample.manifest.to_string());
            assert_eq!(Digest::of(&body), sample.manifest);
        }
        let index = ("accept", "application/vnd.oci.image.index.v1+json");
        let (status, headers, body) = ask(&sample, "GET /v2/hello/manifests/all", &[index]).await;
        assert_eq!((status, Digest::of(&body)), (200, sample.index));
        assert_eq!(headers["content-type"], index.1);
    }

    #[tokio::test]
    async fn what_is_not_there_is_said_in_the_specifications_words() {
        let sample = Sample::new();
        let other = Digest::of(b"other");
        for (request, status, code) in [
            ("GET /v2/hello/manifests/nope".to_owned(), 404, "MANIFEST_UNKNOWN"),
            (
                format!("GET /v2/hello/manifests/{other}"),
                404,
                "MANIFEST_UNKNOWN",
            ),
            (format!("GET /v2/hello/blobs/{other}"), 404, "BLOB_UNKNOWN"),
            ("GET /v2/hello/blobs/sha256:1".to_owned(), 400, "DIGEST_INVALID"),
            ("GET /v2/nope/tags/list".to_owned(), 404, "NAME_UNKNOWN"),
            ("GET /v2/../tags/list".to_owned(), 404, "NAME_INVALID"),
            ("PUT /v2/hello/manifests/1.0".to_owned(), 405, "UNSUPPORTED"),
            ("POST /v2/hello/blobs/uploads/".to_owned(), 405, "UNSUPPORTED"),
            (
                format!("DELETE /v2/hello/blobs/{}", sample.blob),
                405,
                "UNSUPPORTED",
            ),
        ] {
            let (found, headers, body) = ask(&sample, &request, &[]).await;
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(
                (found, &body["errors"][0]["code"]),
                (status, &code.into()),
                "{request}"
            );
            assert_eq!(headers.contains_key("allow"), status == 405, "{request}");
        }
        let tree = Tree::new(sample.folder.path().join("nothing"));
        let parts = Request::get("/v2/hello/tags/list")
            .body(())
            .unwrap()
            .into_parts()
            .0;
        let response = answer(tree, parts, Arc::new(Progress::new())).await;
        assert_eq!(response.status(), 503);
    }
}
