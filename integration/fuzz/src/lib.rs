//! What reads bytes that others wrote, each as a target: given anything, it answers or refuses, soon, within bounds, and without
//! a panic. What it understood holds what its readers build on.
//!
//! ```text
//! targets/ texts       Kubefiles, Clusterfiles, templates, charts, manifests, names
//!          documents   manifests, indexes, configs, tables of contents
//!          archives    tar layers, archives of images
//!          files       what an image's files say it holds: its registry, packages, programs
//!          databases   of RPM, and etcd's snapshots
//!          registries  auth files, registries.conf, challenges
//!          messages    the protocol's frames
//!          signatures  keys, what is signed, policies
//!          rehearsals  packets and questions of scripts
//! ```
//!
//! `make fuzz` gives every target to libFuzzer for a while; the tests here run the seeds, and random changes of them.

mod targets;

use std::fs;
use std::io;
use std::path::Path;

/// Something that reads what others wrote.
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// What inputs grow from.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Reads an input. Panics where something does not hold.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: &[Target] = &[
    targets::texts::KUBEFILE,
    targets::texts::CLUSTERFILE,
    targets::texts::COMPOSED,
    targets::texts::TEMPLATE,
    targets::texts::YAML,
    targets::texts::REFERENCE,
    targets::texts::CHART,
    targets::texts::IMAGE_NAMES,
    targets::documents::IMAGE_DOCUMENTS,
    targets::documents::TABLE_OF_CONTENTS,
    targets::archives::LAYER,
    targets::archives::ARCHIVE,
    targets::archives::CONTAINER_ARCHIVE,
    targets::archives::SEALER_ARCHIVE,
    targets::archives::PARTS_INDEX,
    targets::files::REGISTRY_TREE,
    targets::files::PACKAGES,
    targets::databases::RPM_DATABASE,
    targets::databases::ETCD_SNAPSHOT,
    targets::registries::AUTH_FILE,
    targets::registries::REGISTRIES_CONF,
    targets::registries::CHALLENGE,
    targets::messages::MESSAGE,
    targets::signatures::POLICY,
    targets::signatures::SIGNATURE,
    targets::rehearsals::PACKET,
    targets::rehearsals::QUESTION,
];

/// The target of this name.
#[must_use]
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// Writes the seeds of `target` into `folder`.
///
/// # Errors
/// When it cannot be written.
pub fn write_seeds(target: &Target, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for (index, seed) in (target.seeds)().iter().enumerate() {
        fs::write(folder.join(format!("seed-{index}")), seed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_seed_is_read() {
        for target in TARGETS {
            let seeds = (target.seeds)();
            assert!(!seeds.is_empty(), "{}", target.name);
            for seed in seeds {
                (target.run)(&seed);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_damaged_seed_is_refused_or_understood(
            which in 0..TARGETS.len(),
            seed: prop::sample::Index,
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
            cut: prop::sample::Index,
        ) {
            let target = &TARGETS[which];
            let seeds = (target.seeds)();
            let mut input = seeds[seed.index(seeds.len())].clone();
            if input.is_empty() {
                return Ok(());
            }
            for (at, byte) in changes {
                let at = at.index(input.len());
                input[at] = byte;
            }
            (target.run)(&input);
            (target.run)(&input[..cut.index(input.len())]);
        }
    }
}
