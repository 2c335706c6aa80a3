//! The document: the image, what it contains, and how one is part of the other.

use std::collections::{BTreeMap, BTreeSet};

use gantry_store::Image;
use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};

use super::contents::{FileContents, hex};
use super::go_build_info::{GoBuildInfo, GoModule};
use super::packages::{Packages, escaped, purl_ref};
use super::spdx::{
    Checksum, CreationInfo, Document, File, NOASSERTION, Package, Relationship, VerificationCode,
};

/// The ids that SPDX gives, and that are given here.
const DOCUMENT: &str = "SPDXRef-DOCUMENT";
const IMAGE: &str = "SPDXRef-Image";

/// Makes the document.
pub(super) fn document(
    image: &Image,
    contents: &BTreeMap<String, FileContents>,
    packages: Packages,
    created: i64,
) -> Document {
    let name = image.reference.as_ref();
    let name = name.map_or_else(|| image.manifest_digest.to_string(), ToString::to_string);
    let mut document = Document {
        spdx_version: "SPDX-2.3",
        data_license: "CC0-1.0",
        id: DOCUMENT,
        document_namespace: format!(
            "https://spdx.org/spdxdocs/gantry-{}-{created}",
            image.manifest_digest.hex()
        ),
        name: name.clone(),
        creation_info: CreationInfo {
            created: time(created),
            creators: vec![format!("Tool: gantry-{}", env!("CARGO_PKG_VERSION"))],
        },
        packages: vec![package_of_image(image, &name, contents, &packages.unread)],
        files: contents
            .iter()
            .enumerate()
            .map(|(number, (path, contents))| file(number, path, contents))
            .collect(),
        relationships: vec![relationship(DOCUMENT, "DESCRIBES", IMAGE)],
    };
    for (number, found) in packages.found.iter().enumerate() {
        let id = format!("SPDXRef-Package-{number}");
        let mut package = package(id.clone(), found.name.clone(), found.version.clone());
        package.external_refs = vec![found.external_ref()];
        package.primary_package_purpose = Some(found.purpose);
        package.checksums = found
            .digest
            .iter()
            .map(|digest| checksum("SHA256", digest.hex()))
            .collect();
        document.packages.push(package);
        document.relationships.push(relationship(IMAGE, "CONTAINS", &id));
    }
    for file in &document.files {
        document
            .relationships
            .push(relationship(IMAGE, "CONTAINS", &file.id));
    }
    go_programs(contents, &mut document);
    document
}

/// Go programs, each a package that its file belongs to, and the modules they were made with, each once.
fn go_programs(contents: &BTreeMap<String, FileContents>, document: &mut Document) {
    let mut modules: BTreeMap<GoModule, String> = BTreeMap::new();
    for (number, contents) in contents.values().enumerate() {
        let Some(info) = &contents.go else { continue };
        let id = format!("SPDXRef-Program-{number}");
        let mut program = package(id.clone(), info.path.clone(), info.version());
        program.primary_package_purpose = Some("APPLICATION");
        program.external_refs = vec![purl_ref(&golang(&info.path, info.version().as_deref()))];
        document.packages.push(program);
        document.relationships.push(relationship(IMAGE, "CONTAINS", &id));
        document
            .relationships
            .push(relationship(&id, "CONTAINS", &file_id(number)));
        let seen: BTreeSet<GoModule> = made_with(info).collect();
        for module in seen {
            let next = modules.len();
            let module_id = modules
                .entry(module)
                .or_insert_with(|| format!("SPDXRef-Module-{next}"));
            document
                .relationships
                .push(relationship(&id, "DEPENDS_ON", module_id));
        }
    }
    for (module, id) in modules {
        let mut package = package(id, module.path.clone(), Some(module.version.clone()));
        package.external_refs = vec![purl_ref(&golang(&module.path, Some(&module.version)))];
        package.primary_package_purpose = Some("LIBRARY");
        document.packages.push(package);
    }
}

/// The modules that a program was made with; Go's own library is one. What was replaced by a folder has no name.
fn made_with(info: &GoBuildInfo) -> impl Iterator<Item = GoModule> {
    let library = GoModule {
        path: "stdlib".to_owned(),
        version: info.go.clone(),
    };
    let named = info
        .dependencies
        .iter()
        .filter(|module| !module.path.starts_with(['.', '/']));
    named.cloned().chain([library])
}

fn golang(path: &str, version: Option<&str>) -> String {
    let version = version.filter(|version| !matches!(*version, "" | "(devel)"));
    let at = version.map(|version| format!("@{}", escaped(version)));
    format!("pkg:golang/{}{}", escaped(path), at.unwrap_or_default())
}

fn package_of_image(
    image: &Image,
    name: &str,
    contents: &BTreeMap<String, FileContents>,
    unread: &[String],
) -> Package {
    let reference = image.reference.as_ref();
    let short = reference.map_or(name, |reference| reference.path());
    let short = short.rsplit('/').next().unwrap_or(short);
    let mut purl = format!(
        "pkg:oci/{}@{}",
        escaped(&short.to_lowercase()),
        escaped(&image.manifest_digest.to_string())
    );
    if let Some(reference) = reference {
        purl.push_str(&format!("?repository_url={}", escaped(reference.name())));
        if let Some(tag) = reference.tag() {
            purl.push_str(&format!("&tag={}", escaped(tag)));
        }
    }
    let version = reference.and_then(|reference| reference.tag()).map(str::to_owned);
    let mut package = package(
        IMAGE.to_owned(),
        reference.map_or(name, |reference| reference.name()).to_owned(),
        version,
    );
    package.checksums = vec![checksum("SHA256", image.manifest_digest.hex())];
    package.external_refs = vec![purl_ref(&purl)];
    package.primary_package_purpose = Some("CONTAINER");
    // A package without files has nothing that could be verified (SPDX 2.3, 7.8 and 7.9).
    package.files_analyzed = !contents.is_empty();
    package.package_verification_code = package.files_analyzed.then(|| VerificationCode {
        package_verification_code_value: verification_code(contents),
    });
    if !unread.is_empty() {
        package.comment = Some(format!(
            "Packages that these databases name are not listed: {}",
            unread.join(", ")
        ));
    }
    package
}

/// SHA-1 over the files' SHA-1, sorted and put together (SPDX 2.3, 7.9).
fn verification_code(contents: &BTreeMap<String, FileContents>) -> String {
    let mut digests: Vec<&str> = contents.values().map(|contents| contents.sha1.as_str()).collect();
    digests.sort_unstable();
    let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    digests
        .iter()
        .for_each(|digest| context.update(digest.as_bytes()));
    hex(context.finish().as_ref())
}

fn package(id: String, name: String, version: Option<String>) -> Package {
    Package {
        name,
        id,
        version_info: version.filter(|version| !version.is_empty()),
        download_location: NOASSERTION,
        files_analyzed: false,
        package_verification_code: None,
        checksums: Vec::new(),
        license_concluded: NOASSERTION,
        license_declared: NOASSERTION,
        copyright_text: NOASSERTION,
        external_refs: Vec::new(),
        primary_package_purpose: None,
        comment: None,
    }
}

fn file(number: usize, path: &str, contents: &FileContents) -> File {
    File {
        file_name: format!("./{path}"),
        id: file_id(number),
        checksums: vec![
            checksum("SHA1", contents.sha1.clone()),
            checksum("SHA256", contents.sha256.clone()),
        ],
        license_concluded: NOASSERTION,
        copyright_text: NOASSERTION,
    }
}

fn file_id(number: usize) -> String {
    format!("SPDXRef-File-{number}")
}

fn checksum(algorithm: &'static str, checksum_value: String) -> Checksum {
    Checksum {
        algorithm,
        checksum_value,
    }
}

fn relationship(of: &str, relationship_type: &'static str, to: &str) -> Relationship {
    Relationship {
        spdx_element_id: of.to_owned(),
        relationship_type,
        related_spdx_element: to.to_owned(),
    }
}

/// As SPDX has it: in UTC, to the second.
fn time(seconds: i64) -> String {
    let time = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
