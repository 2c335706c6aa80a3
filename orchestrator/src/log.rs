//! Diagnostics for who looks for a fault: on standard error, off unless asked for, apart from what commands say.

use tracing_subscriber::EnvFilter;

/// The variable that turns diagnostics on, e.g. `GANTRY_LOG=debug` or `GANTRY_LOG=gantry=trace`.
pub const VARIABLE: &str = "GANTRY_LOG";

/// Starts diagnostics if [`VARIABLE`] asks for them.
pub fn start() {
    let Ok(wanted) = std::env::var(VARIABLE) else {
        return;
    };
    let filter = EnvFilter::builder().parse_lossy(wanted);
    let format = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // A second start in one process changes nothing.
    let _ = format.try_init();
}
