//! `gantry-agent status`: what this host is and has done, read from its files while the agent runs or not.

use std::fmt::Write as _;
use std::time::SystemTime;

use gantry_model::StepRecord;
use gantry_store::Store;
use gantry_transport::Identity;
use jiff::Timestamp;

use crate::config::Config;
use crate::host::Host;
use crate::journal::Journal;

/// Steps shown.
const LATEST_STEPS: usize = 10;

/// The status as text.
///
/// # Errors
/// When a file is there and cannot be read.
pub fn status(config: &Config) -> anyhow::Result<String> {
    let mut text = identity(config)?;
    let host = Host::new(config, Store::open(&config.root)?);
    for cluster in host.rootfs.clusters() {
        let _ = match host.rootfs.current(&cluster)? {
            Some(generation) => writeln!(text, "cluster:     {cluster}, generation {generation}"),
            None => writeln!(text, "cluster:     {cluster}, no current generation"),
        };
        for drift in host.rootfs.drift(&cluster)? {
            let _ = writeln!(text, "             {drift}");
        }
    }
    let steps = Journal::look(&config.journal())?;
    for step in steps.iter().rev().take(LATEST_STEPS) {
        let _ = writeln!(text, "step:        {}", line(step));
    }
    Ok(text)
}

fn identity(config: &Config) -> anyhow::Result<String> {
    let folder = config.identity();
    if !Identity::exists(&folder) {
        let waiting = if config.token_file.exists() {
            "a token is here: run gantry enroll"
        } else {
            "no token"
        };
        return Ok(format!("enrolled:    no ({waiting})\n"));
    }
    let identity = Identity::load(&folder)?;
    let until = time(identity.not_after());
    let note = if identity.not_after() < SystemTime::now() {
        " (expired: enrol this host again)"
    } else {
        ""
    };
    Ok(format!(
        "enrolled:    as {}\ncertificate: serial {}, until {until}{note}\nkey:         {}\n",
        identity.name(),
        identity.serial(),
        identity.fingerprint(),
    ))
}

fn line(step: &StepRecord) -> String {
    let started =
        Timestamp::from_second(step.started_at).map_or_else(|_| "?".into(), |time| time.to_string());
    let outcome = step
        .outcome
        .as_ref()
        .map_or_else(|| "running".to_owned(), ToString::to_string);
    let cluster = step
        .cluster
        .as_ref()
        .map_or_else(String::new, |cluster| format!(" of {cluster}"));
    format!("{} {started} {}{cluster}: {outcome}", step.id.short(), step.title)
}

fn time(time: SystemTime) -> String {
    Timestamp::try_from(time).map_or_else(|_| "?".into(), |time| time.strftime("%F %R UTC").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_host_has_a_status() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config {
            root: folder.path().into(),
            token_file: folder.path().join("token"),
            ..Config::default()
        };
        assert_eq!(status(&config).unwrap(), "enrolled:    no (no token)\n");
    }
}
