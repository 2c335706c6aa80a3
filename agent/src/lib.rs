//! The Gantry agent.
pub mod config;
pub mod facts;
pub mod hosts_file;
pub mod journal;
// Ready to be declared once gantry-store and gantry-transport are dependencies again: pub mod staging;
