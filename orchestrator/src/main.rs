//! The Gantry orchestrator: plans and applies a Clusterfile.
fn main() {}
