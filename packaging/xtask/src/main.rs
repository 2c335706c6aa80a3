//! Repository chores: packages, man pages, completions.
fn main() {}
