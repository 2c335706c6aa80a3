//! This module owns [`RegistryContents`]: which container images the `registry/` of a rootfs has, and whether they are whole.
//!
//! The tree is that of docker distribution's filesystem driver; see `agent/src/registry/tree.rs` for who serves it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use gantry_model::{Digest, ImageReference};
use gantry_store::manifest::{Index, MAX_MANIFEST_LEN, Manifest};
use gantry_store::{EntryKind, LayerError, Platform, Rootfs};
use serde_json::Value;

/// Where the tree lies in a rootfs.
pub(crate) const ROOT: &str = "registry/docker/registry/v2/";
/// Between the name of a repository and what is in it.
const MANIFESTS: &str = "/_manifests/";
/// Longest text of a link, in bytes: a digest has 71.
const MAX_LINK_LEN: u64 = 256;
/// Docker Hub, as names say it, and where it keeps what has no owner.
const DOCKER_HUB: [&str; 2] = ["docker.io", "index.docker.io"];
const DOCKER_LIBRARY: &str = "library";

/// Names, tags and digests in a registry's tree.
#[derive(Debug)]
pub struct RegistryContents<'r> {
    rootfs: &'r Rootfs,
    /// By repository: tags, and what they lead to.
    tags: BTreeMap<String, BTreeMap<String, Digest>>,
    /// By repository: manifests that it has.
    revisions: BTreeMap<String, BTreeSet<Digest>>,
}

/// What is wrong with a container image in the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    /// `REPOSITORY:TAG` or `REPOSITORY@DIGEST`.
    pub image: String,
    /// What is wrong: one line.
    pub reason: String,
    /// Whether a file of the ClusterImage names it.
    pub named: bool,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.image, self.reason)
    }
}

impl<'r> RegistryContents<'r> {
    /// What `rootfs` has in `registry/`. Whatever no registry wrote there is passed over.
    ///
    /// # Errors
    /// When a file of it is damaged.
    pub fn read(rootfs: &'r Rootfs) -> Result<Self, LayerError> {
        let mut contents = Self {
            rootfs,
            tags: BTreeMap::new(),
            revisions: BTreeMap::new(),
        };
        let repositories = format!("{ROOT}repositories/");
        for (path, _) in rootfs.below(&repositories) {
            let Some((repository, rest)) = path[repositories.len()..].split_once(MANIFESTS) else {
                continue;
            };
            let repository = || repository.to_owned();
            match rest.split('/').collect::<Vec<_>>()[..] {
                ["tags", tag, "current", "link"] => {
                    if let Some(digest) = contents.link(path)? {
                        contents
                            .tags
                            .entry(repository())
                            .or_default()
                            .insert(tag.to_owned(), digest);
                    }
                }
                ["revisions", "sha256", hex, "link"] => {
                    if let Ok(digest) = format!("sha256:{hex}").parse() {
                        contents.revisions.entry(repository()).or_default().insert(digest);
                    }
                }
                _ => {}
            }
        }
        Ok(contents)
    }

    /// Where the image that `reference` names is, if it is here: a repository, and the manifest in it.
    ///
    /// A digest counts more than a tag beside it, as for container runtimes.
    #[must_use]
    pub fn find(&self, reference: &ImageReference) -> Option<(String, Digest)> {
        repositories_of(reference).into_iter().find_map(|repository| {
            let digest = match (reference.digest(), reference.tag()) {
                (Some(digest), _) => *self.revisions.get(&repository)?.get(digest)?,
                (None, tag) => *self.tags.get(&repository)?.get(tag?)?,
            };
            Some((repository, digest))
        })
    }

    /// The manifest that a tag leads to.
    #[must_use]
    pub fn tag(&self, repository: &str, tag: &str) -> Option<Digest> {
        self.tags.get(repository)?.get(tag).copied()
    }

    /// Every tag, as `REPOSITORY:TAG`, with the manifest it leads to.
    pub fn tagged(&self) -> impl Iterator<Item = (String, &str, Digest)> {
        self.tags.iter().flat_map(|(repository, tags)| {
            tags.iter()
                .map(move |(tag, digest)| (format!("{repository}:{tag}"), repository.as_str(), *digest))
        })
    }

    /// Whether there is a repository whose last word is `name`.
    #[must_use]
    pub fn has_image_named(&self, name: &str) -> bool {
        let mut repositories = self.tags.keys().chain(self.revisions.keys());
        repositories.any(|repository| repository.rsplit('/').next() == Some(name))
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tags.is_empty() && self.revisions.is_empty()
    }

    /// What of the image with this manifest `repository` could not serve to a host of `platform`; none when it is whole.
    ///
    /// # Errors
    /// When a layer of the ClusterImage is damaged.
    pub fn flaw(
        &self,
        repository: &str,
        digest: &Digest,
        platform: &Platform,
    ) -> Result<Option<String>, LayerError> {
        let bytes = match self.manifest(repository, digest)? {
            Ok(bytes) => bytes,
            Err(reason) => return Ok(Some(reason)),
        };
        let shape: Result<Value, _> = serde_json::from_slice(&bytes);
        let is_index = shape.is_ok_and(|value| value.get("manifests").is_some());
        if !is_index {
            return self.image_flaw(repository, &bytes);
        }
        let Ok(index) = serde_json::from_slice::<Index>(&bytes) else {
            return Ok(Some(format!("manifest list {} cannot be read", digest.short())));
        };
        let fits = |of: &Platform| of.os == platform.os && of.architecture == platform.architecture;
        let mut images = index.manifests.iter().filter(|entry| entry.is_image());
        let Some(entry) = images.find(|entry| entry.platform.as_ref().is_some_and(fits)) else {
            return Ok(Some(format!("it has no image for {platform}")));
        };
        match self.manifest(repository, &entry.digest)? {
            Ok(bytes) => self.image_flaw(repository, &bytes),
            Err(reason) => Ok(Some(format!("{reason}, the one for {platform}"))),
        }
    }

    fn image_flaw(&self, repository: &str, manifest: &[u8]) -> Result<Option<String>, LayerError> {
        let Ok(manifest) = serde_json::from_slice::<Manifest>(manifest) else {
            return Ok(Some("its manifest cannot be read".to_owned()));
        };
        for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
            let short = blob.digest.short();
            let Some((size, content)) = self.blob(&blob.digest) else {
                return Ok(Some(format!("blob {short} is not there")));
            };
            if size != blob.size {
                return Ok(Some(format!(
                    "blob {short} has {size} bytes, and should have {}",
                    blob.size
                )));
            }
            if content != blob.digest {
                return Ok(Some(format!("blob {short} has another content")));
            }
            let link = format!(
                "{ROOT}repositories/{repository}/_layers/sha256/{}/link",
                blob.digest.hex()
            );
            if self.rootfs.get(&link).is_none() {
                return Ok(Some(format!("blob {short} is not linked into {repository}")));
            }
        }
        Ok(None)
    }

    /// The bytes of a manifest, or why there are none.
    fn manifest(&self, repository: &str, digest: &Digest) -> Result<Result<Vec<u8>, String>, LayerError> {
        let short = digest.short();
        if !self
            .revisions
            .get(repository)
            .is_some_and(|all| all.contains(digest))
        {
            return Ok(Err(format!("manifest {short} is not in {repository}")));
        }
        let Some((size, _)) = self.blob(digest) else {
            return Ok(Err(format!("manifest {short} is not there")));
        };
        if size > MAX_MANIFEST_LEN {
            return Ok(Err(format!(
                "manifest {short} is larger than {} MiB",
                MAX_MANIFEST_LEN >> 20
            )));
        }
        let mut bytes = Vec::new();
        self.rootfs.copy_file(&data_path(digest), &mut bytes)?;
        if Digest::of(&bytes) != *digest {
            return Ok(Err(format!("manifest {short} has another content")));
        }
        Ok(Ok(bytes))
    }

    /// Size and digest of a blob.
    fn blob(&self, digest: &Digest) -> Option<(u64, Digest)> {
        match self.rootfs.get(&data_path(digest))?.kind {
            EntryKind::File { size, digest, .. } => Some((size, digest)),
            _ => None,
        }
    }

    /// The digest that a link says; none when it says something else.
    fn link(&self, path: &str) -> Result<Option<Digest>, LayerError> {
        match self.rootfs.get(path).map(|entry| &entry.kind) {
            Some(EntryKind::File { size, .. }) if *size <= MAX_LINK_LEN => {}
            _ => return Ok(None),
        }
        let mut bytes = Vec::new();
        self.rootfs.copy_file(path, &mut bytes)?;
        Ok(std::str::from_utf8(&bytes)
            .ok()
            .and_then(|text| text.trim().parse().ok()))
    }
}

/// Where the bytes of a blob lie in a rootfs.
pub(crate) fn data_path(digest: &Digest) -> String {
    let hex = digest.hex();
    format!("{ROOT}blobs/sha256/{}/{hex}/data", &hex[..2])
}

/// The repositories of the tree in which hosts look for the image that `reference` names: with its registry's name before
/// it, and without, as mirrors of that registry are asked. What has no registry is Docker Hub's.
#[must_use]
pub fn repositories_of(reference: &ImageReference) -> Vec<String> {
    let domain = reference.domain().unwrap_or(DOCKER_HUB[0]);
    let is_docker_hub = DOCKER_HUB.contains(&domain);
    let path = if is_docker_hub && !reference.path().contains('/') {
        format!("{DOCKER_LIBRARY}/{}", reference.path())
    } else {
        reference.path().to_owned()
    };
    let domain = if is_docker_hub { DOCKER_HUB[0] } else { domain };
    // A port cannot be in a name (distribution-spec, "Pulling manifests").
    if domain.contains(':') || domain.bytes().any(|b| b.is_ascii_uppercase()) {
        return vec![path];
    }
    vec![format!("{domain}/{path}"), path]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_looked_for_with_and_without_their_registry() {
        for (reference, repositories) in [
            ("nginx:1.25", &["docker.io/library/nginx", "library/nginx"][..]),
            ("index.docker.io/a/b", &["docker.io/a/b", "a/b"]),
            ("registry.k8s.io/pause:3.9", &["registry.k8s.io/pause", "pause"]),
            ("sea.hub:5000/pause:3.9", &["pause"]),
        ] {
            assert_eq!(
                repositories_of(&reference.parse().unwrap()),
                repositories,
                "{reference}"
            );
        }
    }
}
