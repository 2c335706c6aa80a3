//! This module owns [`EtcdMembers`]: the members of a cluster's etcd, how they are, and which it can do without.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// One member of a cluster's etcd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EtcdMember {
    /// What etcd calls it: the name of its node. Empty until it has joined.
    pub name: String,
    /// Where the other members find it.
    pub address: IpAddr,
    /// It only listens: it has no vote yet.
    pub learner: bool,
    /// Why it does not serve; none when it does.
    pub problem: Option<String>,
}

/// The members of a cluster's etcd.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EtcdMembers(pub Vec<EtcdMember>);

/// Why etcd cannot do without a member: more than half of all members have to serve, before and after.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuorumError {
    /// Nobody would have the cluster's data.
    #[error("{0} is etcd's only member: without it the cluster's data is gone")]
    Last(IpAddr),
    /// Nothing can be changed now.
    #[error(
        "etcd has no quorum: {serving} of {all} members serve, {needed} have to{}",
        of(problems)
    )]
    Lost {
        /// Members that serve.
        serving: usize,
        /// Members that vote.
        all: usize,
        /// How many have to serve.
        needed: usize,
        /// What is wrong with the others.
        problems: Vec<String>,
    },
    /// Nothing could be changed afterwards.
    #[error(
        "without {address} etcd loses its quorum: {serving} of the {left} members left serve, {needed} have to{}",
        of(problems)
    )]
    WouldBeLost {
        /// The member that was to go.
        address: IpAddr,
        /// Members that would serve.
        serving: usize,
        /// Members that would be left.
        left: usize,
        /// How many have to serve.
        needed: usize,
        /// What is wrong with the others.
        problems: Vec<String>,
    },
}

impl EtcdMembers {
    /// The members without the one at `address`; the same ones when it is none of them.
    ///
    /// # Errors
    /// When etcd has no quorum, or would not have one without it.
    pub fn without(&self, address: IpAddr) -> Result<Self, QuorumError> {
        if !self.0.iter().any(|member| member.address == address) {
            return Ok(self.clone());
        }
        let (all, needed, serving) = self.votes();
        if serving < needed {
            let problems = self.problems();
            return Err(QuorumError::Lost {
                serving,
                all,
                needed,
                problems,
            });
        }
        let left = Self(
            self.0
                .iter()
                .filter(|member| member.address != address)
                .cloned()
                .collect(),
        );
        match left.votes() {
            (0, ..) => Err(QuorumError::Last(address)),
            (all, needed, serving) if serving < needed => Err(QuorumError::WouldBeLost {
                address,
                serving,
                left: all,
                needed,
                problems: left.problems(),
            }),
            _ => Ok(left),
        }
    }

    /// That etcd serves while the member at `address` is stopped and comes back. Where there are two, it cannot, and that
    /// is no error.
    ///
    /// # Errors
    /// When etcd has no quorum, or would not have one meanwhile.
    pub fn pausing(&self, address: IpAddr) -> Result<(), QuorumError> {
        let left = self.without(address)?;
        let ((all, needed, _), (_, _, serving)) = (self.votes(), left.votes());
        if all > 2 && serving < needed {
            return Err(QuorumError::WouldBeLost {
                address,
                serving,
                left: all,
                needed,
                problems: left.problems(),
            });
        }
        Ok(())
    }

    /// Whether more than half of the members serve.
    #[must_use]
    pub fn has_quorum(&self) -> bool {
        let (all, needed, serving) = self.votes();
        all > 0 && serving >= needed
    }

    /// Members that vote, how many of them have to serve, how many do.
    fn votes(&self) -> (usize, usize, usize) {
        let voters = || self.0.iter().filter(|member| !member.learner);
        let all = voters().count();
        (
            all,
            all / 2 + 1,
            voters().filter(|member| member.problem.is_none()).count(),
        )
    }

    fn problems(&self) -> Vec<String> {
        let problem = |member: &EtcdMember| Some(format!("{}: {}", member.address, member.problem.as_ref()?));
        self.0.iter().filter_map(problem).collect()
    }
}

fn of(problems: &[String]) -> String {
    if problems.is_empty() {
        return String::new();
    }
    format!(" ({})", problems.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    fn members(serving: &[u8], silent: &[u8]) -> EtcdMembers {
        let member = |last: &u8, problem: Option<&str>| EtcdMember {
            name: format!("host{last}"),
            address: at(*last),
            learner: false,
            problem: problem.map(str::to_owned),
        };
        let serving = serving.iter().map(|last| member(last, None));
        EtcdMembers(
            serving
                .chain(silent.iter().map(|last| member(last, Some("no answer"))))
                .collect(),
        )
    }

    #[test]
    fn members_go_one_after_the_other_down_to_one() {
        let two = members(&[2, 3, 4], &[]).without(at(3)).unwrap();
        let one = two.without(at(2)).unwrap();
        assert_eq!(one, members(&[4], &[]));
        assert_eq!(one.without(at(4)), Err(QuorumError::Last(at(4))));
        assert_eq!(one.without(at(9)), Ok(one.clone()), "it is gone already");
    }

    #[test]
    fn a_dead_member_goes_and_a_living_one_stays_beside_it() {
        let members = members(&[2, 3], &[4]);
        assert!(members.has_quorum());
        assert!(members.without(at(4)).is_ok());
        let refused = members.without(at(2)).unwrap_err().to_string();
        assert_eq!(
            refused,
            "without 10.0.0.2 etcd loses its quorum: 1 of the 2 members left serve, 2 have to (10.0.0.4: no answer)"
        );
    }

    #[test]
    fn nothing_goes_while_there_is_no_quorum() {
        let members = members(&[2], &[3]);
        assert!(!members.has_quorum());
        let refused = members.without(at(3)).unwrap_err();
        assert!(matches!(
            refused,
            QuorumError::Lost {
                serving: 1,
                all: 2,
                needed: 2,
                ..
            }
        ));
    }
}
