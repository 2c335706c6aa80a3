//! Helm charts, rendered as `helm template` would with a chart's own values: enough to tell which container images it starts.
//!
//! ```text
//! files ─ chart ─▶ Chart ─ values ─▶ each chart's values ─ render ─▶ documents
//!                                             functions ──┘
//! ```
//!
//! What needs a running cluster (`lookup`) or chance (keys, passwords) gives nothing, or something of that shape. Templates cannot
//! change a value in place (`set`): what a chart says that way is not seen.

mod chart;
mod functions;
mod methods;
mod render;
mod values;

pub use chart::{Chart, ChartError};
pub use render::{Rendered, render};
