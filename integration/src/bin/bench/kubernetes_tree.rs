//! A rootfs of about 1 GB in the shape of a Kubernetes ClusterImage: the folders, names and sizes of a real one
//! (v1.19, docker, calico), filled with generated content.
//! Its manifests are noise: what they seem to name is nowhere, so images of it are built in lite mode.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Result;
use gantry_integration::image_tree::noise;
use gantry_model::Digest;

use crate::content;
use crate::programs::ProgramBytes;
use crate::settings::Settings;

/// Programs and their sizes in kilobytes.
const PROGRAMS: &[(&str, u64)] = &[
    ("bin/kubelet", 110_000),
    ("bin/kubectl", 43_000),
    ("bin/kubeadm", 39_000),
    ("bin/crictl", 32_000),
    ("bin/nerdctl", 30_000),
    ("bin/seautil", 44_000),
    ("bin/conntrack", 80),
    ("cri/dockerd", 71_000),
    ("cri/docker", 61_000),
    ("cri/containerd", 40_000),
    ("cri/ctr", 30_000),
    ("cri/containerd-shim", 7_000),
    ("cri/containerd-shim-runc-v2", 10_000),
    ("cri/runc", 10_000),
    ("cri/rootlesskit", 9_000),
    ("cri/vpnkit", 18_000),
    ("cri/docker-proxy", 3_000),
    ("cri/docker-init", 800),
];

/// Container images of the cluster's own registry, with the sizes of their layers in kilobytes, gzip-compressed.
const IMAGES: &[(&str, &[u64])] = &[
    ("kube-apiserver", &[19_700, 8_100, 600]),
    ("kube-controller-manager", &[19_700, 27_000, 600]),
    ("kube-scheduler", &[19_700, 11_500, 600]),
    ("kube-proxy", &[20_300, 4_400, 12_700, 300]),
    ("etcd", &[18_900, 87_000, 11_000, 900]),
    ("coredns", &[14_000, 200]),
    ("pause", &[300]),
    ("calico/node", &[52_000, 9_000]),
    ("calico/cni", &[45_000, 12_000]),
    ("calico/kube-controllers", &[21_000]),
    ("calico/pod2daemon-flexvol", &[9_000]),
];

/// Files of at most 40 kB: charts, manifests, configuration, the registry's links.
const SMALL_FILES: u64 = 2_000;

/// Writes the tree into a folder that does not exist yet; the bytes of its files.
///
/// No symbolic links: `scp -r` follows them and would carry their targets twice.
pub(crate) fn write(folder: &Path, settings: &Settings) -> Result<u64> {
    let mut programs = ProgramBytes::of_this_machine()?;
    for (name, kilobytes) in PROGRAMS {
        let path = folder.join(name);
        let mut file = content::create(&path)?;
        programs.write(settings.scaled(kilobytes * 1000), &mut file)?;
        file.flush()?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    }
    let mut small = write_registry(&folder.join("registry/docker/registry/v2"), settings)?;
    put(
        &folder.join("Metadata"),
        "{\"version\":\"v1.19.8\",\"arch\":\"amd64\"}\n".as_bytes(),
    )?;
    content::write_init_script(folder)?;
    small += 2;
    let wanted = settings.scaled(SMALL_FILES);
    for number in small..wanted {
        put(
            &folder.join(small_file(number)),
            content::text(small_size(number), number).as_bytes(),
        )?;
    }
    content::settle(folder)?;
    content::size_of_tree(folder)
}

/// The storage of a container registry; how many small files it has.
fn write_registry(v2: &Path, settings: &Settings) -> Result<u64> {
    let mut small = 0;
    let mut written: Vec<(u64, Digest)> = Vec::new();
    for (image, layers) in IMAGES {
        let repository = v2.join("repositories").join(image);
        let mut digests = Vec::new();
        for kilobytes in *layers {
            // Layers of one size are one base layer that several images share.
            let known = written
                .iter()
                .find(|(size, _)| size == kilobytes)
                .map(|(_, digest)| *digest);
            let digest = match known {
                Some(digest) => digest,
                None => {
                    let bytes = noise(usize::try_from(settings.scaled(kilobytes * 1000))?, *kilobytes);
                    let digest = put_blob(v2, &bytes)?;
                    written.push((*kilobytes, digest));
                    digest
                }
            };
            digests.push(digest);
        }
        let config = put_blob(
            v2,
            format!("{{\"architecture\":\"amd64\",\"history\":\"{image}\"}}\n").as_bytes(),
        )?;
        digests.push(config);
        let manifest = put_blob(
            v2,
            format!("{{\"schemaVersion\":2,\"layers\":\"{digests:?}\"}}\n").as_bytes(),
        )?;
        for digest in digests {
            put(
                &repository.join(format!("_layers/sha256/{}/link", digest.hex())),
                link(digest).as_bytes(),
            )?;
            small += 1;
        }
        for place in ["revisions", "tags/v1/index"] {
            let path = repository.join(format!("_manifests/{place}/sha256/{}/link", manifest.hex()));
            put(&path, link(manifest).as_bytes())?;
        }
        put(
            &repository.join("_manifests/tags/v1/current/link"),
            link(manifest).as_bytes(),
        )?;
        small += 5;
    }
    Ok(small)
}

fn put_blob(v2: &Path, bytes: &[u8]) -> Result<Digest> {
    let digest = Digest::of(bytes);
    let hex = digest.hex();
    put(&v2.join(format!("blobs/sha256/{}/{hex}/data", &hex[..2])), bytes)?;
    Ok(digest)
}

fn link(digest: Digest) -> String {
    format!("sha256:{}", digest.hex())
}

fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = content::create(path)?;
    file.write_all(bytes)?;
    Ok(file.flush()?)
}

fn small_file(number: u64) -> PathBuf {
    let place = match number % 4 {
        0 => format!("charts/chart{}/templates/{number}.yaml", number % 40),
        1 => format!("manifests/{}/{number}.yaml", number % 20),
        2 => format!("etc/defaults/{number}.conf"),
        _ => format!("statics/{}/{number}.yaml.tmpl", number % 20),
    };
    PathBuf::from(place)
}

/// Half of the files are below 5 kB, one in sixteen near 40 kB.
fn small_size(number: u64) -> usize {
    let size = match number % 16 {
        0 => 38_000,
        1..=3 => 16_000,
        4..=7 => 7_000,
        8..=12 => 3_000,
        _ => 700,
    };
    size + usize::try_from(number * 37 % 997).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_trees_are_alike_and_have_the_wanted_shape() {
        let settings = Settings::new(true, None);
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (folder.path().join("one"), folder.path().join("other"));
        let size = write(&one, &settings).unwrap();
        assert_eq!(write(&other, &settings).unwrap(), size);
        gantry_integration::command::must("diff", ["-r".as_ref(), one.as_os_str(), other.as_os_str()])
            .unwrap();
        let full = size * 16;
        assert!((900_000_000..1_100_000_000).contains(&full), "{full} bytes");
    }
}
