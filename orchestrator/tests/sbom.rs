//! `gantry sbom`: the document is SPDX 2.3 as the specification has it, and says what is in the image.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod desk;

use std::collections::BTreeSet;
use std::fs;

use desk::{Desk, text};
use serde_json::Value;

/// Words of the specification: relationships (11.1), algorithms and their digits (8.4), purposes (7.24), categories (7.21).
const RELATIONSHIPS: [&str; 3] = ["DESCRIBES", "CONTAINS", "DEPENDS_ON"];
const ALGORITHMS: [(&str, usize); 2] = [("SHA1", 40), ("SHA256", 64)];
const PURPOSES: [&str; 12] = [
    "APPLICATION",
    "FRAMEWORK",
    "LIBRARY",
    "CONTAINER",
    "OPERATING-SYSTEM",
    "DEVICE",
    "FIRMWARE",
    "SOURCE",
    "ARCHIVE",
    "FILE",
    "INSTALL",
    "OTHER",
];

fn str_of<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field]
        .as_str()
        .unwrap_or_else(|| panic!("{field} is a text: {value}"))
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value[field].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// SPDX 2.3, clause 6: what a document has to have, and what its ids lead to.
fn check(document: &Value) {
    assert_eq!(str_of(document, "spdxVersion"), "SPDX-2.3");
    assert_eq!(str_of(document, "dataLicense"), "CC0-1.0");
    assert_eq!(str_of(document, "SPDXID"), "SPDXRef-DOCUMENT");
    assert!(!str_of(document, "name").is_empty());
    let namespace = str_of(document, "documentNamespace");
    assert!(
        namespace.starts_with("https://") && !namespace.contains(['#', ' ']),
        "{namespace}"
    );
    let creation = &document["creationInfo"];
    let created = str_of(creation, "created");
    let time: jiff::Timestamp = created.parse().unwrap();
    assert_eq!(time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(), created);
    assert!(!list(creation, "creators").is_empty());
    for creator in list(creation, "creators") {
        let creator = creator.as_str().unwrap();
        assert!(
            ["Tool: ", "Person: ", "Organization: "]
                .iter()
                .any(|kind| creator.starts_with(kind)),
            "{creator}"
        );
    }

    let mut ids = BTreeSet::from(["SPDXRef-DOCUMENT"]);
    for element in list(document, "packages").iter().chain(list(document, "files")) {
        let id = str_of(element, "SPDXID");
        let rest = id.strip_prefix("SPDXRef-").unwrap_or_else(|| panic!("{id}"));
        assert!(
            !rest.is_empty()
                && rest
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || ".-".contains(c)),
            "{id}"
        );
        assert!(ids.insert(id), "{id} is given twice");
        for field in ["licenseConcluded", "copyrightText"] {
            assert_eq!(str_of(element, field), "NOASSERTION");
        }
    }
    list(document, "packages").iter().for_each(check_package);
    for file in list(document, "files") {
        assert!(str_of(file, "fileName").starts_with("./"), "{file}");
        let algorithms = checksums(file);
        assert!(algorithms.contains(&"SHA1"), "clause 8.4 asks for SHA-1: {file}");
    }
    let mut described = BTreeSet::new();
    for relationship in list(document, "relationships") {
        let kind = str_of(relationship, "relationshipType");
        assert!(RELATIONSHIPS.contains(&kind), "{kind}");
        let (of, to) = (
            str_of(relationship, "spdxElementId"),
            str_of(relationship, "relatedSpdxElement"),
        );
        assert!(ids.contains(of) && ids.contains(to), "{relationship}");
        if kind == "DESCRIBES" {
            assert_eq!(of, "SPDXRef-DOCUMENT");
            described.insert(to);
        }
    }
    assert_eq!(
        described.len(),
        1,
        "clause 11.1: the document says what it is about"
    );
}

fn check_package(package: &Value) {
    assert!(!str_of(package, "name").is_empty());
    assert_eq!(str_of(package, "downloadLocation"), "NOASSERTION");
    assert_eq!(str_of(package, "licenseDeclared"), "NOASSERTION");
    let analyzed = package["filesAnalyzed"].as_bool().unwrap();
    // Clause 7.9: mandatory where files were analyzed, and not to be there where they were not.
    assert_eq!(
        package.get("packageVerificationCode").is_some(),
        analyzed,
        "{package}"
    );
    if analyzed {
        let code = str_of(
            &package["packageVerificationCode"],
            "packageVerificationCodeValue",
        );
        assert!(
            code.len() == 40 && code.chars().all(|c| c.is_ascii_hexdigit()),
            "{code}"
        );
    }
    assert!(
        PURPOSES.contains(&str_of(package, "primaryPackagePurpose")),
        "{package}"
    );
    checksums(package);
    for reference in list(package, "externalRefs") {
        assert_eq!(str_of(reference, "referenceCategory"), "PACKAGE-MANAGER");
        assert_eq!(str_of(reference, "referenceType"), "purl");
        let purl = str_of(reference, "referenceLocator");
        assert!(
            purl.starts_with("pkg:") && !purl.contains([' ', '#', '"']),
            "{purl}"
        );
    }
}

fn checksums(element: &Value) -> Vec<&str> {
    let check = |checksum: &'_ Value| {
        let value = str_of(checksum, "checksumValue").to_owned();
        let (_, len) = ALGORITHMS
            .iter()
            .find(|(name, _)| *name == str_of(checksum, "algorithm"))
            .unwrap();
        let is_hex = value.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'));
        assert!(value.len() == *len && is_hex, "{value}");
    };
    list(element, "checksums").iter().for_each(check);
    list(element, "checksums")
        .iter()
        .map(|one| str_of(one, "algorithm"))
        .collect()
}

fn desk() -> Desk {
    let desk = Desk::new();
    desk.base_context();
    let repositories = "base/registry/docker/registry/v2/repositories";
    let digest = format!("sha256:{}", "ab".repeat(32));
    desk.file(
        &format!("{repositories}/library/pause/_manifests/tags/3.9/current/link"),
        &digest,
    );
    let revision = "ab".repeat(32);
    desk.file(
        &format!("{repositories}/library/pause/_manifests/revisions/sha256/{revision}/link"),
        &digest,
    );
    desk.file(
        "base/application/apps/web/Chart.yaml",
        "name: web\nversion: 1.2.3\n",
    );
    desk.file(
        "base/var/lib/dpkg/status",
        "Package: conntrack\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1:1.4.7-1\n",
    );
    desk.file("base/var/lib/rpm/rpmdb.sqlite", "SQLite format 3");
    desk.ok(&["build", "-t", "sea.hub:5000/demo:v1", "base"]);
    desk
}

fn packages(document: &Value) -> Vec<(&str, Option<&str>)> {
    let packages = list(document, "packages").iter();
    packages
        .map(|package| (str_of(package, "name"), package["versionInfo"].as_str()))
        .collect()
}

#[test]
fn the_document_is_spdx_and_names_what_is_in_the_image() {
    let desk = desk();
    let document = desk.json(&["sbom", "sea.hub:5000/demo:v1"]);
    check(&document);
    let found = packages(&document);
    for package in [
        ("sea.hub:5000/demo", Some("v1")),
        ("library/pause", Some("3.9")),
        ("web", Some("1.2.3")),
        ("conntrack", Some("1:1.4.7-1")),
        ("kube-apiserver", Some("v1")),
    ] {
        assert!(found.contains(&package), "{package:?} in {found:?}");
    }
    assert_eq!(found.len(), 5, "an image with a tag is listed once: {found:?}");
    let image = &list(&document, "packages")[0];
    assert!(
        str_of(image, "comment").contains("var/lib/rpm/rpmdb.sqlite (it is no database of RPM)"),
        "{image}"
    );

    // Both names of one file are listed, with the digests that coreutils say.
    let file = |name: &str| {
        let files = list(&document, "files").iter();
        files
            .clone()
            .find(|file| str_of(file, "fileName") == name)
            .unwrap()
    };
    let summed = |program: &str| {
        let output = std::process::Command::new(program)
            .arg(desk.path("base/bin/kubeadm"))
            .output()
            .unwrap();
        text(&output.stdout).split(' ').next().unwrap().to_owned()
    };
    let expected = [summed("sha1sum"), summed("sha256sum")];
    for name in ["./bin/kubeadm", "./bin/kubelet"] {
        let sums = list(file(name), "checksums").iter();
        let sums: Vec<&str> = sums.map(|sum| str_of(sum, "checksumValue")).collect();
        assert_eq!(sums, expected, "{name}");
    }
    let files = list(&document, "files").len();
    assert!(
        !list(&document, "files")
            .iter()
            .any(|file| str_of(file, "fileName") == "./bin/kubectl"),
        "a link is no file"
    );
    let contained = list(&document, "relationships").iter();
    let contained = contained.filter(|one| str_of(one, "relatedSpdxElement").starts_with("SPDXRef-File-"));
    assert_eq!(contained.count(), files);
}

/// Runs one of RPM's own programs.
fn rpm(desk: &Desk, program: &str, words: &str) -> String {
    let output = std::process::Command::new(program)
        .args(words.split(' '))
        .current_dir(desk.dir.path())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{program} {words}: {}",
        text(&output.stderr)
    );
    text(&output.stdout)
}

#[test]
fn what_rpm_installed_is_listed_as_rpm_lists_it() {
    let desk = Desk::new();
    desk.base_context();
    let here = desk.dir.path().display();
    let long = "a line of a long description\n".repeat(1000);
    for (name, version, more) in [
        ("kernel-core", "5.14.0", "Epoch: 4"),
        ("openssl-libs", "3.2.2~rc1", "BuildArch: noarch"),
        ("gone", "1", "BuildArch: noarch"),
    ] {
        let spec = format!(
            "Name: {name}\nVersion: {version}\nRelease: 6.el9\nSummary: s\nLicense: MIT\n{more}\n%description\n{long}%files\n"
        );
        desk.file(&format!("{name}.spec"), spec);
        rpm(
            &desk,
            "rpmbuild",
            &format!("--quiet -bb --define=_topdir\t{here}/top {name}.spec"),
        );
    }
    // With a database as rpm leaves it, and others that it cannot make here.
    let database = "base/var/lib/rpm";
    let dbpath = format!("--dbpath {here}/{database}");
    rpm(&desk, "rpm", &format!("{dbpath} --initdb"));
    let packages = rpm(&desk, "find", "top -name *.rpm");
    let packages = packages.lines().collect::<Vec<_>>().join(" ");
    rpm(
        &desk,
        "rpm",
        &format!("{dbpath} -i --justdb --nodeps --ignorearch {packages}"),
    );
    rpm(&desk, "rpm", &format!("{dbpath} -e --justdb gone"));
    let mut berkeley = vec![0; 4096];
    berkeley[12..16].copy_from_slice(&0x0006_1561_u32.to_le_bytes());
    desk.file("base/usr/lib/sysimage/rpm/Packages", berkeley);
    desk.ok(&["build", "-t", "demo:v1", "base"]);

    let document = desk.json(&["sbom", "demo:v1"]);
    check(&document);
    let purls: Vec<&str> = list(&document, "packages")
        .iter()
        .flat_map(|package| list(package, "externalRefs"))
        .map(|reference| str_of(reference, "referenceLocator"))
        .filter(|purl| purl.starts_with("pkg:rpm/"))
        .collect();
    let listed = rpm(
        &desk,
        "rpm",
        &format!(
            "{dbpath} -qa --queryformat pkg:rpm/%{{NAME}}@%{{VERSION}}-%{{RELEASE}}?arch=%{{ARCH}}%|EPOCH?{{&epoch=%{{EPOCH}}}}:{{}}|\\n"
        ),
    );
    let mut listed: Vec<&str> = listed.lines().collect();
    listed.sort_unstable();
    assert_eq!(purls, listed);
    assert_eq!(listed.len(), 2);
    let comment = str_of(&list(&document, "packages")[0], "comment");
    assert!(
        comment.ends_with("usr/lib/sysimage/rpm/Packages (it is a Berkeley DB, whose form is not read)"),
        "{comment}"
    );
}

#[test]
fn the_same_image_and_time_give_the_same_document() {
    let desk = desk();
    let at = |epoch: &str, file: &str| {
        let mut command = desk.command(&["sbom", "sea.hub:5000/demo:v1", "-o", file]);
        let output = command.env("SOURCE_DATE_EPOCH", epoch).output().unwrap();
        (
            output.status.code(),
            text(&output.stderr),
            fs::read(desk.path(file)).unwrap_or_default(),
        )
    };
    let first = at("1700000000", "a.json");
    assert_eq!((first.0, first.1.as_str()), (Some(0), ""));
    assert_eq!(at("1700000000", "b.json").2, first.2);
    let document: Value = serde_json::from_slice(&first.2).unwrap();
    assert_eq!(document["creationInfo"]["created"], "2023-11-14T22:13:20Z");
    let other: Value = serde_json::from_slice(&at("1700000001", "c.json").2).unwrap();
    assert_ne!(document["documentNamespace"], other["documentNamespace"]);
    let wrong = at("noon", "d.json");
    assert!(
        wrong.0 == Some(2) && wrong.1.contains("SOURCE_DATE_EPOCH"),
        "{}",
        wrong.1
    );
}

#[test]
fn a_go_program_is_a_package_that_depends_on_its_modules() {
    let desk = Desk::new();
    desk.base_context();
    let sentinel = [7; 16];
    let lines = "path\tk8s.io/kubernetes/cmd/kubeadm\nmod\tk8s.io/kubernetes\tv1.31.4\ndep\tgithub.com/spf13/cobra\tv1.8.0\th1:x=\n";
    let mut program = b"\x7fELF".to_vec();
    program.resize(2 << 20, 0);
    program.extend_from_slice(b"\xff Go buildinf:\x08\x02");
    program.resize(program.len() + 16, 0);
    program.push(8);
    program.extend_from_slice(b"go1.22.3");
    let block = [&sentinel[..], lines.as_bytes(), &sentinel[..]].concat();
    program.extend_from_slice(&[(block.len() & 0x7f) as u8 | 0x80, (block.len() >> 7) as u8]);
    program.extend_from_slice(&block);
    desk.file("base/bin/kubeadm", &program);
    desk.file("base/bin/kubeadm-again", &program);
    desk.ok(&["build", "-t", "demo:v1", "base"]);
    let document = desk.json(&["sbom", "demo:v1"]);
    check(&document);
    let found = packages(&document);
    let count = |name: &str, version: &str| {
        let wanted = (name, Some(version));
        found.iter().filter(|one| **one == wanted).count()
    };
    assert_eq!(
        count("k8s.io/kubernetes/cmd/kubeadm", "v1.31.4"),
        3,
        "three files are: {found:?}"
    );
    assert_eq!(
        (
            count("github.com/spf13/cobra", "v1.8.0"),
            count("stdlib", "1.22.3")
        ),
        (1, 1)
    );
    let depends = list(&document, "relationships").iter();
    let depends = depends.filter(|one| str_of(one, "relationshipType") == "DEPENDS_ON");
    assert_eq!(depends.count(), 6);
}
