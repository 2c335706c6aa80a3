//! Memory does not depend on how large an image is.

use gantry_integration::image_memory::{Content, peaks};
use gantry_integration::registry::{Guard, Registry};
use gantry_integration::{Options, Testbed};

/// Sizes of the file in the image, in bytes.
const SIZES: [u64; 2] = [32 << 20, 128 << 20];
/// How much more memory a command may take for the larger one, in bytes: far less than what is more of the image.
const MAX_GROWTH: u64 = 12 << 20;

#[test]
fn no_image_command_takes_more_memory_for_a_larger_image() {
    let options = Options {
        hosts: 0,
        ..Options::default()
    };
    let bed = Testbed::with(&options).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start(&folder.path().join("registry"), &Guard::default()).unwrap();
    let desk = folder.path().join("desk");
    let [small, large] =
        SIZES.map(|size| peaks(bed.operator(), &desk, &registry, Content::OneFile, size).unwrap());
    for (small, large) in small.iter().zip(&large) {
        assert!(
            large.bytes < small.bytes + MAX_GROWTH,
            "{}: {} bytes for 32 MiB, {} for 128 MiB",
            small.command,
            small.bytes,
            large.bytes
        );
    }
}
