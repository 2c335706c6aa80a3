//! Whether etcd keeps its quorum while control planes leave, one after the other.

use std::net::IpAddr;

use gantry_model::{EtcdMembers, StepAction};

use super::{Check, Finding};
use crate::plan::Plan;

/// A member of etcd that a plan takes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Absence {
    /// The control plane.
    pub(crate) host: IpAddr,
    /// It does not come back; otherwise it is back before the next one is taken.
    pub(crate) for_good: bool,
}

/// The control plane that is to be asked about etcd, and the members that are taken away, in order; none when none is.
pub(crate) fn absences(plan: &Plan) -> Option<(IpAddr, Vec<Absence>)> {
    let mut asked = None;
    let mut members: Vec<Absence> = Vec::new();
    for step in plan.steps().filter(|step| step.is_to_do()) {
        let (host, for_good) = match step.step.action {
            StepAction::CheckQuorum { address, .. } | StepAction::CheckQuorumMeanwhile { address, .. } => {
                (address, false)
            }
            StepAction::RemoveEtcdMember { address, .. } => (address, true),
            _ => continue,
        };
        asked = Some(step.host);
        match members.iter_mut().find(|member| member.host == host) {
            Some(member) => member.for_good |= for_good,
            None => members.push(Absence { host, for_good }),
        }
    }
    Some((asked?, members))
}

/// Which of these members etcd cannot do without.
pub(crate) fn check(etcd: &EtcdMembers, absences: &[Absence]) -> Vec<Finding> {
    let mut left = etcd.clone();
    let mut findings = Vec::new();
    for &Absence { host, for_good } in absences {
        let error = if for_good {
            left.without(host).map(|others| left = others)
        } else {
            left.pausing(host)
        };
        findings.extend(error.err().map(|error| Finding {
            check: Check::Quorum,
            host,
            message: if for_good {
                format!("it cannot leave: {error}")
            } else {
                format!("etcd cannot do without it for a while: {error}")
            },
        }));
    }
    findings
}

#[cfg(test)]
mod tests {
    use gantry_model::EtcdMember;

    use super::*;

    #[test]
    fn members_are_taken_one_after_the_other() {
        let at = |last: u8| IpAddr::from([10, 0, 0, last]);
        let member = |last: u8, problem: Option<&str>| EtcdMember {
            name: String::new(),
            address: at(last),
            learner: false,
            problem: problem.map(str::to_owned),
        };
        let gone = |last: &[u8]| -> Vec<Absence> {
            let absence = |&last| Absence {
                host: at(last),
                for_good: true,
            };
            last.iter().map(absence).collect()
        };
        let healthy = EtcdMembers(vec![member(2, None), member(3, None), member(4, None)]);
        assert_eq!(check(&healthy, &gone(&[3, 4])), []);
        let found = check(&healthy, &gone(&[3, 4, 2]));
        assert_eq!(found.iter().map(|one| one.host).collect::<Vec<_>>(), [at(2)]);
        let one_silent = EtcdMembers(vec![
            member(2, None),
            member(3, None),
            member(4, Some("no answer")),
        ]);
        assert_eq!(check(&one_silent, &gone(&[4, 3])), [], "the silent one first");
        assert_eq!(check(&one_silent, &gone(&[3])).len(), 1);

        // Each comes back before the next one goes.
        let back: Vec<Absence> = gone(&[2, 3, 4])
            .into_iter()
            .map(|one| Absence {
                for_good: false,
                ..one
            })
            .collect();
        assert_eq!(check(&healthy, &back), []);
        let found = check(&one_silent, &back);
        assert_eq!(
            found.iter().map(|one| one.host).collect::<Vec<_>>(),
            [at(2), at(3)]
        );
    }
}
