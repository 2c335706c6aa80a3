//! The Gantry agent.

pub mod config;
pub mod facts;
pub mod hosts_file;
pub mod journal;
pub mod rootfs;
pub mod scripts;
pub mod staging;

#[cfg(test)]
mod test_layers;
