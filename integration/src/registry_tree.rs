//! What a registry serves, with every kind of manifest in it: the demonstration's tree and more, written by hand.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use gantry_model::Digest;
use serde_json::{Value, json};

use crate::command;
use crate::demo_image::demo_image;

const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Bytes of the large layer: more than the 4 and 6 MiB that Linux keeps for a TCP connection at most (`tcp_wmem`, `tcp_rmem`).
const LARGE_LEN: usize = 32 << 20;

/// The tree of a registry, as `registry/` of a rootfs.
#[derive(Debug)]
pub struct RegistryTree {
    root: PathBuf,
    /// The manifest of `hello:1.0`, an OCI image.
    pub manifest: Digest,
    /// Its only layer.
    pub layer: Digest,
    /// Its configuration.
    pub config: Digest,
    /// A layer of no image, larger than what sockets hold on their way.
    pub large: Digest,
}

impl RegistryTree {
    /// Writes the tree into the folder `registry`, which does not exist yet. It holds `hello` with the tags `1.0` (OCI),
    /// `docker` (the same as an image of docker's), `index`, `typed-index` and `list` (of both kinds), and `library/nested/hello`.
    ///
    /// # Errors
    /// When the demonstration's image cannot be had, or the folder not written.
    pub fn write(registry: &Path) -> Result<Self> {
        let demo = demo_image()?.join("registry");
        command::must("cp", ["-a".as_ref(), demo.as_os_str(), registry.as_os_str()])?;
        let root = registry.join("docker/registry/v2");
        let link = fs::read_to_string(root.join("repositories/hello/_manifests/tags/1.0/current/link"))
            .context("the demonstration's registry has hello:1.0")?;
        let manifest: Digest = link.trim().parse()?;
        let text = fs::read(blob(&root, &manifest))?;
        let oci: Value = serde_json::from_slice(&text)?;
        let digest = |value: &Value| -> Result<Digest> {
            Ok(value["digest"].as_str().context("it has a digest")?.parse()?)
        };
        let large: String = (0..LARGE_LEN / 16).map(|line| format!("{line:15}\n")).collect();
        let tree = Self {
            manifest,
            large: Digest::of(large.as_bytes()),
            layer: digest(&oci["layers"][0])?,
            config: digest(&oci["config"])?,
            root,
        };
        tree.add_other_kinds(&oci, text.len())?;
        write(&blob(&tree.root, &tree.large), &large)?;
        let link = format!("repositories/hello/_layers/sha256/{}/link", tree.large.hex());
        write(&tree.root.join(link), &tree.large.to_string())?;
        let repositories = tree.root.join("repositories");
        fs::create_dir_all(repositories.join("library/nested"))?;
        command::must(
            "cp",
            [
                "-a".as_ref(),
                repositories.join("hello").as_os_str(),
                repositories.join("library/nested/hello").as_os_str(),
            ],
        )?;
        Ok(tree)
    }

    fn add_other_kinds(&self, oci: &Value, oci_len: usize) -> Result<()> {
        let descriptor = |of: &Value, media_type: &str| {
            let mut of = of.clone();
            of["mediaType"] = media_type.into();
            of
        };
        let docker = json!({
            "schemaVersion": 2,
            "mediaType": DOCKER_MANIFEST,
            "config": descriptor(&oci["config"], "application/vnd.docker.container.image.v1+json"),
            "layers": [descriptor(&oci["layers"][0], "application/vnd.docker.image.rootfs.diff.tar.gzip")],
        });
        let docker = docker.to_string();
        let docker_digest = self.add_manifest("docker", &docker)?;
        let entry = |media_type: &str, digest: &Digest, size: usize, architecture: &str| {
            json!({
                "mediaType": media_type, "digest": digest.to_string(), "size": size,
                "platform": { "os": "linux", "architecture": architecture },
            })
        };
        let elsewhere = Digest::of(b"for another machine");
        let list = json!({
            "schemaVersion": 2,
            "mediaType": DOCKER_LIST,
            "manifests": [
                entry(DOCKER_MANIFEST, &elsewhere, 2, "s390x"),
                entry(DOCKER_MANIFEST, &docker_digest, docker.len(), "amd64"),
            ],
        });
        self.add_manifest("list", &list.to_string())?;
        // Without its own media type, as OCI has it.
        let index = json!({
            "schemaVersion": 2,
            "manifests": [
                entry(OCI_MANIFEST, &elsewhere, 2, "s390x"),
                entry(OCI_MANIFEST, &self.manifest, oci_len, "amd64"),
            ],
        });
        self.add_manifest("index", &index.to_string())?;
        let typed = descriptor(&index, OCI_INDEX);
        self.add_manifest("typed-index", &typed.to_string()).map(drop)
    }

    /// What clients that know every kind of manifest send as `Accept`.
    #[must_use]
    pub fn every_kind() -> String {
        [DOCKER_MANIFEST, DOCKER_LIST, OCI_MANIFEST, OCI_INDEX].join(", ")
    }

    fn add_manifest(&self, tag: &str, text: &str) -> Result<Digest> {
        let digest = Digest::of(text.as_bytes());
        write(&blob(&self.root, &digest), text)?;
        let manifests = self.root.join("repositories/hello/_manifests");
        let hex = digest.hex();
        for link in [
            format!("revisions/sha256/{hex}"),
            format!("tags/{tag}/current"),
            format!("tags/{tag}/index/sha256/{hex}"),
        ] {
            write(&manifests.join(link).join("link"), &digest.to_string())?;
        }
        Ok(digest)
    }
}

fn blob(root: &Path, digest: &Digest) -> PathBuf {
    let hex = digest.hex();
    root.join(format!("blobs/sha256/{}/{hex}/data", &hex[..2]))
}

fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
