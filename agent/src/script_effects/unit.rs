//! This module owns [`Unit`]: what systemd says of a unit of this host.

use std::fmt;
use std::time::Duration;

use gantry_system::processes;
use tokio::process::Command;

use crate::facts::PATH;

/// How long systemd may take to say it.
const SYSTEMCTL_LIMIT: Duration = Duration::from_secs(30);
/// What is asked, see org.freedesktop.systemd1(5).
const PROPERTIES: &str = "--property=LoadState,UnitFileState,ActiveState,SubState,Result,Job";
/// States of a unit's file with which it starts with the host: by a link of its own, or by whatever else names it.
const STARTS: [&str; 4] = ["enabled", "static", "generated", "indirect"];

/// What systemd says of a unit.
#[derive(Debug)]
pub(super) struct Unit {
    name: &'static str,
    load: String,
    file: String,
    active: String,
    sub: String,
    result: String,
    /// Something is about to be done with it.
    job: bool,
}

impl Unit {
    /// Asks systemd for it.
    ///
    /// # Errors
    /// Why systemd does not answer.
    pub(super) async fn read(name: &'static str) -> Result<Self, String> {
        let mut command = Command::new("systemctl");
        command
            .args(["show", PROPERTIES, name])
            .env("PATH", PATH)
            .env("LC_ALL", "C");
        let shown = processes::run_successfully(&mut command, SYSTEMCTL_LIMIT).await;
        let shown = shown.map_err(|error| format!("systemd does not tell how {name} is: {error}"))?;
        Ok(Self::parse(name, &String::from_utf8_lossy(&shown.stdout)))
    }

    fn parse(name: &'static str, text: &str) -> Self {
        let value = |key: &str| {
            let mut pairs = text.lines().filter_map(|line| line.split_once('='));
            pairs
                .find(|(found, _)| *found == key)
                .map_or_else(String::new, |(_, value)| value.trim().to_owned())
        };
        Self {
            name,
            load: value("LoadState"),
            file: value("UnitFileState"),
            active: value("ActiveState"),
            sub: value("SubState"),
            result: value("Result"),
            job: !matches!(value("Job").as_str(), "" | "0"),
        }
    }

    /// Whether what it starts is there, or on its way.
    pub(super) fn may_come(&self) -> bool {
        self.job || matches!(self.active.as_str(), "active" | "activating" | "reloading")
    }

    /// Whether systemd starts it with the host.
    ///
    /// # Errors
    /// Why it does not.
    pub(super) fn starts_with_the_host(&self) -> Result<(), String> {
        let name = self.name;
        match (self.load.as_str(), self.file.as_str()) {
            ("loaded", file) if STARTS.contains(&file) => Ok(()),
            ("loaded", "") => Err(format!("{name} is not enabled: it has no file")),
            ("loaded", file) => Err(format!("{name} is not enabled: systemd says {file}")),
            _ => Err(self.to_string()),
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name;
        match self.load.as_str() {
            "not-found" => write!(f, "there is no {name}"),
            "loaded" if matches!(self.result.as_str(), "" | "success") => {
                write!(f, "{name} is {} ({})", self.active, self.sub)
            }
            "loaded" => write!(
                f,
                "{name} is {} ({}), result {}; `journalctl -u {name}` says more",
                self.active, self.sub, self.result
            ),
            load => write!(f, "systemd cannot use {name}: {load}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(text: &str) -> Unit {
        Unit::parse("kubelet.service", text)
    }

    #[test]
    fn a_unit_that_is_not_there_masked_or_disabled_does_not_start_with_the_host() {
        unit("LoadState=loaded\nUnitFileState=enabled\nActiveState=inactive\nSubState=dead\n")
            .starts_with_the_host()
            .unwrap();
        for (text, said) in [
            (
                "LoadState=not-found\nUnitFileState=\nActiveState=inactive\n",
                "there is no kubelet.service",
            ),
            (
                "LoadState=masked\nUnitFileState=masked\nActiveState=inactive\n",
                "systemd cannot use kubelet.service: masked",
            ),
            (
                "LoadState=loaded\nUnitFileState=disabled\nActiveState=active\n",
                "kubelet.service is not enabled: systemd says disabled",
            ),
        ] {
            assert_eq!(unit(text).starts_with_the_host().unwrap_err(), said);
        }
    }

    #[test]
    fn a_unit_that_failed_does_not_come_and_one_that_starts_may() {
        let failed = unit("LoadState=loaded\nActiveState=failed\nSubState=failed\nResult=exit-code\nJob=0\n");
        assert!(!failed.may_come());
        assert!(
            failed
                .to_string()
                .contains("is failed (failed), result exit-code")
        );
        assert!(unit("LoadState=loaded\nActiveState=activating\nSubState=auto-restart\n").may_come());
        let queued = unit("Result=success\nJob=417\nLoadState=loaded\nActiveState=inactive\nSubState=dead\n");
        assert!(queued.may_come());
        assert_eq!(queued.to_string(), "kubelet.service is inactive (dead)");
        assert!(!unit("LoadState=not-found\nActiveState=inactive\n").may_come());
    }
}
