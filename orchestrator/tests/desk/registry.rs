//! A registry of this machine, over plain HTTP, that has exactly what a test gives it.

#![allow(dead_code, reason = "every test program uses some of it")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gantry_model::Digest;

/// How long a held answer waits for its condition.
const PATIENCE: Duration = Duration::from_secs(30);

/// A container image, blob by blob.
pub(crate) struct TestImage {
    pub(crate) manifest: String,
    pub(crate) blobs: Vec<Vec<u8>>,
}

impl TestImage {
    /// An image for `architecture` with one layer, which is this content and no tar archive.
    pub(crate) fn new(architecture: &str, layer: &str) -> Self {
        let config = format!(r#"{{"os":"linux","architecture":"{architecture}","layer":"{layer}"}}"#);
        let blobs = vec![config.into_bytes(), layer.as_bytes().to_vec()];
        let described = |kind: &str, bytes: &[u8]| {
            format!(
                r#"{{"mediaType":"application/vnd.oci.image.{kind}","digest":"{}","size":{}}}"#,
                Digest::of(bytes),
                bytes.len()
            )
        };
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{},"layers":[{}]}}"#,
            described("config.v1+json", &blobs[0]),
            described("layer.v1.tar+gzip", &blobs[1])
        );
        Self { manifest, blobs }
    }

    /// One for this machine.
    pub(crate) fn of_here(layer: &str) -> Self {
        Self::new(&gantry_store::Platform::host().architecture, layer)
    }

    pub(crate) fn digest(&self) -> Digest {
        Digest::of(self.manifest.as_bytes())
    }

    pub(crate) fn layer(&self) -> Digest {
        Digest::of(&self.blobs[1])
    }
}

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const LIST: &str = "application/vnd.oci.image.index.v1+json";

/// A registry that runs as long as the test.
pub(crate) struct Registry {
    /// `HOST:PORT`.
    pub(crate) name: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    answers: BTreeMap<String, (&'static str, Vec<u8>)>,
    /// What is missing, and told only when these files are there.
    missing: Option<(String, Vec<PathBuf>)>,
    login: Option<String>,
    requests: Vec<String>,
}

impl Registry {
    pub(crate) fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let registry = Self {
            name: listener.local_addr().unwrap().to_string(),
            state: Arc::default(),
        };
        let state = registry.state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, state) = (stream.unwrap(), state.clone());
                std::thread::spawn(move || serve(stream, &state));
            }
        });
        registry
    }

    /// Has `image` as `REPOSITORY:TAG`. Gives its name.
    pub(crate) fn add(&self, tagged: &str, image: &TestImage) -> String {
        let (repository, tag) = tagged.rsplit_once(':').unwrap();
        let mut state = self.state.lock().unwrap();
        for reference in [tag.to_owned(), image.digest().to_string()] {
            let path = format!("/v2/{repository}/manifests/{reference}");
            let bytes = image.manifest.clone().into_bytes();
            state.answers.insert(path, (MANIFEST, bytes));
        }
        for blob in &image.blobs {
            let path = format!("/v2/{repository}/blobs/{}", Digest::of(blob));
            state
                .answers
                .insert(path, ("application/octet-stream", blob.clone()));
        }
        format!("{}/{tagged}", self.name)
    }

    /// Has a list of these images, for their platforms, as `REPOSITORY:TAG`. Gives its name.
    pub(crate) fn add_list(&self, tagged: &str, images: &[(&str, &TestImage)]) -> String {
        let (repository, tag) = tagged.rsplit_once(':').unwrap();
        let mut entries = Vec::new();
        for (architecture, image) in images {
            self.add(&format!("{repository}:{tag}-{architecture}"), image);
            entries.push(format!(
                r#"{{"mediaType":"{MANIFEST}","digest":"{}","size":{},"platform":{{"os":"linux","architecture":"{architecture}"}}}}"#,
                image.digest(),
                image.manifest.len()
            ));
        }
        let list = format!(
            r#"{{"schemaVersion":2,"mediaType":"{LIST}","manifests":[{}]}}"#,
            entries.join(",")
        );
        let mut state = self.state.lock().unwrap();
        for reference in [tag.to_owned(), Digest::of(list.as_bytes()).to_string()] {
            let path = format!("/v2/{repository}/manifests/{reference}");
            state.answers.insert(path, (LIST, list.clone().into_bytes()));
        }
        format!("{}/{tagged}", self.name)
    }

    /// Asks for this login (`USER:PASSWORD` in base64).
    pub(crate) fn wants(&self, login: &str) {
        self.state.lock().unwrap().login = Some(format!("Basic {login}"));
    }

    /// Says that `path` is missing, once these files are there.
    pub(crate) fn lacks(&self, path: &str, files: Vec<PathBuf>) {
        self.state.lock().unwrap().missing = Some((path.to_owned(), files));
    }

    /// Lacks nothing any more.
    pub(crate) fn has_all(&self) {
        self.state.lock().unwrap().missing = None;
    }

    /// How often something whose path contains `what` was asked for.
    pub(crate) fn asked(&self, what: &str) -> usize {
        let state = self.state.lock().unwrap();
        state.requests.iter().filter(|path| path.contains(what)).count()
    }
}

fn serve(mut stream: TcpStream, state: &Mutex<State>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let first = lines.next().and_then(Result::ok).unwrap_or_default();
    let words: Vec<&str> = first.split(' ').collect();
    let [method @ ("GET" | "HEAD"), path, _] = words[..] else {
        // Whoever speaks TLS is told that nobody does here.
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
        return;
    };
    let mut authorization = None;
    for line in lines.map_while(Result::ok).take_while(|line| !line.is_empty()) {
        if let Some((name, value)) = line.split_once(": ")
            && name.eq_ignore_ascii_case("authorization")
        {
            authorization = Some(value.to_owned());
        }
    }
    let (answer, missing, login) = {
        let mut state = state.lock().unwrap();
        state.requests.push(path.to_owned());
        let missing = state.missing.clone().filter(|(missing, _)| missing == path);
        (state.answers.get(path).cloned(), missing, state.login.clone())
    };
    let (head, body) = match (answer, missing) {
        _ if login.is_some() && login != authorization => (
            "401 Unauthorized\r\nwww-authenticate: Basic realm=\"test\"".to_owned(),
            Vec::new(),
        ),
        (_, Some((_, files))) => {
            let asked = Instant::now();
            while !files.iter().all(|file| file.exists()) && asked.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_millis(5));
            }
            ("404 Not Found".to_owned(), Vec::new())
        }
        (Some((kind, bytes)), None) => (format!("200 OK\r\ncontent-type: {kind}"), bytes),
        (None, None) if path == "/v2/" => ("200 OK".to_owned(), Vec::new()),
        (None, None) => ("404 Not Found".to_owned(), Vec::new()),
    };
    let head = format!(
        "HTTP/1.1 {head}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(head.as_bytes());
    if method == "GET" {
        let _ = stream.write_all(&body);
    }
}
