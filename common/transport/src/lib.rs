//! How messages travel: QUIC, or TLS over TCP where UDP is blocked; identities.
