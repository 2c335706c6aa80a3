//! Looks on the host itself for what a script of the image was to do, for an exit status does not always say it: scripts of
//! base images call functions that are nowhere, and go on.
//!
//! ```text
//!         ┌─ docker, containerd ─▶ what answers on the socket ─▶ unit, where nothing does
//! look ───┼─ kubelet ─▶ unit
//!         └─ registry ─▶ hosts file ─▶ GET /v2/
//! ```
//!
//! What is on its way is looked at again until it is there or its time is over; what will not come by itself is a failure
//! at once.

mod answer;
mod containerd;
mod docker;
mod registry;
mod unit;

use std::io;
use std::path::Path;
use std::time::Duration;

use gantry_model::{EffectCheck, ScriptEffect};
use gantry_protocol::limits::MAX_SCRIPT_EFFECTS;
use tokio::time::{Instant, sleep, timeout};

use self::unit::Unit;
use crate::host::Host;
use crate::hosts_file::HostsFile;

/// How long one answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Units by which base images start what their scripts install.
const DOCKER_UNIT: &str = "docker.service";
const CONTAINERD_UNIT: &str = "containerd.service";
const KUBELET_UNIT: &str = "kubelet.service";

/// A script did not do what it is there for.
#[derive(Debug, thiserror::Error)]
#[error(
    "{script} of the image exited 0, but {}; put the script right and build the image again, or do on this host what it \
     left undone, and apply again", lacking.join("; and ")
)]
pub(crate) struct EffectError {
    script: String,
    /// What is not as it should be.
    lacking: Vec<String>,
}

/// Something that is not as it should be.
#[derive(Debug, PartialEq, Eq)]
enum Lack {
    /// It may come by itself.
    NotYet(String),
    /// It will not.
    Never(String),
}

/// Whether `check` can be looked at.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check(check: &EffectCheck) -> Result<(), String> {
    if check.effects.len() > MAX_SCRIPT_EFFECTS {
        return Err(format!(
            "{} effects of one script; at most {MAX_SCRIPT_EFFECTS} are looked for",
            check.effects.len()
        ));
    }
    check.effects.iter().try_for_each(|effect| match effect {
        ScriptEffect::RegistryServes { domain, port } => crate::registry::check(domain, *port),
        ScriptEffect::DockerAnswers | ScriptEffect::ContainerdAnswers | ScriptEffect::KubeletIsEnabled => {
            Ok(())
        }
    })
}

/// Looks for everything that `check` names.
///
/// # Errors
/// When some of it is not there, and does not come in time.
pub(crate) async fn look(host: &Host, check: &EffectCheck) -> Result<(), EffectError> {
    let deadline = Instant::now() + Duration::from_secs(check.time_limit_s.into());
    let mut lacking = Vec::new();
    for effect in &check.effects {
        let once = || look_once(effect, &host.hosts_file);
        lacking.extend(wait(once, deadline).await.err());
    }
    if lacking.is_empty() {
        return Ok(());
    }
    Err(EffectError {
        script: check.script.clone(),
        lacking,
    })
}

/// Looks until nothing is lacking, it never will come, or the time is over.
async fn wait<L: Future<Output = Result<(), Lack>>>(
    look: impl Fn() -> L,
    deadline: Instant,
) -> Result<(), String> {
    let begun = Instant::now();
    loop {
        match look().await {
            Ok(()) => return Ok(()),
            Err(Lack::Never(what)) => return Err(what),
            Err(Lack::NotYet(what)) if Instant::now() >= deadline => {
                return Err(format!("after {} s {what}", begun.elapsed().as_secs()));
            }
            Err(Lack::NotYet(what)) => tracing::debug!("{what}; looked at again"),
        }
        sleep(LOOK_EVERY).await;
    }
}

async fn look_once(effect: &ScriptEffect, hosts_file: &HostsFile) -> Result<(), Lack> {
    match effect {
        ScriptEffect::DockerAnswers => {
            let answer = in_time(docker::ask(Path::new(docker::SOCKET))).await;
            runtime("docker", answer, docker::SOCKET, DOCKER_UNIT).await
        }
        ScriptEffect::ContainerdAnswers => {
            let answer = in_time(containerd::ask(Path::new(containerd::SOCKET))).await;
            runtime("containerd", answer, containerd::SOCKET, CONTAINERD_UNIT).await
        }
        ScriptEffect::KubeletIsEnabled => {
            let unit = Unit::read(KUBELET_UNIT).await.map_err(Lack::Never)?;
            unit.starts_with_the_host().map_err(Lack::Never)
        }
        ScriptEffect::RegistryServes { domain, port } => {
            let address = registry::address(hosts_file, domain, *port).map_err(Lack::Never)?;
            let lack = |error| {
                let of = if address.ip().to_string() == *domain {
                    String::new()
                } else {
                    format!(" ({address})")
                };
                Lack::NotYet(format!(
                    "the registry does not serve at {domain}:{port}{of}: {error}"
                ))
            };
            in_time(registry::ask(address)).await.map_err(lack)
        }
    }
}

/// What is lacking of a container runtime that gave this answer: its unit says whether it may still come.
async fn runtime(name: &str, answer: io::Result<()>, socket: &str, unit: &'static str) -> Result<(), Lack> {
    let Err(error) = answer else { return Ok(()) };
    let unit = Unit::read(unit).await.map_err(Lack::Never)?;
    let what = format!("{name} does not answer on {socket} ({error}): {unit}");
    Err(if unit.may_come() {
        Lack::NotYet(what)
    } else {
        Lack::Never(what)
    })
}

async fn in_time<T>(answer: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(ANSWER_LIMIT, answer).await.unwrap_or_else(|_| {
        let reason = format!("no answer within {} s", ANSWER_LIMIT.as_secs());
        Err(io::Error::new(io::ErrorKind::TimedOut, reason))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_on_its_way_is_waited_for_and_what_never_comes_is_not() {
        let begun = Instant::now();
        let deadline = begun + Duration::from_secs(60);
        let looks = AtomicU32::new(0);
        let third = || async {
            match looks.fetch_add(1, Ordering::Relaxed) {
                0 | 1 => Err(Lack::NotYet("it starts".into())),
                _ => Ok(()),
            }
        };
        wait(third, deadline).await.unwrap();
        assert_eq!(begun.elapsed(), 2 * LOOK_EVERY);

        let never = || async { Err(Lack::Never("it is not installed".into())) };
        assert_eq!(wait(never, deadline).await.unwrap_err(), "it is not installed");
        assert_eq!(begun.elapsed(), 2 * LOOK_EVERY);

        let late = || async { Err(Lack::NotYet("it starts".into())) };
        let error = wait(late, deadline).await.unwrap_err();
        assert!(error.ends_with(" s it starts"), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(61));
    }

    #[test]
    fn a_failure_names_the_script_what_is_lacking_and_what_to_do() {
        let error = EffectError {
            script: "scripts/init.sh".into(),
            lacking: vec![
                "docker does not answer".into(),
                "there is no kubelet.service".into(),
            ],
        };
        assert_eq!(
            error.to_string(),
            "scripts/init.sh of the image exited 0, but docker does not answer; and there is no kubelet.service; put the \
             script right and build the image again, or do on this host what it left undone, and apply again"
        );
    }

    #[test]
    fn a_check_is_within_bounds() {
        let with = |effects| EffectCheck {
            cluster: "demo".parse().unwrap(),
            script: "scripts/init.sh".into(),
            effects,
            time_limit_s: 1,
        };
        let registry = |domain: &str| ScriptEffect::RegistryServes {
            domain: domain.into(),
            port: 5000,
        };
        check(&with(vec![registry("sea.hub")])).unwrap();
        assert!(check(&with(vec![registry("../etc")])).is_err());
        assert!(check(&with(vec![ScriptEffect::DockerAnswers; MAX_SCRIPT_EFFECTS + 1])).is_err());
    }
}
