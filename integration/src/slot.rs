//! A numbered place for one testbed on this machine. Names, subnet and folder all follow from the number, so
//! testbeds run side by side, and what a crashed one left is found by its number alone.

use std::fs::{self, File, TryLockError};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::{cache, cgroup::Cgroup, command};

/// How many testbeds may run at once; the number is also the third byte of their subnet.
const SLOTS: u8 = 200;

/// A taken slot. It is free again when this value is dropped, even by a crash: the lock goes with the process.
#[derive(Debug)]
pub struct Slot {
    number: u8,
    _lock: File,
}

impl Slot {
    /// Takes a free slot and removes what an earlier testbed in it left behind.
    ///
    /// # Errors
    /// When every slot is taken, or leftovers cannot be removed.
    pub fn take() -> Result<Self> {
        for number in 1..=SLOTS {
            let lock = cache::lock_file(&cache::folder().join(format!("runs/{number}.lock")))?;
            match lock.try_lock() {
                Ok(()) => {
                    let slot = Self { number, _lock: lock };
                    slot.clean()?;
                    fs::create_dir_all(slot.folder())
                        .with_context(|| format!("cannot create {}", slot.folder().display()))?;
                    return Ok(slot);
                }
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error).context("cannot lock a testbed slot"),
            }
        }
        bail!(
            "all {SLOTS} testbed slots of {} are taken",
            cache::folder().display()
        )
    }

    /// The slot's folder, for host trees and the operator's files.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        cache::folder().join(format!("runs/{}", self.number))
    }

    /// The machine-wide name of something in this slot: network namespace, cgroup, nspawn machine.
    #[must_use]
    pub fn name(&self, of: &str) -> String {
        format!("gantry-{}-{of}", self.number)
    }

    /// Address number `last` of the slot's subnet, a /24.
    #[must_use]
    pub fn address(&self, last: u8) -> std::net::Ipv4Addr {
        std::net::Ipv4Addr::new(10, 77, self.number, last)
    }

    /// Ends and removes everything that carries this slot's names.
    ///
    /// # Errors
    /// When something cannot be ended or removed.
    pub fn clean(&self) -> Result<()> {
        let prefix = self.name("");
        for cgroup in Cgroup::starting_with(&prefix) {
            cgroup.remove()?;
        }
        for line in command::must("ip", ["netns", "list"])?.lines() {
            let name = line.split_whitespace().next().unwrap_or_default();
            if name.starts_with(&prefix) {
                command::must("ip", ["netns", "delete", name])?;
            }
        }
        cache::remove_tree(&self.folder())
    }
}
