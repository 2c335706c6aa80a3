//! A small registry in this process that counts what it is asked, and lies, stumbles and cuts where a test says so.

#![allow(dead_code, reason = "every test uses its own part")]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use gantry_model::{Digest, ImageReference};
use gantry_registry_client::{Event, Places, RegistryClient, RetryPolicy, Settings};
use gantry_store::manifest::RootFs;
use gantry_store::{Descriptor, ImageConfig, LayerOptions, NewImage, Platform, Store, layer_from_tree};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// One request, as the registry saw it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
    pub(crate) range: Option<String>,
    pub(crate) body_len: usize,
}

/// What the registry does instead of answering well.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// This status, with these headers.
    Status(u16, Vec<(&'static str, String)>),
    /// This body instead of the right one.
    Body(Vec<u8>),
    /// One bit of the right body is wrong.
    Flip,
    /// The body ends after so many bytes, with the connection.
    Cut(usize),
    /// The body never ends.
    Endless,
    /// This body, and where the next page is (`Link`).
    Page(String, String),
    /// There is no such thing, and why never ends.
    EndlessRefusal,
    /// An upload is taken in part, then the connection ends.
    Swallow(usize),
}

type Faults = Box<dyn FnMut(&Seen) -> Option<Fault> + Send>;

#[derive(Default)]
struct State {
    blobs: BTreeMap<String, Bytes>,
    manifests: BTreeMap<String, (String, Bytes)>,
    uploads: BTreeMap<String, Vec<u8>>,
    seen: Vec<Seen>,
    faults: Option<Faults>,
    /// `realm` of a token server; then every request needs its token.
    realm: Option<String>,
    basic: Option<String>,
}

/// The registry; it ends with the test's runtime.
#[derive(Clone)]
pub(crate) struct FakeRegistry {
    state: Arc<Mutex<State>>,
    pub(crate) host: String,
}

impl FakeRegistry {
    pub(crate) async fn start() -> Self {
        Self::start_at("127.0.0.1:0").await
    }

    pub(crate) async fn start_at(address: &str) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let registry = Self {
            state: Arc::default(),
            host,
        };
        registry.serve(listener);
        registry
    }

    /// The same registry at another address, too.
    pub(crate) async fn serve_at(&self, address: &str) {
        self.serve(TcpListener::bind(address).await.unwrap());
    }

    fn serve(&self, listener: TcpListener) {
        let served = self.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let served = served.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| {
                        let served = served.clone();
                        async move { Ok::<_, Infallible>(served.answer(request).await) }
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// What goes wrong from now on.
    pub(crate) fn faults(&self, faults: impl FnMut(&Seen) -> Option<Fault> + Send + 'static) {
        self.state().faults = Some(Box::new(faults));
    }

    /// Everything that was asked since the last call.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.state().seen)
    }

    pub(crate) fn want_token_of(&self, realm: String) {
        self.state().realm = Some(realm);
    }

    pub(crate) fn want_password(&self, header: &str) {
        self.state().basic = Some(header.to_owned());
    }

    pub(crate) fn manifest(&self, path: &str) -> Option<Bytes> {
        self.state().manifests.get(path).map(|(_, bytes)| bytes.clone())
    }

    pub(crate) fn set_manifest(
        &self,
        repository: &str,
        reference: &str,
        kind: &str,
        bytes: impl Into<Bytes>,
    ) {
        let (path, bytes) = (format!("{repository}/manifests/{reference}"), bytes.into());
        let by_digest = format!("{repository}/manifests/{}", Digest::of(&bytes));
        let mut state = self.state();
        state
            .manifests
            .insert(by_digest, (kind.to_owned(), bytes.clone()));
        state.manifests.insert(path, (kind.to_owned(), bytes));
    }

    /// What it answers when a manifest is asked for by this digest, whatever that is the digest of.
    pub(crate) fn set_lie(&self, repository: &str, digest: &Digest, kind: &str, bytes: impl Into<Bytes>) {
        let path = format!("{repository}/manifests/{digest}");
        self.state()
            .manifests
            .insert(path, (kind.to_owned(), bytes.into()));
    }

    pub(crate) fn set_blob(&self, repository: &str, bytes: impl Into<Bytes>) -> Digest {
        let bytes = bytes.into();
        let digest = Digest::of(&bytes);
        self.state()
            .blobs
            .insert(format!("{repository}/blobs/{digest}"), bytes);
        digest
    }

    pub(crate) fn blob_len(&self, digest: &Digest) -> Option<usize> {
        let wanted = digest.to_string();
        let state = self.state();
        let found = state.blobs.iter().find(|(path, _)| path.ends_with(&wanted));
        found.map(|(_, bytes)| bytes.len())
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let header = |name: &str| Some(parts.headers.get(name)?.to_str().unwrap().to_owned());
        let path = parts.uri.path_and_query().unwrap().to_string();
        let mut seen = Seen {
            method: parts.method.to_string(),
            path: path.clone(),
            authorization: header("authorization"),
            range: header("range"),
            body_len: 0,
        };
        let fault = {
            let mut state = self.state();
            let faults = state.faults.as_mut();
            faults.and_then(|faults| faults(&seen))
        };
        if let Some(Fault::Swallow(limit)) = fault {
            let taken = take(body, limit).await;
            let upload = parts.uri.path().rsplit('/').next().unwrap_or_default().to_owned();
            let mut state = self.state();
            seen.body_len = taken.len();
            state.uploads.entry(upload).or_default().extend(taken);
            state.seen.push(seen);
            return broken(Bytes::new(), 1);
        }
        let body = body
            .collect()
            .await
            .map(http_body_util::Collected::to_bytes)
            .unwrap_or_default();
        seen.body_len = body.len();
        self.state().seen.push(seen.clone());
        let right = self.right_answer(&parts.method, &path, &seen, &body);
        match fault {
            None | Some(Fault::Swallow(_)) => right,
            Some(Fault::Status(status, headers)) => {
                let mut answer = Response::builder().status(status);
                for (name, value) in headers {
                    answer = answer.header(name, value);
                }
                answer
                    .body(full(Bytes::from_static(
                        b"{\"errors\":[{\"code\":\"TEST\",\"message\":\"as the test says\"}]}",
                    )))
                    .unwrap()
            }
            Some(Fault::Body(bytes)) => {
                let (parts, _) = right.into_parts();
                let mut answer = Response::new(full(bytes.into()));
                *answer.status_mut() = parts.status;
                for name in ["content-type", "docker-content-digest"] {
                    if let Some(value) = parts.headers.get(name) {
                        answer
                            .headers_mut()
                            .insert(hyper::header::HeaderName::from_static(name), value.clone());
                    }
                }
                answer
            }
            Some(Fault::Flip) => {
                let (parts, body) = right.into_parts();
                let mut bytes = body.collect().await.unwrap().to_bytes().to_vec();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                Response::from_parts(parts, full(bytes.into()))
            }
            Some(Fault::Cut(len)) => {
                let (parts, body) = right.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                let cut = broken(body.slice(..len.min(body.len())), body.len());
                let (mut new, body) = cut.into_parts();
                new.status = parts.status;
                for (name, value) in &parts.headers {
                    new.headers.insert(name, value.clone());
                }
                Response::from_parts(new, body)
            }
            Some(Fault::Page(body, next)) => Response::builder()
                .header("link", next)
                .body(full(body.into()))
                .unwrap(),
            Some(Fault::Endless) => Response::new(endless()),
            Some(Fault::EndlessRefusal) => Response::builder().status(404).body(endless()).unwrap(),
        }
    }

    fn right_answer(&self, method: &Method, path: &str, seen: &Seen, body: &Bytes) -> Response<Body> {
        let state = &mut *self.state();
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let query: BTreeMap<_, _> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
        let status = |code: u16| Response::builder().status(code);
        let empty = || full(Bytes::new());
        if path == "/token" {
            let scopes = seen.path.matches("scope=").count();
            return Response::new(full(Bytes::from(format!(
                "{{\"token\":\"token-{scopes}\",\"expires_in\":300}}"
            ))));
        }
        if let Some(realm) = &state.realm
            && !seen
                .authorization
                .as_ref()
                .is_some_and(|header| header.starts_with("Bearer token-"))
        {
            let challenge = format!("Bearer realm=\"{realm}\",service=\"test\"");
            return status(401)
                .header("www-authenticate", challenge)
                .body(empty())
                .unwrap();
        }
        if state.basic.is_some() && state.basic != seen.authorization {
            return status(401)
                .header("www-authenticate", "Basic realm=\"test\"")
                .body(empty())
                .unwrap();
        }
        let Some(rest) = path.strip_prefix("/v2/") else {
            return status(404).body(empty()).unwrap();
        };
        if rest.is_empty() {
            return status(200).body(empty()).unwrap();
        }
        if rest.contains("/manifests/") {
            if *method == Method::PUT {
                let (repository, reference) = rest.split_once("/manifests/").unwrap();
                let digest = format!("{repository}/manifests/{}", Digest::of(body));
                let value = (
                    "application/vnd.oci.image.manifest.v1+json".to_owned(),
                    body.clone(),
                );
                state.manifests.insert(digest, value.clone());
                state
                    .manifests
                    .insert(format!("{repository}/manifests/{reference}"), value);
                return status(201).body(empty()).unwrap();
            }
            return match state.manifests.get(rest) {
                None => status(404).body(empty()).unwrap(),
                Some((kind, bytes)) => status(200)
                    .header("content-type", kind)
                    .header("docker-content-digest", Digest::of(bytes).to_string())
                    .body(full(bytes.clone()))
                    .unwrap(),
            };
        }
        if let Some((repository, upload)) = rest.split_once("/blobs/uploads/") {
            return upload_answer(state, method, repository, upload, &query, body);
        }
        let Some(bytes) = state.blobs.get(rest) else {
            return status(404).body(empty()).unwrap();
        };
        let from: Option<usize> = seen
            .range
            .as_ref()
            .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        match from {
            Some(from) if from < bytes.len() => status(206)
                .header(
                    "content-range",
                    format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len()),
                )
                .body(full(bytes.slice(from..)))
                .unwrap(),
            Some(_) => status(416).body(empty()).unwrap(),
            None => status(200).body(full(bytes.clone())).unwrap(),
        }
    }
}

fn upload_answer(
    state: &mut State,
    method: &Method,
    repository: &str,
    upload: &str,
    query: &BTreeMap<&str, &str>,
    body: &Bytes,
) -> Response<Body> {
    let answer = |status: u16, upload: &str, len: usize| {
        Response::builder()
            .status(status)
            .header("location", format!("/v2/{repository}/blobs/uploads/{upload}"))
            .header("range", format!("0-{}", len.saturating_sub(1)))
            .body(full(Bytes::new()))
            .unwrap()
    };
    match *method {
        Method::POST => {
            if let (Some(digest), Some(from)) = (query.get("mount"), query.get("from")) {
                let digest = digest.replace("%3A", ":");
                let from = format!("{}/blobs/{digest}", from.replace("%2F", "/"));
                if let Some(bytes) = state.blobs.get(&from).cloned() {
                    state.blobs.insert(format!("{repository}/blobs/{digest}"), bytes);
                    return answer(201, &digest, 0);
                }
            }
            let name = format!("u{}", state.uploads.len());
            state.uploads.insert(name.clone(), Vec::new());
            answer(202, &name, 0)
        }
        Method::PATCH => {
            let so_far = state.uploads.entry(upload.to_owned()).or_default();
            so_far.extend(body);
            let len = so_far.len();
            answer(202, upload, len)
        }
        Method::GET => match state.uploads.get(upload) {
            Some(so_far) => answer(204, upload, so_far.len()),
            None => Response::builder().status(404).body(full(Bytes::new())).unwrap(),
        },
        Method::PUT => {
            let mut bytes = state.uploads.remove(upload).unwrap_or_default();
            bytes.extend(body);
            let digest = query["digest"].replace("%3A", ":");
            if Digest::of(&bytes).to_string() != digest {
                return Response::builder().status(400).body(full(Bytes::new())).unwrap();
            }
            state
                .blobs
                .insert(format!("{repository}/blobs/{digest}"), bytes.into());
            answer(201, upload, 0)
        }
        _ => Response::builder().status(405).body(full(Bytes::new())).unwrap(),
    }
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

fn endless() -> Body {
    let piece = Bytes::from(vec![b' '; 64 << 10]);
    StreamBody::new(stream::repeat_with(move || Ok(Frame::data(piece.clone())))).boxed_unsync()
}

/// A body that says it has `len` bytes, gives these and ends with its connection.
fn broken(bytes: Bytes, len: usize) -> Response<Body> {
    let cut = stream::iter([Ok(Frame::data(bytes)), Err(std::io::Error::other("cut"))]);
    Response::builder()
        .header("content-length", len)
        .body(StreamBody::new(cut).boxed_unsync())
        .unwrap()
}

async fn take(mut body: Incoming, limit: usize) -> Vec<u8> {
    let mut taken = Vec::new();
    while taken.len() < limit {
        let Some(Ok(frame)) = body.frame().await else {
            break;
        };
        if let Ok(data) = frame.into_data() {
            taken.extend(&data[..data.len().min(limit - taken.len())]);
        }
    }
    taken
}

/// A desk with a store, and a client that reads no configuration of this machine.
pub(crate) struct Desk {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) store: Store,
    events: Arc<Mutex<Vec<Event>>>,
}

impl Desk {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("root")).unwrap();
        Self {
            dir,
            store,
            events: Arc::default(),
        }
    }

    pub(crate) fn places(&self) -> Places {
        Places {
            auth_file: Some(self.dir.path().join("auth.json")),
            registries_conf: Some(self.dir.path().join("registries.conf")),
            etc: self.dir.path().join("etc"),
            ..Places::default()
        }
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings {
            places: self.places(),
            insecure: true,
            retry: RetryPolicy {
                retries: 3,
                first_wait: Duration::from_millis(1),
                longest_wait: Duration::from_millis(5),
            },
            ..Settings::default()
        }
    }

    pub(crate) fn client(&self) -> RegistryClient {
        self.client_with(self.settings())
    }

    pub(crate) fn client_with(&self, settings: Settings) -> RegistryClient {
        let events = self.events.clone();
        RegistryClient::new(
            settings,
            Arc::new(move |event| events.lock().unwrap().push(event)),
        )
        .unwrap()
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        std::mem::take(&mut self.events.lock().unwrap())
    }

    /// Every file below the store's root but its locks, with the digest of what is in it.
    pub(crate) fn files(&self) -> BTreeMap<PathBuf, Digest> {
        let (mut files, mut folders) = (BTreeMap::new(), vec![self.store.root().to_owned()]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if entry.file_type().unwrap().is_dir() {
                    folders.push(path);
                } else if !path.to_string_lossy().ends_with("lock") {
                    let digest = Digest::of(&std::fs::read(&path).unwrap());
                    files.insert(path, digest);
                }
            }
        }
        files
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        std::fs::write(self.dir.path().join(path), text).unwrap();
    }

    /// An image with one layer that holds these files.
    pub(crate) fn image(&self, reference: &str, files: &[(&str, &[u8])]) -> ImageReference {
        let tree = tempfile::tempdir().unwrap();
        for (path, content) in files {
            write(tree.path(), path, content);
        }
        let layer = layer_from_tree(&self.store, tree.path(), &LayerOptions::default()).unwrap();
        let config = ImageConfig {
            architecture: Platform::host().architecture,
            os: "linux".into(),
            rootfs: RootFs {
                kind: "layers".into(),
                diff_ids: vec![layer.diff_id],
            },
            ..ImageConfig::default()
        };
        let image = NewImage {
            config,
            layers: vec![Descriptor::of_chunked_layer(&layer)],
            annotations: BTreeMap::new(),
        };
        let name = name(reference);
        self.store
            .add_image(self.store.share().unwrap(), &name, &image)
            .unwrap();
        name
    }
}

fn write(tree: &Path, path: &str, content: &[u8]) {
    let path = tree.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

pub(crate) fn name(text: &str) -> ImageReference {
    text.parse().unwrap()
}

/// Bytes that no compression makes smaller.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
