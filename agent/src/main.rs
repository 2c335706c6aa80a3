//! The Gantry agent: receives layers, assembles the rootfs, runs its scripts.
fn main() {}
