//! Sessions with agents.

pub mod fetches;
