//! Which variables no environment of a program may set.

/// Variables by which a shell or the loader takes code from elsewhere (bash(1), ld.so(8)).
const TAKES_CODE: [&str; 8] = [
    "BASH_ENV",
    "BASHOPTS",
    "ENV",
    "LD_AUDIT",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "PS4",
    "SHELLOPTS",
];

/// Whether a program that finds the variable `name` takes code from elsewhere: what runs would no longer be what was proved.
#[must_use]
pub fn takes_code(name: &str) -> bool {
    TAKES_CODE.contains(&name)
}
