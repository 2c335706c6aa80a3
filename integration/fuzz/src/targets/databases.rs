//! Databases that other programs wrote, read without these programs.

use std::fs::{self, File};

use gantry::sbom::read_rpm_database;
use gantry_agent::etcd::Database;

use super::archives::folder;
use crate::Target;

/// What RPM says is installed, in every form that is read.
pub(crate) const RPM_DATABASE: Target = Target {
    name: "rpm-database",
    seeds: || {
        let sqlite = include_bytes!("../../../../orchestrator/src/sbom/rpm/test-rpmdb.sqlite.zst");
        let mut berkeley = vec![0; 512];
        berkeley[12..16].copy_from_slice(&0x0006_1561_u32.to_le_bytes());
        vec![unpacked(sqlite), own_form(), berkeley]
    },
    run: |data| {
        let folder = folder();
        let path = folder.path().join("database");
        fs::write(&path, data).expect("a database can be written");
        let read = || read_rpm_database(File::open(&path).expect("it was just written"));
        if let Ok(packages) = read() {
            assert!(packages.iter().all(|package| package.version.contains('-')));
            assert_eq!(read(), Ok(packages));
        }
    },
};

/// A snapshot of etcd. Whatever its keys are, their values are there.
pub(crate) const ETCD_SNAPSHOT: Target = Target {
    name: "etcd-snapshot",
    seeds: || {
        let snapshot = include_bytes!("../../../../agent/src/etcd/database/test-snapshot.zst");
        vec![unpacked(snapshot)]
    },
    run: |data| {
        let folder = folder();
        let path = folder.path().join("snapshot");
        fs::write(&path, data).expect("a snapshot can be written");
        let Ok(database) = Database::open(&path) else {
            return;
        };
        for place in database.keys().unwrap_or_default().into_values() {
            assert!(database.value(place).is_ok(), "{place:?} lies outside");
        }
    },
};

fn unpacked(seed: &[u8]) -> Vec<u8> {
    zstd::decode_all(seed).expect("it was packed when it was made")
}

/// A database in RPM's own form with one package.
fn own_form() -> Vec<u8> {
    let (mut entries, mut data) = (Vec::new(), Vec::new());
    for (tag, text) in [(1000, "a"), (1001, "1"), (1002, "2"), (1022, "noarch")] {
        for number in [tag, 6, data.len() as u32, 1] {
            entries.extend(number.to_be_bytes());
        }
        data.extend([text.as_bytes(), b"\0"].concat());
    }
    let header = [
        &4_u32.to_be_bytes()[..],
        &(data.len() as u32).to_be_bytes(),
        &entries,
        &data,
    ]
    .concat();
    let le = |numbers: &[u32]| {
        numbers
            .iter()
            .flat_map(|number| number.to_le_bytes())
            .collect::<Vec<_>>()
    };
    let len = header.len() as u32;
    let blob = [
        b"BlbS".to_vec(),
        le(&[1, 7, len]),
        header,
        le(&[0, len]),
        b"BlbE".to_vec(),
    ]
    .concat();
    let mut database = [b"RpmP".to_vec(), le(&[0, 7, 1, 2, 0, 0, 0])].concat();
    database.extend([b"Slot".to_vec(), le(&[1, 256, blob.len().div_ceil(16) as u32])].concat());
    while database.len() < 4096 {
        database.extend([b"Slot".to_vec(), le(&[0, 0, 0])].concat());
    }
    database.extend(blob);
    database.resize(database.len().next_multiple_of(16), 0);
    database
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_hold_what_is_looked_for() {
        let folder = folder();
        let path = folder.path().join("database");
        let found = (RPM_DATABASE.seeds)().into_iter().map(|seed| {
            fs::write(&path, seed).unwrap();
            read_rpm_database(File::open(&path).unwrap()).map_or(0, |packages| packages.len())
        });
        assert_eq!(found.collect::<Vec<_>>(), [41, 1, 0]);
        fs::write(&path, &(ETCD_SNAPSHOT.seeds)()[0]).unwrap();
        assert_eq!(Database::open(&path).unwrap().keys().unwrap().len(), 152);
    }
}
