//! A CA is replaced: who is believed by whom at each step, over real handshakes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{Installation, connect, listen};
use gantry_protocol::CloseCode;
use gantry_transport::{Authority, Identity, Role, UdpMode};

/// Whether `operator` and `agent` come to a session, by QUIC and by TCP.
async fn meet(operator: &Identity, agent: &Identity) -> bool {
    let listener = listen(agent.clone()).await;
    let mut met = Vec::new();
    for udp in [UdpMode::Only, UdpMode::Never] {
        met.push(connect(listener.local_addr(), operator, udp).await.is_ok());
    }
    assert_eq!(met[0], met[1]);
    met[0]
}

/// An agent's next certificate, as it asks for one.
fn renewed(authority: &Authority, agent: &Identity) -> Identity {
    let request = agent.signing_request().unwrap();
    let issued = authority.sign_agent(&request, agent.name()).unwrap();
    agent.with_certificate(&issued.der).unwrap()
}

#[tokio::test]
async fn nobody_is_locked_out_at_any_step() {
    let site = Installation::new();
    let (old_operator, off) = (site.operator(), site.agent("127.0.0.1"));
    let both = site.authority.begin_rotation().unwrap();
    let new_operator = both.issue_operator("alice", Role::Operator).unwrap();
    let told = off.with_trust(both.trust().unwrap()).unwrap();
    let moved = renewed(&both, &told);
    // One that was off knows nothing of the new CA; whoever carries a certificate of the old one, neither.
    for operator in [&old_operator, &new_operator] {
        for agent in [&off, &told, &moved] {
            assert!(meet(operator, agent).await, "{operator:?} and {agent:?}");
        }
    }
    assert!(
        off.with_certificate(
            &both
                .sign_agent(&off.signing_request().unwrap(), off.name())
                .unwrap()
                .der
        )
        .is_err(),
        "it does not know that CA yet"
    );

    let dropping = both.drop_replaced().unwrap();
    let alone = moved.with_trust(dropping.trust().unwrap()).unwrap();
    let operator = new_operator.with_trust(dropping.own_trust().unwrap()).unwrap();
    for agent in [&moved, &alone, &told] {
        assert!(meet(&operator, agent).await, "{agent:?}");
    }
    assert!(!meet(&old_operator, &alone).await, "the old CA is dropped there");
    assert!(meet(&old_operator, &moved).await, "and here it is not yet");

    let settled = dropping.finish_rotation().unwrap();
    let operator = operator.with_trust(settled.own_trust().unwrap()).unwrap();
    assert!(meet(&operator, &alone).await);
    assert!(!meet(&operator, &told).await, "an agent of the old CA is nobody");
}

#[tokio::test]
async fn a_session_goes_on_through_a_rotation() {
    let site = Installation::new();
    let agent = site.agent("127.0.0.1");
    let listener = listen(agent.clone()).await;
    let both = site.authority.begin_rotation().unwrap();
    let old = site.authority.issue_operator("bob", Role::Operator);
    assert!(old.is_err(), "who opened the authority before signs no more");
    let operator = both.issue_operator("alice", Role::Operator).unwrap();
    let connection = connect(listener.local_addr(), &operator, UdpMode::Auto)
        .await
        .unwrap();
    let _accepted = listener.accept().await;

    listener.replace_identity(agent.with_trust(both.trust().unwrap()).unwrap());
    listener.replace_identity(renewed(&both, &listener.identity()));
    let dropping = both.drop_replaced().unwrap();
    listener.replace_identity(listener.identity().with_trust(dropping.trust().unwrap()).unwrap());
    assert!(connection.close_reason().is_none(), "nothing was cut");
    assert!(connection.open_bi().await.is_ok());
}

#[tokio::test]
async fn a_session_of_the_old_ca_is_closed_when_it_is_dropped() {
    let site = Installation::new();
    let (old_operator, agent) = (site.operator(), site.agent("127.0.0.1"));
    let both = site.authority.begin_rotation().unwrap();
    let moved = renewed(&both, &agent.with_trust(both.trust().unwrap()).unwrap());
    let listener = listen(moved.clone()).await;
    let connection = connect(listener.local_addr(), &old_operator, UdpMode::Auto)
        .await
        .unwrap();
    let _accepted = listener.accept().await;
    let dropping = both.drop_replaced().unwrap();
    listener.replace_identity(moved.with_trust(dropping.trust().unwrap()).unwrap());
    let closed = connection.closed().await;
    assert_eq!(closed.code, Some(CloseCode::Forbidden));
    assert!(
        closed.reason.contains("operator alice") && closed.reason.contains("was replaced"),
        "{}",
        closed.reason
    );
    let refused = connect(listener.local_addr(), &old_operator, UdpMode::Auto).await;
    let refused = refused.err().unwrap().to_string();
    assert!(refused.contains("its CA was replaced"), "{refused}");
}
