//! What each role may ask.

use gantry_protocol::{Refusal, RefusalKind, Request};
use gantry_transport::{PeerIdentity, Role};

/// Whether `peer` may ask for `request`.
///
/// # Errors
/// A refusal that names the role it would need.
pub(super) fn authorize(peer: &PeerIdentity, request: &Request) -> Result<(), Refusal> {
    let (changes, what) = match request {
        Request::Inventory => (false, "the inventory"),
        Request::Logs { .. } => (false, "logs"),
        Request::Drift { .. } => (false, "drift"),
        Request::ClusterHealth { .. } => (false, "a cluster's health"),
        Request::Knows { .. } => (false, "what it knows"),
        Request::Run(_) | Request::RunJoin { .. } => (true, "running a step"),
        Request::JoinPass { .. } => (true, "a pass into a cluster"),
        Request::EtcdSnapshot { .. } => (true, "a snapshot of etcd"),
        Request::TakeSnapshot { .. } => (true, "taking a snapshot of etcd"),
        Request::Kubeconfig { .. } => (true, "a cluster's kubeconfig"),
        Request::SigningRequest => (true, "a signing request"),
        Request::Certificate { .. } => (true, "a new certificate"),
        Request::Cancel { .. } => (true, "cancelling a step"),
        Request::Revocations { .. } => (true, "a revocation list"),
        Request::Trust { .. } => (true, "other trusted CAs"),
        Request::VerifyImage { .. } => (true, "a decision about an image"),
        Request::ImageKey { .. } => (true, "a key for images"),
    };
    let allowed = match peer.role {
        Role::Operator => true,
        Role::Reader => !changes,
        Role::Agent => false,
    };
    if allowed {
        return Ok(());
    }
    let needed = if changes { "operator" } else { "operator or reader" };
    let message = format!("{peer} may not ask for {what}: the certificate's role has to be {needed}");
    Err(Refusal {
        kind: RefusalKind::Forbidden,
        message,
    })
}

#[cfg(test)]
mod tests {
    use gantry_model::{Digest, Step, StepAction};

    use super::*;

    #[test]
    fn readers_look_operators_change_and_agents_ask_for_nothing() {
        let step = Step {
            action: StepAction::RemoveUnusedLayers,
            after: vec![],
        };
        let cluster: gantry_model::ClusterName = "demo".parse().unwrap();
        let looking = [
            Request::Inventory,
            Request::Logs {
                step: step.id(),
                follow: true,
            },
            Request::Drift {
                cluster: cluster.clone(),
            },
            Request::ClusterHealth {
                cluster: cluster.clone(),
            },
            Request::Knows { step: step.clone() },
        ];
        let changing = [
            Request::Run(step.clone()),
            Request::Cancel { step: step.id() },
            Request::SigningRequest,
            Request::Certificate { der: vec![] },
            Request::Trust {
                authorities: String::new(),
            },
            Request::ImageKey { key: String::new() },
            Request::EtcdSnapshot {
                cluster: cluster.clone(),
            },
            Request::TakeSnapshot {
                cluster,
                database: Digest::of(b""),
            },
            Request::Revocations {
                crl: Digest::of(b"").as_bytes().to_vec(),
            },
        ];
        let may = |role, request| {
            let peer = PeerIdentity {
                name: "ann".into(),
                role,
                serial: "01".into(),
                ca: "CA".into(),
                not_after: std::time::SystemTime::UNIX_EPOCH,
            };
            authorize(&peer, request).is_ok()
        };
        assert!(
            looking
                .iter()
                .all(|request| may(Role::Operator, request) && may(Role::Reader, request))
        );
        assert!(
            changing
                .iter()
                .all(|request| may(Role::Operator, request) && !may(Role::Reader, request))
        );
        assert!(
            looking
                .iter()
                .chain(&changing)
                .all(|request| !may(Role::Agent, request))
        );
    }
}
