//! Who accepts an image: this machine by its signature policy, and every host by its own.

use std::net::IpAddr;
use std::path::PathBuf;

use futures_util::{StreamExt as _, stream};
use gantry_model::{ExitCode, ImageEvidence};
use gantry_protocol::RefusalKind;
use gantry_signing::Policy;
use gantry_store::{Guard, StoreError};

use crate::execute::brings_image;
use crate::plan::Plan;
use crate::plan::preflight::{Check, Finding};
use crate::session::{AgentSession as _, SessionError, Sessions};

/// Hosts that are asked at the same time.
const PARALLEL_HOSTS: usize = 64;

/// The guard that goes by the policy file at `path`, as it is when it is asked.
#[must_use]
pub(crate) fn guard(path: PathBuf) -> Guard {
    Guard::new(move |evidence| {
        let policy = Policy::read(&path).map_err(|error| StoreError::Refused {
            reason: error.to_string(),
            code: ExitCode::Input,
        })?;
        let decided = policy.check(evidence).map(drop);
        decided.map_err(|rejection| StoreError::Refused {
            reason: rejection.to_string(),
            code: ExitCode::Verification,
        })
    })
}

/// The hosts of the plan whose own policies refuse its image. Those that have it are asked, too: their
/// policies may be newer.
pub(super) async fn refusals<S: Sessions>(
    plan: &Plan,
    evidence: &ImageEvidence,
    sessions: &S,
) -> Vec<Finding> {
    let mut hosts: Vec<IpAddr> = plan
        .steps()
        .filter(|step| brings_image(&step.step.action))
        .map(|step| step.host)
        .collect();
    hosts.sort_unstable();
    hosts.dedup();
    let ask = |host: IpAddr| async move {
        let asked = async { sessions.session(host).await?.verify_image(evidence).await };
        match asked.await {
            Err(SessionError::Refused(refusal)) if refusal.kind == RefusalKind::Untrusted => Some(Finding {
                check: Check::Signature,
                host,
                message: refusal.message,
            }),
            // Anything else is told by the step that asks again.
            _ => None,
        }
    };
    let findings = stream::iter(hosts).map(ask).buffer_unordered(PARALLEL_HOSTS);
    let mut findings: Vec<Finding> = findings.filter_map(std::future::ready).collect().await;
    findings.sort_by_key(|finding| finding.host);
    findings
}
