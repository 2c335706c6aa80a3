//! The seam to the host. Knows nothing of layers, scripts or clusters.
//!
//! - [`files`]: atomic writes, locks, removal that stays inside its root, free space
//! - [`mounts`]: overlay mounts, unmounting, the kernel's mount table
//! - [`processes`]: run a command to its end within a time limit
//! - [`clock`]: what time it is
//! - [`memory`]: what this program itself holds

pub mod clock;
pub mod files;
pub mod memory;
pub mod mounts;
pub mod processes;
