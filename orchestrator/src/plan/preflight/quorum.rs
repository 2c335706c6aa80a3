//! Whether etcd keeps its quorum while control planes leave, one after the other.

use std::net::IpAddr;

use gantry_model::{EtcdMembers, StepAction};

use super::{Check, Finding};
use crate::plan::Plan;

/// The control plane that is to be asked about etcd, and the members that are to leave, in order; none when none is.
pub(crate) fn leaving(plan: &Plan) -> Option<(IpAddr, Vec<IpAddr>)> {
    let mut asked = None;
    let mut members: Vec<IpAddr> = Vec::new();
    for step in plan.steps().filter(|step| step.is_to_do()) {
        if let StepAction::CheckQuorum { address, .. } | StepAction::RemoveEtcdMember { address, .. } =
            step.step.action
        {
            asked = Some(step.host);
            if !members.contains(&address) {
                members.push(address);
            }
        }
    }
    Some((asked?, members))
}

/// Which of the members that leave etcd cannot do without.
pub(crate) fn check(etcd: &EtcdMembers, leaving: &[IpAddr]) -> Vec<Finding> {
    let mut left = etcd.clone();
    let mut findings = Vec::new();
    for &host in leaving {
        match left.without(host) {
            Ok(others) => left = others,
            Err(error) => findings.push(Finding {
                check: Check::Quorum,
                host,
                message: format!("it cannot leave: {error}"),
            }),
        }
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
        let healthy = EtcdMembers(vec![member(2, None), member(3, None), member(4, None)]);
        assert_eq!(check(&healthy, &[at(3), at(4)]), []);
        let found = check(&healthy, &[at(3), at(4), at(2)]);
        assert_eq!(found.iter().map(|one| one.host).collect::<Vec<_>>(), [at(2)]);
        let one_silent = EtcdMembers(vec![
            member(2, None),
            member(3, None),
            member(4, Some("no answer")),
        ]);
        assert_eq!(check(&one_silent, &[at(4), at(3)]), [], "the silent one first");
        assert_eq!(check(&one_silent, &[at(3)]).len(), 1);
    }
}
