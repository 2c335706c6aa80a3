//! The replacing of Gantry's CA on every host, one step at a time; any of them may be the last before this program is killed.
//!
//! ```text
//! Overlap    each host: trust both CAs ─▶ new certificate of the new CA
//!            all hosts have one, nobody's certificate is of the old CA any more ─▶ drop it
//! Dropping   each host: trust the new CA alone
//!            all hosts have heard ─▶ done
//! ```
//!
//! A host that cannot be reached holds up what all have to have done, and nothing else. Whoever shows a certificate of the new CA
//! shows a cross-certificate as well, so a host that was off all the time still believes this orchestrator.

use std::collections::BTreeMap;
use std::net::IpAddr;

use futures_util::StreamExt as _;
use gantry_model::{Digest, ExitCode};
use gantry_system::clock::now_s;
use gantry_transport::{Authority, DialError, Identity, IssuedRecord, Role, Rotation};

use crate::commands::agents::renewals::{Renewed, renew_one};
use crate::commands::agents::trust::{self, MAX_AT_A_TIME};
use crate::exit::OrExit as _;
use crate::session::{AgentSession as _, SessionError, Sessions};
use crate::state::{AgentRecord, State};

/// After this time an enrolment has come to its end or failed.
const ENROLMENT_TAKES_S: i64 = 60;

/// How far a rotation came.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// These hosts, for these reasons, have no certificate of the new CA yet: both CAs are trusted.
    HostsToGo(Vec<(IpAddr, String)>),
    /// Every host has one, but these people and programs have not: both CAs are trusted.
    IdentitiesToGo(Vec<IssuedRecord>),
    /// The old CA is dropped, but these hosts, for these reasons, have not heard of it yet.
    HostsToHear(Vec<(IpAddr, String)>),
    /// No host trusts the old CA.
    Done,
}

/// A host that has, or may have, a certificate of the CA that is being replaced.
struct Member {
    name: String,
    /// When it was given its certificate, seconds since the epoch.
    since: i64,
    /// Whether it is among the enrolled hosts. Where an enrolment was killed at its very end, it is not.
    enrolled: bool,
}

/// Takes the rotation that has begun as far as it goes now. With `drop_identities`, certificates of people and programs do not
/// hold it up: they end with the old CA.
///
/// # Errors
/// When the state cannot be read or written, or no rotation is under way.
pub async fn go_on<S: Sessions>(
    state: &State,
    sessions: &S,
    drop_identities: bool,
) -> anyhow::Result<Progress> {
    let authority = state.authority()?;
    if authority.rotation() == Rotation::Overlap {
        let missed = move_all(state, &authority, sessions).await?;
        if !missed.is_empty() {
            return Ok(Progress::HostsToGo(missed));
        }
        let identities = identities_of_old_ca(&authority)?;
        if !identities.is_empty() && !drop_identities {
            return Ok(Progress::IdentitiesToGo(identities));
        }
        authority.drop_replaced().or_exit(ExitCode::Failed)?;
    }
    let authority = state.authority()?;
    let missed = tell_all(state, &authority, sessions).await?;
    if !missed.is_empty() {
        return Ok(Progress::HostsToHear(missed));
    }
    authority.finish_rotation().or_exit(ExitCode::Failed)?;
    Ok(Progress::Done)
}

/// Enrolled hosts whose certificate is not of the CA that signs, while that replaces another.
///
/// # Errors
/// When the state cannot be read.
pub fn hosts_of_old_ca(state: &State, authority: &Authority) -> anyhow::Result<Vec<IpAddr>> {
    if authority.rotation() == Rotation::Settled {
        return Ok(Vec::new());
    }
    Ok(members(state, authority)?.into_keys().collect())
}

/// Enrolled hosts that were not told yet that the old CA is dropped.
///
/// # Errors
/// When the state cannot be read.
pub fn hosts_to_hear(state: &State, authority: &Authority) -> anyhow::Result<Vec<IpAddr>> {
    let trust = authority.trust().or_exit(ExitCode::Failed)?.to_pem();
    let digest = Digest::of(trust.as_bytes());
    let agents = state.agents().all()?.into_iter();
    let lacking = agents.filter(|(_, agent)| !agent.revoked && agent.trust != Some(digest));
    Ok(lacking.map(|(host, _)| host).collect())
}

/// Certificates of people and programs that end with the CA that is being replaced: those that have none of the new one.
///
/// # Errors
/// When the list of certificates cannot be read.
pub fn identities_of_old_ca(authority: &Authority) -> anyhow::Result<Vec<IssuedRecord>> {
    if authority.rotation() != Rotation::Overlap {
        return Ok(Vec::new());
    }
    let ca = authority.name().or_exit(ExitCode::Failed)?;
    let mut newest = BTreeMap::new();
    for record in authority.holding().or_exit(ExitCode::Failed)? {
        if record.role != Role::Agent.as_str() && record.name != crate::state::OWN_NAME {
            newest.insert((record.role.clone(), record.name.clone()), record);
        }
    }
    Ok(newest.into_values().filter(|record| record.ca != ca).collect())
}

/// An identity made while a CA is replaced, trusting the new CA alone where no host needs the old one any more.
///
/// # Errors
/// When the state cannot be read.
pub fn without_old_ca(state: &State, authority: &Authority, identity: Identity) -> anyhow::Result<Identity> {
    if authority.rotation() == Rotation::Settled || !hosts_of_old_ca(state, authority)?.is_empty() {
        return Ok(identity);
    }
    let trust = authority.trust_in_new().or_exit(ExitCode::Failed)?;
    identity.with_trust(trust).or_exit(ExitCode::Failed)
}

/// Moves every host to the new CA; gives those that could not be, and why.
async fn move_all<S: Sessions>(
    state: &State,
    authority: &Authority,
    sessions: &S,
) -> anyhow::Result<Vec<(IpAddr, String)>> {
    let ca = authority.name().or_exit(ExitCode::Failed)?;
    let trust = authority.trust().or_exit(ExitCode::Failed)?.to_pem();
    let digest = Digest::of(trust.as_bytes());
    let members = members(state, authority)?;
    let one = |host: IpAddr, member: Member| {
        let trust = trust.clone();
        async move {
            let moved = move_one(authority, sessions, trust, host, &member).await;
            (host, member, moved)
        }
    };
    let mut moves = futures_util::stream::iter(members)
        .map(|(host, member)| one(host, member))
        .buffer_unordered(MAX_AT_A_TIME);
    let mut missed = Vec::new();
    while let Some((host, member, moved)) = moves.next().await {
        match moved {
            Ok(Some(renewed)) => state.agents().update(|agents| {
                let agent = agents.entry(host).or_insert_with(|| AgentRecord {
                    name: member.name,
                    enrolled_at: member.since,
                    serial: String::new(),
                    not_after: 0,
                    fingerprint: renewed.fingerprint.clone(),
                    revoked: false,
                    ca: String::new(),
                    trust: None,
                });
                agent.serial = renewed.serial;
                agent.not_after = renewed.not_after;
                agent.ca.clone_from(&ca);
                agent.trust = Some(digest);
            })?,
            Ok(None) => {}
            Err(reason) => missed.push((host, reason)),
        }
    }
    missed.sort();
    Ok(missed)
}

/// Moves one host to the new CA. None: it never took the certificate that it was given once.
async fn move_one<S: Sessions>(
    authority: &Authority,
    sessions: &S,
    trust: String,
    host: IpAddr,
    member: &Member,
) -> Result<Option<Renewed>, String> {
    let session = match sessions.session(host).await {
        Err(SessionError::Dial(DialError::NotEnrolled { .. }))
            if !member.enrolled && now_s() - member.since > ENROLMENT_TAKES_S =>
        {
            return Ok(None);
        }
        session => session.map_err(|error| error.without_address(host))?,
    };
    let told = session.trust(trust).await;
    told.map_err(|error| error.without_address(host))?;
    renew_one(authority, &session, host, &member.name).await.map(Some)
}

/// Tells every host to trust the new CA alone; gives those that could not be told, and why.
async fn tell_all<S: Sessions>(
    state: &State,
    authority: &Authority,
    sessions: &S,
) -> anyhow::Result<Vec<(IpAddr, String)>> {
    let missed = trust::deliver(state, sessions, None).await?;
    let refused: Vec<IpAddr> = missed
        .iter()
        .filter(|(_, error)| matches!(error, SessionError::Refused(_)))
        .map(|(host, _)| *host)
        .collect();
    let missed = if refused.is_empty() {
        missed
    } else {
        // A command that ran beside the rotation may have given them certificates of the old CA.
        move_back_in(state, authority, sessions, &refused).await?;
        trust::deliver(state, sessions, None).await?
    };
    Ok(missed
        .into_iter()
        .map(|(host, error)| (host, error.without_address(host)))
        .collect())
}

/// Moves hosts to the new CA after the old one was dropped: by both, as before. Who cannot be moved now is met again when it is
/// told once more.
async fn move_back_in<S: Sessions>(
    state: &State,
    authority: &Authority,
    sessions: &S,
    hosts: &[IpAddr],
) -> anyhow::Result<()> {
    let ca = authority.name().or_exit(ExitCode::Failed)?;
    let both = authority.own_trust().or_exit(ExitCode::Failed)?.to_pem();
    let agents = state.agents().all()?;
    for (host, agent) in agents.into_iter().filter(|(host, _)| hosts.contains(host)) {
        let member = Member {
            name: agent.name,
            since: agent.enrolled_at,
            enrolled: true,
        };
        if let Ok(Some(renewed)) = move_one(authority, sessions, both.clone(), host, &member).await {
            state.agents().update(|agents| {
                if let Some(agent) = agents.get_mut(&host) {
                    agent.serial = renewed.serial;
                    agent.not_after = renewed.not_after;
                    agent.ca.clone_from(&ca);
                }
            })?;
        }
    }
    Ok(())
}

/// Every host that is not known to have a certificate of the new CA.
fn members(state: &State, authority: &Authority) -> anyhow::Result<BTreeMap<IpAddr, Member>> {
    let ca = authority.name().or_exit(ExitCode::Failed)?;
    let agents = state.agents().all()?;
    let mut members = BTreeMap::new();
    for record in authority.holding().or_exit(ExitCode::Failed)? {
        let Ok(host) = record.name.parse() else { continue };
        if record.role == Role::Agent.as_str() && !agents.contains_key(&host) {
            let member = Member {
                name: record.name,
                since: i64::try_from(record.issued_at).unwrap_or(i64::MAX),
                enrolled: false,
            };
            members.insert(host, member);
        }
    }
    for (host, agent) in agents {
        if !agent.revoked && agent.ca != ca {
            let member = Member {
                name: agent.name,
                since: agent.enrolled_at,
                enrolled: true,
            };
            members.insert(host, member);
        }
    }
    Ok(members)
}
