//! The balancer: every host finds the API server at one address of its own, whichever control plane is up.
//!
//! ```text
//! step ─▶ settings: agent/balancer/<cluster>.json ─▶ unit gantry-balancer-<cluster>.service: `gantry-agent balance`
//!                                                      ├─ probe: is this API server ready? ─▶ backends
//!                                                      └─ proxy: connections ─▶ a backend that is ready
//! ```
//!
//! It is a service of its own: restarting or upgrading the agent cuts no connection, and it comes back with the host. It
//! reads its settings anew when they change, so that control planes come and go without cutting any either.

mod backends;
mod probe;
mod proxy;
mod settings;
#[cfg(test)]
mod tests;
mod unit;

pub use proxy::run;
pub(crate) use settings::{Settings, check};
pub(crate) use unit::Balancers;
