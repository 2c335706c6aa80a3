//! Layers as eStargz has them (stargz-snapshotter, `docs/estargz.md`), which no tool of Debian makes: a gzip member for each file and
//! each chunk of a large one, a table of contents as the last entry of the tar stream, and a footer that says where that begins.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use flate2::Compression;
use flate2::write::GzEncoder;
use gantry_model::Digest;
use serde_json::{Map, Value, json};

/// The last entry of every layer.
pub const TOC_NAME: &str = "stargz.index.json";
/// What lies before it is to be fetched before a container starts.
pub const PREFETCH_LANDMARK: &str = ".prefetch.landmark";
/// Nothing is to be fetched before a container starts.
pub const NO_PREFETCH_LANDMARK: &str = ".no.prefetch.landmark";
/// Annotation of a layer: the digest of its table of contents.
const ANNOTATION_TOC: &str = "containerd.io/snapshot/stargz/toc.digest";
/// Annotation of a layer: its size, uncompressed.
const ANNOTATION_SIZE: &str = "io.containers.estargz.uncompressed-size";
const MEDIA_TYPE_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Longest chunk of a file, so that tests need no large ones.
const CHUNK_LEN: usize = 64 << 10;
const BLOCK_LEN: usize = 512;

/// One layer.
#[derive(Debug)]
pub struct Layer {
    blob: Vec<u8>,
    diff_id: Digest,
    toc: Digest,
    len: usize,
}

#[derive(Default)]
struct Packer {
    blob: Vec<u8>,
    /// The whole tar stream.
    tar: Vec<u8>,
    /// The end of it that is in no member yet.
    pending: Vec<u8>,
    entries: Vec<Value>,
    packed: BTreeSet<String>,
    /// First names of files that have several.
    inodes: BTreeMap<u64, String>,
}

impl Layer {
    /// Packs `folder`; the files `first` come first, to be fetched before a container starts.
    ///
    /// # Errors
    /// When something cannot be read, or is neither a file nor a folder nor a symbolic link.
    pub fn pack(folder: &Path, first: &[&str]) -> Result<Self> {
        let mut packer = Packer::default();
        for path in first {
            packer.add_with_parents(folder, path)?;
        }
        packer.add_landmark(match first {
            [] => NO_PREFETCH_LANDMARK,
            _ => PREFETCH_LANDMARK,
        })?;
        packer.add_below(folder, "")?;
        packer.finish()
    }
}

/// Writes an image of these layers as an OCI layout (image-spec, "OCI Image Layout") with the tag `v1`.
///
/// # Errors
/// When the folder cannot be written.
pub fn write_layout(folder: &Path, layers: &[Layer]) -> Result<()> {
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    let put = |media_type: &str, bytes: &[u8]| -> Result<Value> {
        let digest = Digest::of(bytes);
        fs::write(blobs.join(digest.hex()), bytes)?;
        Ok(json!({ "mediaType": media_type, "digest": digest.to_string(), "size": bytes.len() }))
    };
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {
            "type": "layers",
            "diff_ids": layers.iter().map(|layer| layer.diff_id.to_string()).collect::<Vec<_>>(),
        },
    });
    let config = put(
        "application/vnd.oci.image.config.v1+json",
        config.to_string().as_bytes(),
    )?;
    let mut described = Vec::new();
    for layer in layers {
        let mut descriptor = put("application/vnd.oci.image.layer.v1.tar+gzip", &layer.blob)?;
        descriptor["annotations"] = json!({
            ANNOTATION_TOC: layer.toc.to_string(),
            ANNOTATION_SIZE: layer.len.to_string(),
        });
        described.push(descriptor);
    }
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MEDIA_TYPE_MANIFEST, "config": config, "layers": described,
    });
    let mut entry = put(MEDIA_TYPE_MANIFEST, manifest.to_string().as_bytes())?;
    entry["annotations"] = json!({ "org.opencontainers.image.ref.name": "v1" });
    let index = json!({ "schemaVersion": 2, "manifests": [entry] });
    fs::write(folder.join("index.json"), index.to_string())?;
    fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    Ok(())
}

impl Packer {
    fn add_below(&mut self, folder: &Path, below: &str) -> Result<()> {
        let mut names = Vec::new();
        for entry in fs::read_dir(folder.join(below))? {
            let name = entry?.file_name();
            names.push(name.into_string().ok().context("a name is not UTF-8")?);
        }
        names.sort();
        for name in names {
            let path = format!("{below}/{name}").trim_start_matches('/').to_owned();
            self.add(folder, &path)?;
            if folder.join(&path).symlink_metadata()?.is_dir() {
                self.add_below(folder, &path)?;
            }
        }
        Ok(())
    }

    fn add_with_parents(&mut self, folder: &Path, path: &str) -> Result<()> {
        for (at, _) in path.match_indices('/') {
            self.add(folder, &path[..at])?;
        }
        self.add(folder, path)
    }

    /// Adds what lies at `path`, unless it is there.
    fn add(&mut self, folder: &Path, path: &str) -> Result<()> {
        if !self.packed.insert(path.to_owned()) {
            return Ok(());
        }
        let at = folder.join(path);
        let metadata = at.symlink_metadata()?;
        let mut header = tar::Header::new_ustar();
        header.set_mode(metadata.permissions().mode() & 0o7777);
        header.set_uid(metadata.uid().into());
        header.set_gid(metadata.gid().into());
        header.set_mtime(u64::try_from(metadata.mtime())?);
        header.set_size(0);
        let mut entry = Map::new();
        entry.insert("mode".to_owned(), header.mode()?.into());
        entry.insert("uid".to_owned(), metadata.uid().into());
        entry.insert("gid".to_owned(), metadata.gid().into());
        let time = jiff::Timestamp::from_second(metadata.mtime())?;
        entry.insert("modtime".to_owned(), time.to_string().into());
        let first = self.inodes.get(&metadata.ino()).cloned();
        if metadata.is_dir() {
            header.set_entry_type(tar::EntryType::Directory);
            header.set_path(format!("{path}/"))?;
            self.add_entry(header, entry, "dir", &format!("{path}/"));
        } else if metadata.is_symlink() {
            let target = fs::read_link(&at)?;
            let target = target.to_str().context("a target is not UTF-8")?;
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_path(path)?;
            header.set_link_name_literal(target)?;
            entry.insert("linkName".to_owned(), target.into());
            self.add_entry(header, entry, "symlink", path);
        } else if let Some(first) = first {
            header.set_entry_type(tar::EntryType::Link);
            header.set_path(path)?;
            header.set_link_name(&first)?;
            entry.insert("linkName".to_owned(), first.into());
            self.add_entry(header, entry, "hardlink", path);
        } else {
            anyhow::ensure!(metadata.is_file(), "{} cannot be packed", at.display());
            header.set_path(path)?;
            self.add_file(header, entry, path, &fs::read(&at)?)?;
            if metadata.nlink() > 1 {
                self.inodes.insert(metadata.ino(), path.to_owned());
            }
        }
        Ok(())
    }

    fn add_landmark(&mut self, name: &str) -> Result<()> {
        let mut entry = Map::new();
        for (key, value) in [("mode", 0o644), ("uid", 0), ("gid", 0)] {
            entry.insert(key.to_owned(), value.into());
        }
        self.add_file(own_header(name, 0o644)?, entry, name, &[0xf])
    }

    fn add_entry(&mut self, mut header: tar::Header, mut entry: Map<String, Value>, kind: &str, name: &str) {
        header.set_cksum();
        self.tar(header.as_bytes());
        entry.insert("name".to_owned(), name.into());
        entry.insert("type".to_owned(), kind.into());
        self.entries.push(entry.into());
    }

    /// A file: its content in members of its own, one for each chunk.
    fn add_file(
        &mut self,
        mut header: tar::Header,
        mut entry: Map<String, Value>,
        name: &str,
        content: &[u8],
    ) -> Result<()> {
        header.set_size(content.len() as u64);
        if content.is_empty() {
            self.add_entry(header, entry, "reg", name);
            return Ok(());
        }
        entry.insert("size".to_owned(), content.len().into());
        entry.insert("digest".to_owned(), Digest::of(content).to_string().into());
        self.add_entry(header, entry, "reg", name);
        self.close_member()?;
        let chunks = content.chunks(CHUNK_LEN).count();
        for (number, chunk) in content.chunks(CHUNK_LEN).enumerate() {
            if number > 0 {
                self.entries.push(json!({ "name": name, "type": "chunk" }));
            }
            let last = self.entries.last_mut().expect("the file's entry is there");
            last["offset"] = self.blob.len().into();
            last["chunkOffset"] = (number * CHUNK_LEN).into();
            // Of the last chunk it is what is left.
            last["chunkSize"] = if number + 1 == chunks { 0 } else { chunk.len() }.into();
            last["chunkDigest"] = Digest::of(chunk).to_string().into();
            self.tar(chunk);
            self.close_member()?;
        }
        self.pad(content.len());
        Ok(())
    }

    fn finish(mut self) -> Result<Layer> {
        self.close_member()?;
        let offset = self.blob.len();
        let toc = json!({ "version": 1, "entries": self.entries }).to_string();
        let mut header = own_header(TOC_NAME, 0o444)?;
        header.set_size(toc.len() as u64);
        header.set_cksum();
        self.tar(header.as_bytes());
        self.tar(toc.as_bytes());
        self.pad(toc.len());
        self.tar(&[0; 2 * BLOCK_LEN]);
        self.close_member()?;
        self.blob.extend(footer(offset));
        Ok(Layer {
            diff_id: Digest::of(&self.tar),
            toc: Digest::of(toc.as_bytes()),
            len: self.tar.len(),
            blob: self.blob,
        })
    }

    fn tar(&mut self, bytes: &[u8]) {
        self.tar.extend_from_slice(bytes);
        self.pending.extend_from_slice(bytes);
    }

    fn pad(&mut self, len: usize) {
        self.tar(&vec![0; len.next_multiple_of(BLOCK_LEN) - len]);
    }

    fn close_member(&mut self) -> Result<()> {
        let mut member = GzEncoder::new(&mut self.blob, Compression::fast());
        member.write_all(&self.pending)?;
        member.finish()?;
        self.pending.clear();
        Ok(())
    }
}

/// The header of a file that is the format's own.
fn own_header(name: &str, mode: u32) -> Result<tar::Header> {
    let mut header = tar::Header::new_ustar();
    header.set_path(name)?;
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    Ok(header)
}

/// An empty gzip member whose extra field (RFC 1952, section 2.3.1.1) says where the table of contents begins: 51 bytes.
fn footer(offset: usize) -> Vec<u8> {
    let mut footer = vec![0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff, 26, 0, b'S', b'G', 22, 0];
    footer.extend(format!("{offset:016x}STARGZ").bytes());
    // One stored block without a byte (RFC 1951, section 3.2.4), and the checksum and length of nothing.
    footer.extend([1, 0, 0, 0xff, 0xff]);
    footer.extend([0; 8]);
    footer
}
