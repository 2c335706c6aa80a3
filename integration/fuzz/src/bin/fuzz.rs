//! The program that libFuzzer drives, one target a run. `make fuzz` builds and starts it.
//!
//! | variable | what |
//! |---|---|
//! | `GANTRY_FUZZ_TARGET` | name of the target |
//! | `GANTRY_FUZZ_SEEDS` | folder that is given the seeds of the target, if set |

#![no_main]
#![allow(
    unsafe_code,
    reason = "libFuzzer's macro exports two functions to C; nothing here is unsafe"
)]

use std::path::Path;
use std::sync::OnceLock;

use gantry_fuzz::{Target, target, write_seeds};

static TARGET: OnceLock<&'static Target> = OnceLock::new();

libfuzzer_sys::fuzz_target!(
    init: {
        let name = std::env::var("GANTRY_FUZZ_TARGET").unwrap_or_default();
        let target = TARGET.get_or_init(|| target(&name).unwrap_or_else(|| panic!("no target is called {name:?}")));
        if let Some(folder) = std::env::var_os("GANTRY_FUZZ_SEEDS") {
            write_seeds(target, Path::new(&folder)).expect("seeds can be written");
        }
    },
    |data: &[u8]| {
        if let Some(target) = TARGET.get() {
            (target.run)(data);
        }
    }
);
