//! Sources of COPY, ADD and APP that lie elsewhere: a file behind an address, or what a repository of git has.
//!
//! They are fetched before the first step, all of them, into a folder of the store that goes with the build. What came is what
//! the layer depends on: the same bytes from another place are the same layer.

mod clone;
mod download;
mod watched;

use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use gantry_model::{Digest, ExitCode};
use percent_encoding::percent_decode_str;
use reqwest::Url;
use tempfile::TempDir;

use super::context::{Found, FoundKind};
use super::provenance::Material;

/// How an address of a file begins.
const HTTP: [&str; 2] = ["http://", "https://"];
/// How an address begins that git alone understands.
const GIT: [&str; 3] = ["git@", "git://", "ssh://"];
/// How a repository of git ends that is reached over HTTP.
const REPOSITORY: &str = ".git";

/// Something that lies elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RemoteSource {
    /// One file.
    File {
        /// Where it lies.
        url: Url,
        /// What it is called where it is copied to.
        name: String,
    },
    /// What a commit has: `URL[#REF[:FOLDER]]`.
    Repository {
        /// Where it lies, as git has it.
        url: String,
        /// A branch, tag or commit; none for what the repository says.
        reference: Option<String>,
        /// Below which folder; none for all of it.
        folder: Option<String>,
    },
}

impl fmt::Display for RemoteSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { url, .. } => f.write_str(&shown(url)),
            Self::Repository {
                url,
                reference,
                folder,
            } => {
                let reference = reference.as_deref().unwrap_or_default();
                match folder {
                    Some(folder) => write!(f, "{url}#{reference}:{folder}"),
                    None if reference.is_empty() => f.write_str(url),
                    None => write!(f, "{url}#{reference}"),
                }
            }
        }
    }
}

/// Why something is no source.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoSource {
    pub(super) message: String,
    pub(super) help: &'static str,
}

impl RemoteSource {
    /// What `text` names, if that lies elsewhere.
    ///
    /// # Errors
    /// When it is no address, or has a password in it.
    pub(super) fn parse(text: &str) -> Option<Result<Self, NoSource>> {
        let (address, fragment) = match text.split_once('#') {
            Some((address, fragment)) => (address, Some(fragment)),
            None => (text, None),
        };
        let over_http = HTTP.iter().any(|scheme| text.starts_with(scheme));
        if GIT.iter().any(|scheme| text.starts_with(scheme)) || (over_http && address.ends_with(REPOSITORY)) {
            return Some(repository(address, fragment));
        }
        over_http.then(|| file(text))
    }
}

fn repository(address: &str, fragment: Option<&str>) -> Result<RemoteSource, NoSource> {
    if !address.starts_with("git@") {
        check(address)?;
    }
    let (reference, folder) =
        match fragment.map(|fragment| fragment.split_once(':').unwrap_or((fragment, ""))) {
            Some((reference, folder)) => (filled(reference), filled(folder.trim_matches('/'))),
            None => (None, None),
        };
    let is_flag = |text: &Option<String>| text.as_ref().is_some_and(|text| text.starts_with('-'));
    let leads_out = |folder: &String| folder.split('/').any(|part| part == "..");
    if is_flag(&reference) || folder.as_ref().is_some_and(leads_out) {
        return Err(NoSource {
            message: format!("{:?} names nothing in a repository", fragment.unwrap_or_default()),
            help: "write URL#BRANCH, URL#TAG or URL#COMMIT, and :FOLDER behind it for a part",
        });
    }
    Ok(RemoteSource::Repository {
        url: address.to_owned(),
        reference,
        folder,
    })
}

fn filled(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn file(text: &str) -> Result<RemoteSource, NoSource> {
    let url = check(text)?;
    let last = url.path_segments().and_then(|mut segments| segments.next_back());
    let name = percent_decode_str(last.unwrap_or_default())
        .decode_utf8_lossy()
        .into_owned();
    if matches!(name.as_str(), "" | "." | "..") || name.contains(['/', '\0']) {
        return Err(NoSource {
            message: format!("{text:?} does not say how its file is called"),
            help: "the address of a file ends with its name",
        });
    }
    Ok(RemoteSource::File { url, name })
}

/// The address, which has no secret in it: it stands in the history of the image.
fn check(text: &str) -> Result<Url, NoSource> {
    let url: Url = text.parse().map_err(|error| NoSource {
        message: format!("{text:?} is no address: {error}"),
        help: "write https://HOST/PATH",
    })?;
    let is_http = HTTP.iter().any(|scheme| text.starts_with(scheme));
    // Over HTTP a name is as good as a password: tokens stand in its place.
    if url.password().is_some() || (is_http && !url.username().is_empty()) {
        return Err(NoSource {
            message: "there is a name or a password in this address, and every image would tell it"
                .to_owned(),
            help: "leave it out; for a repository, git's own credential helpers and keys are used",
        });
    }
    Ok(url)
}

/// An address as it may be seen: what stands behind the question mark is somebody's right to read it, often enough.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_fragment(None);
    if url.query().is_some() {
        url.set_query(Some("…"));
    }
    url.as_str().replace("%E2%80%A6", "…")
}

/// Something that could not be fetched.
#[derive(Debug)]
pub(super) struct FetchError {
    pub(super) code: ExitCode,
    pub(super) message: String,
    pub(super) help: &'static str,
}

/// What was fetched. It goes when this is dropped.
#[derive(Debug)]
pub(super) struct Fetched {
    folder: TempDir,
    count: usize,
    materials: Vec<Material>,
}

impl Fetched {
    /// Nothing yet.
    ///
    /// # Errors
    /// When `tmp` cannot be written.
    pub(super) fn begin(tmp: &Path) -> std::io::Result<Self> {
        fs::create_dir_all(tmp)?;
        // What is fetched may be for few eyes.
        let folder = tempfile::Builder::new()
            .prefix("remote-")
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir_in(tmp)?;
        Ok(Self {
            folder,
            count: 0,
            materials: Vec::new(),
        })
    }

    /// What it was, exactly.
    pub(super) fn materials(&self) -> &[Material] {
        &self.materials
    }

    /// Fetches `source`, which has to have this digest if one is given.
    ///
    /// # Errors
    /// When it cannot be had, or is something else.
    pub(super) fn fetch(
        &mut self,
        source: &RemoteSource,
        checksum: Option<Digest>,
    ) -> Result<Found, FetchError> {
        let place = self.folder.path().join(self.count.to_string());
        self.count += 1;
        match source {
            RemoteSource::File { url, name } => {
                let digest = download::download(url, checksum, &place)?;
                self.materials.push(Material::file(&shown(url), digest));
                Ok(Found {
                    kind: FoundKind::File(place),
                    name: name.clone(),
                })
            }
            RemoteSource::Repository {
                url,
                reference,
                folder,
            } => {
                let commits = clone::clone(url, reference.as_deref(), &place, &clone::BOUNDS)?;
                let commits = commits.iter().map(|(url, commit)| Material::commit(url, commit));
                self.materials.extend(commits);
                let part = part(&place, folder.as_deref())?;
                Ok(Found {
                    kind: FoundKind::Folder(part),
                    name: String::new(),
                })
            }
        }
    }
}

/// The folder of a repository that is meant. A link in the repository leads nowhere else.
fn part(repository: &Path, folder: Option<&str>) -> Result<PathBuf, FetchError> {
    let Some(folder) = folder else {
        return Ok(repository.to_owned());
    };
    let real = fs::canonicalize(repository.join(folder)).ok();
    let root = fs::canonicalize(repository).ok();
    match (real, root) {
        (Some(real), Some(root)) if real.is_dir() && real.starts_with(&root) => Ok(real),
        _ => Err(FetchError {
            code: ExitCode::Input,
            message: format!("the repository has no folder {folder:?}"),
            help: "what stands behind the colon is a folder below the repository's root",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> RemoteSource {
        RemoteSource::parse(text).unwrap().unwrap()
    }

    #[test]
    fn addresses_are_files_or_repositories() {
        for local in ["etc/a", "a#b", "https", "git", "ssh/a"] {
            assert_eq!(RemoteSource::parse(local), None, "{local}");
        }
        let RemoteSource::File { name, .. } = parsed("https://a.test/b/kubectl%20v1?x=y") else {
            panic!("it is a file");
        };
        assert_eq!(name, "kubectl v1");
        let repository =
            |url: &str, reference: Option<&str>, folder: Option<&str>| RemoteSource::Repository {
                url: url.to_owned(),
                reference: reference.map(str::to_owned),
                folder: folder.map(str::to_owned),
            };
        for (text, expected) in [
            (
                "https://a.test/b.git",
                repository("https://a.test/b.git", None, None),
            ),
            (
                "https://a.test/b.git#v1:deploy/x/",
                repository("https://a.test/b.git", Some("v1"), Some("deploy/x")),
            ),
            ("git@a.test:b#:c", repository("git@a.test:b", None, Some("c"))),
            ("ssh://git@a.test/b", repository("ssh://git@a.test/b", None, None)),
        ] {
            assert_eq!(parsed(text), expected, "{text}");
        }
    }

    #[test]
    fn what_gives_the_right_to_read_is_not_shown() {
        let source = parsed("https://a.test/b/c?token=secret#part");
        assert_eq!(source.to_string(), "https://a.test/b/c?…");
    }

    #[test]
    fn what_is_no_source_is_said() {
        for (text, part) in [
            ("https://a.test/", "how its file is called"),
            ("https://a.test/a%2Fb", "how its file is called"),
            ("https://", "no address"),
            ("https://user:secret@a.test/b", "a password"),
            ("https://user:secret@a.test/b.git", "a password"),
            ("https://secret@a.test/b.git", "a password"),
            ("ssh://git:secret@a.test/b", "a password"),
            ("https://a.test/b.git#--upload-pack=x", "names nothing"),
            ("https://a.test/b.git#v1:../x", "names nothing"),
        ] {
            let error = RemoteSource::parse(text).unwrap().unwrap_err();
            assert!(error.message.contains(part), "{text}: {error:?}");
            assert!(!error.message.contains("secret"), "{error:?}");
        }
    }
}
