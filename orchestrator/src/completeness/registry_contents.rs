//! This module owns [`RegistryContents`]: which container images the `registry/` of a rootfs has, and whether they are whole.
//!
//! The tree is that of docker distribution's filesystem driver; see `agent/src/registry/tree.rs` for who serves it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use gantry_model::{Digest, ImageReference, RegistryPlaces};
use gantry_store::manifest::{Index, MAX_CONFIG_LEN, MAX_MANIFEST_LEN, Manifest};
use gantry_store::{EntryKind, LayerError, Platform, Rootfs};
use serde_json::Value;

use super::kubeadm::is_cluster_registry;

/// Where the tree lies in a rootfs.
pub(crate) const ROOT: &str = "registry/docker/registry/v2/";
/// Between the name of a repository and what is in it.
const MANIFESTS: &str = "/_manifests/";
/// Longest text of a link, in bytes: a digest has 71.
const MAX_LINK_LEN: u64 = 256;

/// Names, tags and digests in a registry's tree.
#[derive(Debug)]
pub struct RegistryContents<'r> {
    rootfs: &'r Rootfs,
    /// By repository: tags, and what they lead to.
    tags: BTreeMap<String, BTreeMap<String, Digest>>,
    /// By repository: manifests that it has.
    revisions: BTreeMap<String, BTreeSet<Digest>>,
    /// By repository and tag: the images, as [`identity`] tells them apart, that the ClusterImage says it has by that path.
    said: BTreeMap<(String, String), BTreeSet<String>>,
}

/// Where a container image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundIn {
    /// The repository.
    pub repository: String,
    /// The manifest in it.
    pub digest: Digest,
    /// Why hosts may get another image for its name all the same: one line.
    pub doubt: Option<String>,
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
            said: BTreeMap::new(),
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

    /// The same, knowing which images the ClusterImage says it has: that tells whose those are that lie under their path alone.
    #[must_use]
    pub fn with_names<'n>(mut self, images: impl IntoIterator<Item = &'n str>) -> Self {
        for image in images {
            let Ok(image) = image.parse::<ImageReference>() else {
                continue;
            };
            // What has no registry here may have any: that is how paths alone are listed, too.
            if let (Some(tag), Some(_), None) = (image.tag(), image.domain(), image.digest()) {
                let place = (places_of(&image).shared, tag.to_owned());
                self.said.entry(place).or_default().insert(identity(&image));
            }
        }
        self
    }

    /// Where the image that `reference` names is, if it is here. An image of another registry with the same path and tag is
    /// not it; under a path alone there may be anybody's, where nothing says whose it is.
    ///
    /// A digest counts more than a tag beside it, as for container runtimes, and says enough alone.
    #[must_use]
    pub fn find(&self, reference: &ImageReference) -> Option<FoundIn> {
        let RegistryPlaces { own, shared } = places_of(reference);
        if let Some(digest) = reference.digest() {
            let mut places = own.into_iter().chain([shared]);
            let has = |place: &String| self.revisions.get(place).is_some_and(|all| all.contains(digest));
            return Some(FoundIn {
                repository: places.find(has)?,
                digest: *digest,
                doubt: None,
            });
        }
        let tag = reference.tag()?;
        let by_path = self.tag(&shared, tag);
        let owners = by_path.map_or_else(BTreeSet::new, |digest| self.owners(&shared, tag, &digest));
        if let Some(own) = own
            && let Some(digest) = self.tag(&own, tag)
        {
            let other = by_path.is_some_and(|other| other != digest);
            return Some(FoundIn {
                doubt: other.then(|| is_anothers(reference, &shared, &owners)),
                repository: own,
                digest,
            });
        }
        let whoever = is_cluster_registry(reference) || owners.is_empty();
        if !whoever && !owners.contains(&identity(reference)) {
            return None;
        }
        let doubt = format!(
            "which of them {shared}:{tag} in registry/ is cannot be told: {}",
            listed(&owners)
        );
        Some(FoundIn {
            digest: by_path?,
            doubt: (!is_cluster_registry(reference) && owners.len() > 1).then_some(doubt),
            repository: shared,
        })
    }

    /// The images that the one with this tag of a shared place is, as far as anything says it: those that have the same in
    /// their own places, and those that the ClusterImage names and that are nowhere else.
    fn owners(&self, shared: &str, tag: &str, digest: &Digest) -> BTreeSet<String> {
        let of_same_path = self.tags.iter().filter(|(repository, _)| {
            let folder = repository
                .strip_suffix(shared)
                .and_then(|folder| folder.strip_suffix('/'));
            folder.is_some_and(|folder| !folder.contains('/') && RegistryPlaces::is_registry(folder))
        });
        let (mut owners, mut others) = (BTreeSet::new(), BTreeSet::new());
        for (repository, tags) in of_same_path {
            match tags.get(tag) {
                Some(same) if same == digest => owners.insert(repository.clone()),
                Some(_) => others.insert(repository.clone()),
                None => false,
            };
        }
        let said = self.said.get(&(shared.to_owned(), tag.to_owned()));
        owners.extend(
            said.into_iter()
                .flatten()
                .filter(|one| !others.contains(*one))
                .cloned(),
        );
        owners
    }

    /// The same with these tags, `REPOSITORY:TAG`, each with the manifest it leads to.
    #[cfg(test)]
    pub(crate) fn and_tags(mut self, tags: &[(&str, &[u8])]) -> Self {
        for (tagged, manifest) in tags {
            let (repository, tag) = tagged.rsplit_once(':').unwrap_or((tagged, "latest"));
            let (repository, digest) = (repository.to_owned(), Digest::of(manifest));
            let tags = self.tags.entry(repository.clone()).or_default();
            tags.insert(tag.to_owned(), digest);
            self.revisions.entry(repository).or_default().insert(digest);
        }
        self
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
            return self.image_flaw(repository, &bytes, platform);
        }
        let Ok(index) = serde_json::from_slice::<Index>(&bytes) else {
            return Ok(Some(format!("manifest list {} cannot be read", digest.short())));
        };
        let fits = |of: &Platform| of.fits(platform);
        let mut images = index.manifests.iter().filter(|entry| entry.is_image());
        let Some(entry) = images.find(|entry| entry.platform.as_ref().is_some_and(fits)) else {
            return Ok(Some(format!("it has no image for {platform}")));
        };
        match self.manifest(repository, &entry.digest)? {
            Ok(bytes) => self.image_flaw(repository, &bytes, platform),
            Err(reason) => Ok(Some(format!("{reason}, the one for {platform}"))),
        }
    }

    fn image_flaw(
        &self,
        repository: &str,
        manifest: &[u8],
        platform: &Platform,
    ) -> Result<Option<String>, LayerError> {
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
        if manifest.config.size > MAX_CONFIG_LEN {
            let limit = MAX_CONFIG_LEN >> 20;
            return Ok(Some(format!("its config is larger than {limit} MiB")));
        }
        let mut config = Vec::new();
        let path = data_path(&manifest.config.digest);
        self.rootfs.copy_file(&path, &mut config)?;
        let other = Platform::of_config(&config).filter(|its| !its.fits(platform));
        Ok(other.map(|its| format!("it is for {its}, and hosts are {platform}")))
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

/// The repositories of the tree in which hosts look for the image that `reference` names. The cluster's own registry is asked for
/// its paths as they are: what it has belongs to nobody else.
#[must_use]
pub fn places_of(reference: &ImageReference) -> RegistryPlaces {
    if is_cluster_registry(reference) {
        return RegistryPlaces {
            own: None,
            shared: reference.path().to_owned(),
        };
    }
    RegistryPlaces::of(reference)
}

/// What tells the image that `reference` names from those of other registries.
fn identity(reference: &ImageReference) -> String {
    places_of(reference)
        .own
        .unwrap_or_else(|| reference.name().to_owned())
}

fn is_anothers(reference: &ImageReference, shared: &str, owners: &BTreeSet<String>) -> String {
    let tag = reference.tag().unwrap_or_default();
    let whose = match owners.is_empty() {
        true => "another image".to_owned(),
        false => listed(owners),
    };
    format!(
        "hosts that ask a mirror for {shared}:{tag} alone do not get {reference} but {whose}; the registry of gantry-agent tells \
         them apart, for containerd"
    )
}

fn listed(images: &BTreeSet<String>) -> String {
    let names: Vec<String> = images.iter().map(|one| RegistryPlaces::name_in(one)).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents<'r>(rootfs: &'r Rootfs, tags: &[(&str, &[u8])]) -> RegistryContents<'r> {
        RegistryContents::read(rootfs).unwrap().and_tags(tags)
    }

    fn found(contents: &RegistryContents<'_>, reference: &str) -> Option<String> {
        let found = contents.find(&reference.parse().unwrap())?;
        Some(match found.doubt {
            None => found.repository,
            Some(doubt) => format!("{}? {doubt}", found.repository),
        })
    }

    #[test]
    fn an_image_of_another_registry_with_the_same_path_is_another_image() {
        let rootfs = Rootfs::default();
        let both = contents(
            &rootfs,
            &[
                ("docker.io/app/web:1", b"hub"),
                ("app/web:1", b"hub"),
                ("registry.lab_5000/app/web:2", b"lab"),
            ],
        );
        assert_eq!(found(&both, "app/web:1").as_deref(), Some("docker.io/app/web"));
        assert_eq!(found(&both, "registry.lab:5000/app/web:1"), None);
        assert_eq!(
            found(&both, "registry.lab:5000/app/web:2").as_deref(),
            Some("registry.lab_5000/app/web")
        );
        // What is asked of the cluster's own registry is there by that path, whosever it was.
        assert_eq!(found(&both, "sea.hub:5000/app/web:1").as_deref(), Some("app/web"));
        let digest = Digest::of(b"hub");
        let by_digest = format!("registry.lab:5000/app/web@{digest}");
        assert_eq!(
            found(&both, &by_digest).as_deref(),
            Some("app/web"),
            "a digest says enough"
        );
    }

    #[test]
    fn what_lies_under_its_path_alone_is_whose_the_image_says() {
        let rootfs = Rootfs::default();
        let tags: &[(&str, &[u8])] = &[("app/web:1", b"hub")];
        let nobodys = contents(&rootfs, tags);
        assert_eq!(
            found(&nobodys, "registry.lab:5000/app/web:1").as_deref(),
            Some("app/web")
        );
        let paths = contents(&rootfs, tags).with_names(["app/web:1"]);
        assert_eq!(
            found(&paths, "registry.lab:5000/app/web:1").as_deref(),
            Some("app/web")
        );
        let hubs = contents(&rootfs, tags).with_names(["docker.io/app/web:1"]);
        assert_eq!(found(&hubs, "registry.lab:5000/app/web:1"), None);
        assert_eq!(found(&hubs, "app/web:1").as_deref(), Some("app/web"));
        let two = contents(&rootfs, tags).with_names(["docker.io/app/web:1", "quay.io/app/web:1"]);
        let said = found(&two, "quay.io/app/web:1").unwrap();
        assert!(
            said.contains("cannot be told: docker.io/app/web, quay.io/app/web"),
            "{said}"
        );
    }

    #[test]
    fn who_gets_another_image_by_the_path_alone_is_told() {
        let rootfs = Rootfs::default();
        let tags: &[(&str, &[u8])] = &[
            ("docker.io/app/web:1", b"hub"),
            ("app/web:1", b"hub"),
            ("registry.lab_5000/app/web:1", b"lab"),
        ];
        let both = contents(&rootfs, tags).with_names(["docker.io/app/web:1", "registry.lab:5000/app/web:1"]);
        assert_eq!(
            found(&both, "docker.io/app/web:1").as_deref(),
            Some("docker.io/app/web")
        );
        let said = found(&both, "registry.lab:5000/app/web:1").unwrap();
        assert!(
            said.contains("do not get registry.lab:5000/app/web:1 but docker.io/app/web;"),
            "{said}"
        );
    }
}
