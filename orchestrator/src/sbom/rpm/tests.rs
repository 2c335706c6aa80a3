//! Databases that RPM itself made, and those that are damaged.

use std::io::Write as _;

use proptest::prelude::*;

use super::*;

/// A database of rpm 4.18 with `alpha-2:1.2-3.el9.noarch`, `beta-libs-0.9~rc1-1.x86_64`, and packages `many-NUMBER` whose headers fill
/// pages of their own; one was removed.
fn sqlite() -> Vec<u8> {
    zstd::decode_all(&include_bytes!("test-rpmdb.sqlite.zst")[..]).unwrap()
}

fn read(bytes: &[u8]) -> Result<Vec<RpmPackage>, Unread> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    read_database(file)
}

fn package(name: &str, epoch: Option<u32>, version: &str, arch: &str) -> RpmPackage {
    RpmPackage {
        name: name.to_owned(),
        epoch,
        version: version.to_owned(),
        arch: Some(arch.to_owned()),
    }
}

/// A header with these texts, and an epoch.
fn header(texts: &[(u32, &str)], epoch: Option<u32>) -> Vec<u8> {
    let (mut entries, mut data, mut count) = (Vec::new(), Vec::new(), 0_u32);
    let mut add = |tag: u32, kind: u32, bytes: &[u8]| {
        for number in [tag, kind, u32::try_from(data.len()).unwrap(), 1] {
            entries.extend(number.to_be_bytes());
        }
        data.extend(bytes);
        count += 1;
    };
    if let Some(epoch) = epoch {
        add(1003, 4, &epoch.to_be_bytes());
    }
    for (tag, text) in texts {
        add(*tag, 6, &[text.as_bytes(), b"\0"].concat());
    }
    let len = u32::try_from(data.len()).unwrap();
    [&count.to_be_bytes()[..], &len.to_be_bytes(), &entries, &data].concat()
}

fn header_of(name: &str) -> Vec<u8> {
    header(&[(1000, name), (1001, "1"), (1002, "2"), (1022, "noarch")], None)
}

/// A database in RPM's own form with these headers.
pub(in crate::sbom) fn ndb(headers: &[Vec<u8>]) -> Vec<u8> {
    let number = |number: usize| u32::try_from(number).unwrap().to_le_bytes();
    let mut slots = [
        &b"RpmP"[..],
        &number(0),
        &number(7),
        &number(1),
        &number(headers.len() + 1),
        &[0; 12],
    ]
    .concat();
    let mut blobs = Vec::new();
    for (index, header) in headers.iter().enumerate() {
        let at = (4096 + blobs.len()) / 16;
        blobs.extend(
            [
                &b"BlbS"[..],
                &number(index + 1),
                &number(7),
                &number(header.len()),
                header,
            ]
            .concat(),
        );
        let tail = blobs.len() + 12;
        blobs.resize(tail.next_multiple_of(16) - 12, 0);
        blobs.extend([&[0; 4][..], &number(header.len()), b"BlbE"].concat());
        let blocks = (4096 + blobs.len()) / 16 - at;
        slots.extend([&b"Slot"[..], &number(index + 1), &number(at), &number(blocks)].concat());
    }
    while slots.len() < 4096 {
        slots.extend([&b"Slot"[..], &[0; 12]].concat());
    }
    [slots, blobs].concat()
}

#[test]
fn a_database_of_rpm_is_read_as_rpm_reads_it() {
    let packages = read(&sqlite()).unwrap();
    assert!(
        packages.contains(&package("alpha", Some(2), "1.2-3.el9", "noarch")),
        "{packages:?}"
    );
    assert!(packages.contains(&package("beta-libs", None, "0.9~rc1-1", "x86_64")));
    let many = packages
        .iter()
        .filter(|one| one.name.starts_with("many-"))
        .count();
    assert_eq!((many, packages.len()), (39, 41), "{packages:?}");
}

#[test]
fn the_form_of_newer_suse_is_read() {
    let key = header_of("gpg-pubkey");
    let epoch = header(
        &[(1000, "b"), (1001, "3"), (1002, "4"), (1022, "x86_64")],
        Some(5),
    );
    let packages = read(&ndb(&[header_of("a"), key, epoch])).unwrap();
    assert_eq!(
        packages,
        [
            package("a", None, "1-2", "noarch"),
            package("b", Some(5), "3-4", "x86_64")
        ]
    );
}

#[test]
fn what_is_not_read_says_why() {
    let mut berkeley = vec![0; 4096];
    berkeley[12..16].copy_from_slice(&0x0006_1561_u32.to_le_bytes());
    let mut other_version = ndb(&[]);
    other_version[4] = 1;
    let mut circle = sqlite();
    // Page 2 is where the packages begin: as the inner page that leads to itself.
    circle[4096] = 5;
    circle[4096 + 3..4096 + 12].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 2]);
    let no_name = header(&[(1001, "1"), (1002, "2")], None);
    for (bytes, reason) in [
        (Vec::new(), "no database of RPM"),
        (b"SQLite format 3".to_vec(), "no database of RPM"),
        (b"SQLite format 3\0".repeat(8), "no length"),
        (berkeley, "Berkeley DB"),
        (other_version, "version is not known"),
        (circle, "in a circle"),
        (sqlite()[..8192].to_vec(), "behind its end"),
        (ndb(&[header_of("a")])[..4096].to_vec(), "behind its end"),
        (ndb(&[no_name]), "no name, version or release"),
        (ndb(&[vec![0xff; 16]]), "too many entries"),
        (ndb(&[header_of("a")[..40].to_vec()]), "ends early"),
    ] {
        let error = read(&bytes).unwrap_err().to_string();
        assert!(error.contains(reason), "{error} does not say {reason:?}");
    }
}

proptest! {
    #[test]
    fn damage_is_an_error_or_another_package(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40),
        cut in any::<prop::sample::Index>(),
        form in any::<bool>(),
    ) {
        let mut bytes = if form { sqlite() } else { ndb(&[header_of("a"), header_of("b")]) };
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = read(&bytes);
        let _ = read(&bytes[..cut.index(bytes.len())]);
    }

    #[test]
    fn any_header_is_read_as_it_was_written(
        names in prop::collection::vec("[a-z][a-z0-9+.-]{0,20}", 0..20),
        epoch in any::<Option<u32>>(),
    ) {
        let headers: Vec<Vec<u8>> = names
            .iter()
            .map(|name| header(&[(1000, name), (1001, "1"), (1002, "2"), (1022, "noarch")], epoch))
            .collect();
        let packages = read(&ndb(&headers)).unwrap();
        prop_assert_eq!(packages, names.iter().map(|name| package(name, epoch, "1-2", "noarch")).collect::<Vec<_>>());
    }
}
