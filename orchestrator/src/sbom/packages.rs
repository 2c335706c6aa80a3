//! What the files of an image say about packages: container images of its registry, charts, databases and archives of packages.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use gantry_model::Digest;
use gantry_store::{EntryKind, LayerError, Rootfs};

use super::rpm::{self, RpmPackage};
use super::spdx::ExternalRef;
use crate::clusterfile::yaml::Yaml;

/// Where a registry keeps the names of its images, below the rootfs (docker's distribution, version 2).
const REPOSITORIES: &str = "registry/docker/registry/v2/repositories/";
/// Most bytes of a file that is read for what it says of packages.
const MAX_READ_LEN: u64 = 32 << 20;
/// What there is.
#[derive(Debug, Default)]
pub(super) struct Packages {
    /// The packages, sorted.
    pub(super) found: BTreeSet<Found>,
    /// Files that say something about packages which is not read, `PATH (WHY)`.
    pub(super) unread: Vec<String>,
}

/// One package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Found {
    pub(super) name: String,
    pub(super) version: Option<String>,
    /// Of a container image: that of its manifest or index.
    pub(super) digest: Option<Digest>,
    /// Its package URL (<https://github.com/package-url/purl-spec>).
    pub(super) purl: String,
    /// `CONTAINER`, `INSTALL`, …: SPDX's words.
    pub(super) purpose: &'static str,
}

impl Found {
    pub(super) fn external_ref(&self) -> ExternalRef {
        purl_ref(&self.purl)
    }
}

/// A package URL as SPDX has it.
pub(super) fn purl_ref(purl: &str) -> ExternalRef {
    ExternalRef {
        reference_category: "PACKAGE-MANAGER",
        reference_type: "purl",
        reference_locator: purl.to_owned(),
    }
}

/// Looks for them.
///
/// # Errors
/// When a file that is read is damaged.
pub(super) fn find(rootfs: &Rootfs) -> Result<Packages, LayerError> {
    let mut packages = Packages::default();
    let mut manifests = BTreeMap::new();
    for (path, entry) in rootfs.iter() {
        let EntryKind::File { size, .. } = entry.kind else {
            continue;
        };
        if let Some(rest) = path.strip_prefix(REPOSITORIES) {
            container_image(rootfs, path, rest, &mut manifests)?;
            continue;
        }
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        if name == "Chart.yaml" {
            packages
                .found
                .extend(text(rootfs, path)?.and_then(|text| chart(&text)));
        } else if path == "var/lib/dpkg/status" || folder == "var/lib/dpkg/status.d" {
            packages
                .found
                .extend(text(rootfs, path)?.iter().flat_map(|text| dpkg(text)));
        } else if let Some(kind) = rpm::kind(path) {
            rpm_database(rootfs, path, kind, size, &mut packages)?;
        } else if let Some(stem) = name.strip_suffix(".deb") {
            packages.found.extend(deb_file(stem));
        } else if let Some(stem) = name.strip_suffix(".rpm") {
            packages.found.extend(rpm_file(stem));
        }
    }
    for ((repository, digest), tag) in manifests {
        packages
            .found
            .insert(container_image_package(&repository, digest, tag));
    }
    Ok(packages)
}

type Manifests = BTreeMap<(String, Digest), Option<String>>;

/// Notes what a link in the registry's tree says: a tag, or a manifest that may have none.
fn container_image(
    rootfs: &Rootfs,
    path: &str,
    rest: &str,
    manifests: &mut Manifests,
) -> Result<(), LayerError> {
    let Some((repository, link)) = rest.split_once("/_manifests/") else {
        return Ok(());
    };
    let tag = link
        .strip_prefix("tags/")
        .and_then(|rest| rest.strip_suffix("/current/link"));
    let revision = link
        .strip_prefix("revisions/sha256/")
        .and_then(|rest| rest.strip_suffix("/link"));
    let digest = match (tag, revision) {
        (Some(_), _) => text(rootfs, path)?.and_then(|text| text.trim().parse().ok()),
        (None, Some(hex)) => Digest::from_hex(hex).ok(),
        (None, None) => None,
    };
    if let Some(digest) = digest {
        let known = manifests.entry((repository.to_owned(), digest)).or_default();
        if let Some(tag) = tag.filter(|_| known.is_none()) {
            *known = Some(tag.to_owned());
        }
    }
    Ok(())
}

/// The package URL of a container image (purl-spec, type `oci`).
pub(crate) fn container_image_purl(repository: &str, digest: Digest, tag: Option<&str>) -> String {
    let name = repository.rsplit('/').next().unwrap_or(repository);
    let mut purl = format!(
        "pkg:oci/{}@{}?repository_url={}",
        escaped(&name.to_lowercase()),
        escaped(&digest.to_string()),
        escaped(repository)
    );
    if let Some(tag) = tag {
        purl.push_str(&format!("&tag={}", escaped(tag)));
    }
    purl
}

fn container_image_package(repository: &str, digest: Digest, tag: Option<String>) -> Found {
    Found {
        name: repository.to_owned(),
        purl: container_image_purl(repository, digest, tag.as_deref()),
        version: tag.or_else(|| Some(digest.to_string())),
        digest: Some(digest),
        purpose: "CONTAINER",
    }
}

/// A helm chart, by its `Chart.yaml`.
fn chart(text: &str) -> Option<Found> {
    let documents = Yaml::documents(text).ok()?;
    let field = |name: &str| documents.first()?.get(name)?.text().map(str::to_owned);
    let (name, version) = (field("name")?, field("version"));
    let at = version.as_ref().map(|version| format!("@{}", escaped(version)));
    Some(Found {
        purl: format!("pkg:helm/{}{}", escaped(&name), at.unwrap_or_default()),
        name,
        version,
        digest: None,
        purpose: "APPLICATION",
    })
}

/// The packages that dpkg's status says are installed (deb-control(5)).
fn dpkg(text: &str) -> Vec<Found> {
    let packages = text.split("\n\n").filter_map(|paragraph| {
        let field = |name: &str| {
            let mut values = paragraph.lines().filter_map(|line| line.split_once(": "));
            values
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value.trim())
        };
        // Single files, one per package, have no status.
        let is_there = field("Status").is_none_or(|status| status.ends_with(" installed"));
        let (name, version) = (field("Package")?, field("Version")?);
        is_there.then(|| debian(name, version, field("Architecture")))
    });
    packages.collect()
}

fn debian(name: &str, version: &str, architecture: Option<&str>) -> Found {
    let arch = architecture.map(|word| format!("?arch={}", escaped(word)));
    Found {
        name: name.to_owned(),
        version: Some(version.to_owned()),
        digest: None,
        purl: format!(
            "pkg:deb/debian/{}@{}{}",
            escaped(name),
            escaped(version),
            arch.unwrap_or_default()
        ),
        purpose: "INSTALL",
    }
}

/// `NAME_VERSION_ARCH.deb`, as dpkg names its archives; an epoch's colon is written `%3a`.
fn deb_file(stem: &str) -> Option<Found> {
    let mut parts = stem.split('_');
    let (name, version) = (parts.next()?, parts.next()?.replace("%3a", ":"));
    Some(debian(name, &version, parts.next()))
}

/// Notes what a database of RPM says is installed, or why that is not known.
fn rpm_database(
    rootfs: &Rootfs,
    path: &str,
    kind: rpm::Kind,
    size: u64,
    packages: &mut Packages,
) -> Result<(), LayerError> {
    let unread = match kind {
        rpm::Kind::Log if size == 0 => return Ok(()),
        rpm::Kind::Log => "changes that are not in the database yet".to_owned(),
        rpm::Kind::Database => match rpm::packages(rootfs, path, size)? {
            Ok(found) => {
                packages.found.extend(found.into_iter().map(rpm_package));
                return Ok(());
            }
            Err(reason) => reason.to_string(),
        },
    };
    packages.unread.push(format!("{path} ({unread})"));
    Ok(())
}

/// `NAME-VERSION-RELEASE.ARCH.rpm`, as rpm names its archives.
fn rpm_file(stem: &str) -> Option<Found> {
    let (rest, arch) = stem.rsplit_once('.')?;
    let (rest, release) = rest.rsplit_once('-')?;
    let (name, version) = rest.rsplit_once('-')?;
    Some(rpm_package(RpmPackage {
        name: name.to_owned(),
        epoch: None,
        version: format!("{version}-{release}"),
        arch: Some(arch.to_owned()),
    }))
}

/// A package of RPM; package URLs have its epoch apart from its version (purl-spec, type `rpm`).
fn rpm_package(package: RpmPackage) -> Found {
    let RpmPackage {
        name,
        epoch,
        version,
        arch,
    } = package;
    let arch = arch.map(|arch| format!("arch={}", escaped(&arch)));
    let qualifiers = arch
        .into_iter()
        .chain(epoch.map(|epoch| format!("epoch={epoch}")));
    let qualifiers = qualifiers.collect::<Vec<_>>().join("&");
    let mark = if qualifiers.is_empty() { "" } else { "?" };
    Found {
        purl: format!(
            "pkg:rpm/{}@{}{mark}{qualifiers}",
            escaped(&name),
            escaped(&version)
        ),
        version: Some(match epoch {
            Some(epoch) => format!("{epoch}:{version}"),
            None => version,
        }),
        name,
        digest: None,
        purpose: "INSTALL",
    }
}

/// A part of a package URL: what is not plain is percent-encoded.
pub(super) fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_~/".contains(&byte);
    let escape = |byte: u8| match byte {
        byte if plain(byte) => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}

/// A text file of the image; none when it is long, or no text.
fn text(rootfs: &Rootfs, path: &str) -> Result<Option<String>, LayerError> {
    struct Short(Vec<u8>);
    impl Write for Short {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    match rootfs.get(path).map(|entry| &entry.kind) {
        Some(EntryKind::File { size, .. }) if *size <= MAX_READ_LEN => {}
        _ => return Ok(None),
    }
    let mut short = Short(Vec::new());
    rootfs.copy_file(path, &mut short)?;
    Ok(String::from_utf8(short.0).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_named_as_package_urls_have_it() {
        let purls = |found: Vec<Found>| found.into_iter().map(|one| one.purl).collect::<Vec<_>>();
        let status = "Package: conntrack\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1:1.4.7-1+b2\n\n\
                      Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\nPackage: none\n";
        assert_eq!(
            purls(dpkg(status)),
            ["pkg:deb/debian/conntrack@1%3A1.4.7-1%2Bb2?arch=amd64"]
        );
        let files = [
            deb_file("libssl3_3.0.15-1~deb12u1_amd64"),
            deb_file("a_1%3a2_all"),
            deb_file("readme"),
        ];
        assert_eq!(
            purls(files.into_iter().flatten().collect()),
            [
                "pkg:deb/debian/libssl3@3.0.15-1~deb12u1?arch=amd64",
                "pkg:deb/debian/a@1%3A2?arch=all"
            ]
        );
        let files = [
            rpm_file("container-selinux-2.221.0-1.el9.noarch"),
            rpm_file("odd"),
        ];
        assert_eq!(
            purls(files.into_iter().flatten().collect()),
            ["pkg:rpm/container-selinux@2.221.0-1.el9?arch=noarch"]
        );
        let found = chart("apiVersion: v2\nname: web\nversion: 1.2.3\n").unwrap();
        assert_eq!(
            (found.purl.as_str(), found.version.as_deref()),
            ("pkg:helm/web@1.2.3", Some("1.2.3"))
        );
        let digest = Digest::of(b"manifest");
        let found = container_image_package("library/Nginx", digest, Some("1.27".into()));
        assert_eq!(
            found.purl,
            format!(
                "pkg:oci/nginx@sha256%3A{}?repository_url=library/Nginx&tag=1.27",
                digest.hex()
            )
        );
        assert_eq!(
            container_image_package("a", digest, None).version,
            Some(digest.to_string())
        );
    }
}
