//! Archives in parts: any order, any number of commands, any medium; what is damaged or missing is named.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use gantry_model::ExitCode;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{PartsIndex, PartsState};
use crate::archive::tests::{image, name};
use crate::limits::MIN_PART_LEN;
use crate::testing::{self, TestStore};
use crate::{Store, StoreError};

/// A store with an image `demo:1`, whose layer is longer than some parts.
fn with_image() -> TestStore {
    let test = testing::store();
    let noise: String = testing::noise(3, 400_000)
        .iter()
        .map(|byte| char::from(b' ' + byte % 90))
        .collect();
    image(&test.store, "demo:1", &noise);
    test
}

fn save(store: &Store, dir: &Path, part_size: u64) -> (PartsIndex, Vec<u32>) {
    let saved = store
        .save_parts(
            &[name("demo:1")],
            None,
            &dir.join("demo.tar"),
            part_size,
            None,
            &mut |_| {},
        )
        .unwrap();
    (index(dir), saved.written)
}

fn index(dir: &Path) -> PartsIndex {
    PartsIndex::read(&dir.join("demo.tar.parts.json")).unwrap()
}

fn part(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("demo.tar.part-{number:04}"))
}

fn load(store: &Store, dir: &Path, number: u32) -> Result<bool, StoreError> {
    let path = part(dir, number);
    let file = File::open(&path).unwrap();
    store.load_part(&index(dir), number, file, &path.display().to_string())
}

fn complete(store: &Store, dir: &Path) -> PartsState {
    store.complete_parts(&index(dir), None, &mut |_| {}).unwrap()
}

fn is_loaded(state: &PartsState) -> bool {
    matches!(state, PartsState::Loaded(images) if images.len() == 1)
}

#[test]
fn parts_put_together_are_the_archive() {
    let (here, dir) = (with_image(), tempfile::tempdir().unwrap());
    let (index, written) = save(&here.store, dir.path(), MIN_PART_LEN);
    assert!(
        index.count() > 3 && written.len() == index.count() as usize,
        "{written:?}"
    );
    let mut together = Vec::new();
    for number in 1..=index.count() {
        let bytes = fs::read(part(dir.path(), number)).unwrap();
        assert_eq!(bytes.len() as u64, index.part_size(number));
        together.extend(bytes);
    }
    let mut whole = Vec::new();
    here.store
        .save(&[name("demo:1")], None, &mut whole, &mut |_| {})
        .unwrap();
    assert_eq!(together, whole);
    let there = testing::store();
    there
        .store
        .load_stream(&together[..], "together", None, None, &mut |_| {})
        .unwrap();
}

#[test]
fn parts_come_in_any_order_and_missing_ones_are_named() {
    let (here, there, dir) = (with_image(), testing::store(), tempfile::tempdir().unwrap());
    let (index, _) = save(&here.store, dir.path(), MIN_PART_LEN);
    let count = index.count();
    assert!(load(&there.store, dir.path(), 3).unwrap());
    assert!(!load(&there.store, dir.path(), 3).unwrap(), "it was here before");
    let missing: Vec<u32> = (1..=count).filter(|number| *number != 3).collect();
    assert_eq!(complete(&there.store, dir.path()), PartsState::Missing(missing));
    assert!(there.store.images().unwrap().is_empty());
    // The next day, by another command, without the index.
    let store = Store::open(there.store.root()).unwrap();
    let kept = store.parts_index("demo.tar").unwrap().unwrap();
    assert!(kept.is_like(&index));
    assert_eq!(store.parts_index("other.tar").unwrap(), None);
    for number in (1..=count).rev() {
        load(&store, dir.path(), number).unwrap();
    }
    assert!(is_loaded(&complete(&store, dir.path())));
    assert_eq!(
        store.image(&name("demo:1")).unwrap().layers,
        here.store.image(&name("demo:1")).unwrap().layers
    );
    assert!(store.check().unwrap().damage.is_empty());
    assert_eq!(fs::read_dir(store.store_dir().join("parts")).unwrap().count(), 0);
}

#[test]
fn a_save_that_was_cut_off_goes_on() {
    let (here, dir) = (with_image(), tempfile::tempdir().unwrap());
    let (index, _) = save(&here.store, dir.path(), MIN_PART_LEN);
    assert!(
        save(&here.store, dir.path(), MIN_PART_LEN).1.is_empty(),
        "all of it is there"
    );
    fs::remove_file(part(dir.path(), 2)).unwrap();
    fs::write(part(dir.path(), 4), "damaged").unwrap();
    fs::write(dir.path().join("demo.tar.part-0002.partial"), "half").unwrap();
    let (again, written) = save(&here.store, dir.path(), MIN_PART_LEN);
    assert_eq!((again, written), (index, vec![2, 4]));
    assert!(!dir.path().join("demo.tar.part-0002.partial").exists());
    // Cut otherwise, nothing of it can stay: parts of two archives would be mixed.
    let (larger, written) = save(&here.store, dir.path(), 3 * MIN_PART_LEN);
    assert_eq!(written.len(), larger.count() as usize);
    let files = fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(files, 1 + larger.count() as usize, "old parts are gone");
}

#[test]
fn one_medium_after_the_other_is_filled_and_read() {
    let (here, there) = (with_image(), testing::store());
    let media = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let save = |medium: &Path, wanted| {
        let output = medium.join("demo.tar");
        here.store.save_parts(
            &[name("demo:1")],
            None,
            &output,
            MIN_PART_LEN,
            Some(&wanted),
            &mut |_| {},
        )
    };
    save(media[0].path(), 1..=2).unwrap();
    let saved = save(media[1].path(), 3..=u32::MAX).unwrap();
    assert_eq!(saved.written, (3..=saved.count).collect::<Vec<_>>());
    let error = save(media[1].path(), 1000..=1001).unwrap_err();
    assert!(error.to_string().contains("none of those"), "{error}");
    // The second medium's index cannot say what part 1 has to be.
    let file = File::open(part(media[0].path(), 1)).unwrap();
    let error = there
        .store
        .load_part(&index(media[1].path()), 1, file, "part 1")
        .unwrap_err();
    assert!(error.to_string().contains("does not say its digest"), "{error}");
    for number in 3..=saved.count {
        load(&there.store, media[1].path(), number).unwrap();
    }
    assert_eq!(
        complete(&there.store, media[1].path()),
        PartsState::Missing(vec![1, 2])
    );
    for number in 1..=2 {
        load(&there.store, media[0].path(), number).unwrap();
    }
    assert!(is_loaded(&complete(&there.store, media[0].path())));
}

#[test]
fn a_damaged_part_is_refused_alone() {
    let (here, there, dir) = (with_image(), testing::store(), tempfile::tempdir().unwrap());
    let (index, _) = save(&here.store, dir.path(), MIN_PART_LEN);
    let whole = fs::read(part(dir.path(), 2)).unwrap();
    let mut flipped = whole.clone();
    flipped[1000] ^= 1;
    for damaged in [&flipped[..], &whole[..1000], &[&whole[..], b"more"].concat()] {
        fs::write(part(dir.path(), 2), damaged).unwrap();
        let error = load(&there.store, dir.path(), 2).unwrap_err();
        assert_eq!(error.exit_code(), ExitCode::Verification, "{error}");
        assert!(error.to_string().contains("demo.tar.part-0002"), "{error}");
    }
    for number in (1..=index.count()).filter(|number| *number != 2) {
        load(&there.store, dir.path(), number).unwrap();
    }
    assert_eq!(complete(&there.store, dir.path()), PartsState::Missing(vec![2]));
    fs::write(part(dir.path(), 2), whole).unwrap();
    load(&there.store, dir.path(), 2).unwrap();
    assert!(is_loaded(&complete(&there.store, dir.path())));
}

#[test]
fn what_was_lost_meanwhile_is_asked_for_again() {
    let (here, dir) = (with_image(), tempfile::tempdir().unwrap());
    let (index, _) = save(&here.store, dir.path(), MIN_PART_LEN);
    // The store has the whole image while parts come: nothing is written twice.
    let all = || {
        for number in 1..=index.count() {
            load(&here.store, dir.path(), number).unwrap();
        }
    };
    all();
    here.store.remove_image(&name("demo:1")).unwrap();
    let PartsState::Missing(missing) = complete(&here.store, dir.path()) else {
        panic!("its blobs are gone");
    };
    assert!(missing.len() > 2, "{missing:?}");
    all();
    assert!(is_loaded(&complete(&here.store, dir.path())));
    // Half an archive does not stay for ever.
    load(&here.store, dir.path(), 1).unwrap();
    assert!(here.store.remove_parts().unwrap() > 0);
    assert_eq!(here.store.remove_parts().unwrap(), 0);
    assert!(here.store.parts_index("demo.tar").unwrap().is_none());
}

#[test]
fn an_index_that_does_not_add_up_is_refused() {
    let (here, dir) = (with_image(), tempfile::tempdir().unwrap());
    let (index, _) = save(&here.store, dir.path(), MIN_PART_LEN);
    let path = dir.path().join("bad.parts.json");
    let set = |pointer: &str, value: Value| {
        let mut document = serde_json::to_value(&index).unwrap();
        *document.pointer_mut(pointer).unwrap() = value;
        document
    };
    let (far, digest) = (u64::MAX, index.identity().to_string());
    for (document, reason) in [
        (json!([]), "not valid"),
        (set("/version", json!(2)), "version 2"),
        (
            set("/archive", json!("../../etc/cron.d/x")),
            "no name of an archive",
        ),
        (set("/archive", json!("")), "no name of an archive"),
        (set("/archive", json!("other.tar")), "not the archive cut"),
        (set("/size", json!(far)), "at most"),
        (set("/size", json!(1)), "not the archive cut"),
        (set("/part_size", json!(0)), "bytes at least"),
        (set("/part_size", json!(far)), "not the archive cut"),
        (set("/parts/0/name", json!("/etc/shadow")), "not the archive cut"),
        (set("/parts/1/size", json!(3)), "not the archive cut"),
        (set("/parts", json!([])), "not the archive cut"),
        (set("/blobs/0/offset", json!(far)), "lies outside"),
        (set("/blobs/0/size", json!(far)), "lies outside"),
        (set("/blobs/1/offset", json!(0)), "upon another"),
        (set("/index/size", json!(far - 10)), "lies outside"),
        (set("/blobs/0/digest", json!("sha256:..")), "not valid"),
        (
            set(
                "/blobs",
                json!(vec![json!({"digest": digest, "offset": 0, "size": 0}); 70_000]),
            ),
            "at most",
        ),
    ] {
        fs::write(&path, serde_json::to_vec(&document).unwrap()).unwrap();
        let error = PartsIndex::read(&path).unwrap_err();
        assert_eq!(error.exit_code(), ExitCode::Input, "{error}");
        assert!(
            error.to_string().contains(reason),
            "{error} does not say {reason:?}"
        );
    }
    for (file, part) in [
        ("demo.tar.part-0003", Some(("demo.tar", 3))),
        ("a.part-0001.part-0012", Some(("a.part-0001", 12))),
        ("demo.tar.part-10000", Some(("demo.tar", 10_000))),
        ("demo.tar.part-0000", None),
        ("demo.tar.part-3", None),
        ("demo.tar.part-0003.partial", None),
        (".part-0003", None),
        ("demo.tar.part-99999999999", None),
    ] {
        assert_eq!(PartsIndex::archive_of_part(file), part, "{file}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn any_size_and_any_order_bring_the_same_image(more in 0_u64..300_000, seed in any::<u64>()) {
        let (here, there, dir) = (with_image(), testing::store(), tempfile::tempdir().unwrap());
        let (index, _) = save(&here.store, dir.path(), MIN_PART_LEN + more);
        let mut order: Vec<u32> = (1..=index.count()).collect();
        order.sort_by_key(|number| gantry_model::Digest::of(&[seed.to_le_bytes(), u64::from(*number).to_le_bytes()].concat()));
        for (came, number) in (1..).zip(&order) {
            load(&there.store, dir.path(), *number).unwrap();
            if came < order.len() {
                prop_assert!(!is_loaded(&complete(&there.store, dir.path())));
            }
        }
        prop_assert!(is_loaded(&complete(&there.store, dir.path())));
        prop_assert!(there.store.check().unwrap().damage.is_empty());
    }
}

#[test]
fn nothing_unverified_is_written_into_a_blob_of_the_store() {
    let (here, there, dir) = (with_image(), testing::store(), tempfile::tempdir().unwrap());
    let (index, _) = save(&here.store, dir.path(), MIN_PART_LEN);
    for number in 1..=index.count() {
        load(&there.store, dir.path(), number).unwrap();
    }
    // One blob is damaged on the way: the others become the store's.
    let parts = there.store.store_dir().join("parts");
    let arriving = fs::read_dir(parts).unwrap().next().unwrap().unwrap().path();
    let blobs = fs::read_dir(&arriving)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let smallest = blobs
        .filter(|path| path.file_name().is_some_and(|name| name.len() == 64))
        .min_by_key(|path| fs::metadata(path).unwrap().len())
        .unwrap();
    fs::write(&smallest, "damaged").unwrap();
    let PartsState::Missing(again) = complete(&there.store, dir.path()) else {
        panic!("a damaged blob was taken");
    };
    for number in again {
        let path = part(dir.path(), number);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, bytes.iter().map(|byte| !byte).collect::<Vec<_>>()).unwrap();
        let error = load(&there.store, dir.path(), number).unwrap_err();
        assert_eq!(error.exit_code(), ExitCode::Verification);
        let blobs = there.store.blobs();
        for extent in index.extents() {
            if blobs.size(&extent.digest).unwrap().is_some() {
                blobs.verify(&extent.digest, "blob").unwrap();
            }
        }
        fs::write(&path, bytes).unwrap();
        load(&there.store, dir.path(), number).unwrap();
    }
    assert!(is_loaded(&complete(&there.store, dir.path())));
    assert!(there.store.check().unwrap().damage.is_empty());
}

#[test]
fn an_index_that_was_copied_says_nothing_about_other_files() {
    let (here, dir) = (with_image(), tempfile::tempdir().unwrap());
    let (index, _) = save(&here.store, dir.path(), MIN_PART_LEN);
    let copy = dir.path().join("other.tar.parts.json");
    fs::copy(dir.path().join("demo.tar.parts.json"), copy).unwrap();
    let output = dir.path().join("other.tar");
    let saved = here
        .store
        .save_parts(&[name("demo:1")], None, &output, MIN_PART_LEN, None, &mut |_| {})
        .unwrap();
    assert_eq!(saved.written.len(), index.count() as usize);
    for number in 1..=index.count() {
        assert!(part(dir.path(), number).exists(), "part {number} of demo.tar");
    }
}

#[test]
fn parts_that_were_carried_away_stay_known() {
    let (here, there) = (with_image(), testing::store());
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (here_dir, away) = (dirs[0].path(), dirs[1].path());
    let output = here_dir.join("demo.tar");
    let save = |wanted: std::ops::RangeInclusive<u32>| {
        here.store
            .save_parts(
                &[name("demo:1")],
                None,
                &output,
                MIN_PART_LEN,
                Some(&wanted),
                &mut |_| {},
            )
            .unwrap()
    };
    save(1..=2);
    for number in 1..=2 {
        fs::rename(part(here_dir, number), part(away, number)).unwrap();
    }
    let count = save(3..=u32::MAX).count;
    fs::copy(
        here_dir.join("demo.tar.parts.json"),
        away.join("demo.tar.parts.json"),
    )
    .unwrap();
    for number in 1..=count {
        let dir = if number <= 2 { away } else { here_dir };
        load(&there.store, dir, number).unwrap();
    }
    assert!(is_loaded(&complete(&there.store, here_dir)));
}
