//! Who is a member, how each is, and the removal of one.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use gantry_model::{EtcdMember, EtcdMembers, QuorumError};
use serde::Deserialize;
use serde_json::json;
use tokio::task::JoinSet;

use super::client::{EtcdClient, EtcdError};

/// The port on which members serve clients.
const PORT: u16 = 2379;
/// The member of this host.
pub(super) const LOCAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT);
/// Most members that are asked: etcd itself bears seven.
const MAX_MEMBERS: usize = 64;

/// etcd's `MemberListResponse`, as far as it matters here. Numbers of 64 bits are texts in JSON.
#[derive(Debug, Deserialize)]
struct MemberList {
    #[serde(default)]
    members: Vec<Member>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Member {
    #[serde(rename = "ID")]
    id: String,
    #[serde(default)]
    name: String,
    #[serde(default, rename = "peerURLs")]
    peer_urls: Vec<String>,
    #[serde(default)]
    is_learner: bool,
}

impl MemberList {
    fn at(&self, address: IpAddr) -> Option<&Member> {
        self.members
            .iter()
            .find(|member| member.address() == Some(address))
    }
}

impl Member {
    fn address(&self) -> Option<IpAddr> {
        self.peer_urls.iter().find_map(|url| host_of(url))
    }
}

/// The members of the etcd that this host has a part in, and how they are.
///
/// # Errors
/// When this host has none, or its own member does not answer.
pub(crate) async fn members() -> Result<EtcdMembers, EtcdError> {
    let client = EtcdClient::of_this_host()?;
    let list = list(&client).await?;
    looked_at(&client, &list).await
}

/// How a member is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Absence {
    /// It leaves: the others are all there are.
    ForGood,
    /// It stops and comes back: all count on it yet.
    Meanwhile,
}

impl Absence {
    /// That `members` bear it of the one at `address`.
    fn check(self, members: &EtcdMembers, address: IpAddr) -> Result<(), QuorumError> {
        match self {
            Self::ForGood => members.without(address).map(drop),
            Self::Meanwhile => members.pausing(address),
        }
    }
}

/// Makes sure that etcd bears it when the member at `address` is away, if it is one.
///
/// # Errors
/// When etcd would lose its quorum, or does not answer.
pub(crate) async fn check(address: IpAddr, absence: Absence) -> Result<(), EtcdError> {
    let client = EtcdClient::of_this_host()?;
    let list = list(&client).await?;
    if list.at(address).is_none() {
        return Ok(());
    }
    Ok(absence.check(&looked_at(&client, &list).await?, address)?)
}

/// Removes the member at `address`, if it is one and etcd keeps its quorum without it.
///
/// # Errors
/// When etcd would lose its quorum, or does not do it.
pub(crate) async fn remove(address: IpAddr) -> Result<(), EtcdError> {
    let client = EtcdClient::of_this_host()?;
    let list = list(&client).await?;
    let Some(member) = list.at(address) else {
        return Ok(());
    };
    Absence::ForGood.check(&looked_at(&client, &list).await?, address)?;
    let body = json!({ "ID": member.id });
    let _: serde_json::Value = client.call(LOCAL, "cluster/member/remove", &body).await?;
    tracing::info!(%address, name = member.name, "etcd has one member less");
    Ok(())
}

async fn list(client: &EtcdClient) -> Result<MemberList, EtcdError> {
    let mut list: MemberList = client.call(LOCAL, "cluster/member/list", &json!({})).await?;
    list.members.truncate(MAX_MEMBERS);
    Ok(list)
}

/// Asks every member how it is, all at once.
async fn looked_at(client: &EtcdClient, list: &MemberList) -> Result<EtcdMembers, EtcdError> {
    let mut looks = JoinSet::new();
    for member in &list.members {
        let Some(address) = member.address() else {
            let reason = format!("member {} has no address: {:?}", member.name, member.peer_urls);
            return Err(EtcdError::Refused {
                address: LOCAL,
                reason,
            });
        };
        let (client, name, learner) = (client.clone(), member.name.clone(), member.is_learner);
        looks.spawn(async move {
            EtcdMember {
                name,
                address,
                learner,
                problem: client.problem(SocketAddr::new(address, PORT)).await,
            }
        });
    }
    let mut members = looks.join_all().await;
    members.sort_by_key(|member| member.address);
    Ok(EtcdMembers(members))
}

/// The address in a URL such as `https://10.0.0.2:2380` or `https://[fd00::2]:2380`.
fn host_of(url: &str) -> Option<IpAddr> {
    let authority = url.split_once("://")?.1.split('/').next()?;
    authority.parse::<SocketAddr>().ok().map(|address| address.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of four, one of which is silent, three have to serve while a fourth is stopped, and two of the three that are left
    /// when it leaves.
    #[test]
    fn a_member_that_comes_back_is_counted_on_meanwhile() {
        let member = |last: u8| EtcdMember {
            name: String::new(),
            address: [10, 0, 0, last].into(),
            learner: false,
            problem: (last == 5).then(|| "no answer".to_owned()),
        };
        let members = EtcdMembers((2..=5).map(member).collect());
        let away = [10, 0, 0, 2].into();
        Absence::ForGood.check(&members, away).unwrap();
        let refused = Absence::Meanwhile.check(&members, away);
        assert!(
            matches!(
                refused,
                Err(QuorumError::WouldBeLost {
                    serving: 2,
                    needed: 3,
                    ..
                })
            ),
            "{refused:?}"
        );
        let two = EtcdMembers((2..=3).map(member).collect());
        Absence::Meanwhile.check(&two, away).unwrap();
    }

    #[test]
    fn a_list_of_members_is_read_as_etcd_writes_it() {
        let text = r#"{"header":{"cluster_id":"1","raft_term":"2"},"members":[
            {"ID":"10501334649042878790","name":"host1","peerURLs":["https://10.0.0.2:2380"],"clientURLs":[]},
            {"ID":"3","peerURLs":["https://[fd00::3]:2380"],"isLearner":true}]}"#;
        let list: MemberList = serde_json::from_str(text).unwrap();
        assert_eq!(list.members[0].address(), Some("10.0.0.2".parse().unwrap()));
        assert_eq!(
            (list.members[1].address(), list.members[1].is_learner),
            (Some("fd00::3".parse().unwrap()), true)
        );
        assert_eq!(host_of("http://etcd.example.test:2380"), None);
    }
}
