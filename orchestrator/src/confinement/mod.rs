//! What programs that others wrote get of this machine: commands of RUN, and the scripts of an image in a rehearsal. They run as
//! root on the operator's own machine, so each way out of their sandbox is closed here, once for both.
//!
//! ```text
//! gantry ─ spec ─▶ outer process            closes inherited handles; makes the namespaces
//!                    └─▶ inner process      first of them: mounts the root, gives up rights and system calls, stays
//!                          └─▶ commands     in the bounds; all of them end when the inner process does
//! ```
//!
//! The inner process never becomes the command: it ends when `gantry` does, which a command could ask the kernel not to do.

pub(crate) mod bounds;
mod control_group;
mod namespaces;
pub(crate) mod rights;
pub(crate) mod root;
pub(crate) mod system_calls;

pub(crate) use control_group::{ControlGroup, GroupFolders, Membership};
pub use namespaces::ChildArgs;
pub(crate) use namespaces::{begin_first, first_of_new_namespaces};
