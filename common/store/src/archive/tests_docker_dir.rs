//! Images as folders in docker's form.

use std::fs;

use gantry_model::Digest;

use super::tests::{image, name};
use crate::StoreError;
use crate::testing;

#[test]
fn a_docker_folder_holds_one_image_and_goes_on_where_it_was_cut_off() {
    let (here, there, dir) = (testing::store(), testing::store(), tempfile::tempdir().unwrap());
    let first = image(&here.store, "first:1", "1");
    let second = image(&here.store, "second:1", "2");
    let folder = dir.path().join("folder");
    let save = |reference: &str| {
        here.store
            .save_docker_dir(&name(reference), None, &folder, &mut |_| {})
    };
    save("first:1").unwrap();
    let layer = folder.join(first.config.rootfs.diff_ids[0].hex());
    assert_eq!(
        Digest::of(&fs::read(&layer).unwrap()),
        first.config.rootfs.diff_ids[0]
    );

    // It does not say how its image is called.
    let error = there.store.load(&folder, None, &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("give a name"), "{error}");
    there
        .store
        .load(&folder, Some(&name("a:1")), &mut |_| {})
        .unwrap();
    let arrived = there.store.image(&name("a:1")).unwrap();
    assert_eq!(arrived.config_bytes, first.config_bytes);
    assert_eq!(arrived.layers, first.layers, "the same tar gives the same chunks");

    // Cut off before its manifest: no image, and what is damaged is written again.
    fs::remove_file(folder.join("manifest.json")).unwrap();
    fs::write(&layer, "half").unwrap();
    let cut = there
        .store
        .load(&folder, Some(&name("b:1")), &mut |_| {})
        .unwrap_err();
    assert!(cut.to_string().contains("manifest.json is missing"), "{cut}");
    save("first:1").unwrap();
    there
        .store
        .load(&folder, Some(&name("b:1")), &mut |_| {})
        .unwrap();

    // Another image in its place leaves nothing of the first.
    save("second:1").unwrap();
    assert!(!layer.exists());
    there
        .store
        .load(&folder, Some(&name("c:1")), &mut |_| {})
        .unwrap();
    assert_eq!(
        there.store.image(&name("c:1")).unwrap().config_bytes,
        second.config_bytes
    );

    // A changed byte is found, and nothing of it is kept.
    let layer = folder.join(second.config.rootfs.diff_ids[0].hex());
    let mut bytes = fs::read(&layer).unwrap();
    bytes[600] ^= 1;
    fs::write(&layer, bytes).unwrap();
    let test = testing::store();
    let wrong = test
        .store
        .load(&folder, Some(&name("d:1")), &mut |_| {})
        .unwrap_err();
    assert!(matches!(wrong, StoreError::WrongDigest { .. }), "{wrong}");
    assert_eq!(test.store.blobs().list().unwrap(), []);

    // A project's folder is none, whatever its files are called.
    let other = dir.path().join("other");
    testing::write(&other, "version", "1.2.3", 0o644);
    let refused = here
        .store
        .save_docker_dir(&name("first:1"), None, &other, &mut |_| {});
    assert!(refused.unwrap_err().to_string().contains("name another folder"));
}
