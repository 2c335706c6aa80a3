//! Helm charts, rendered as `helm template` would with a chart's own values: enough to tell which container images it starts.
//!
//! ```text
//! files ─ chart ─▶ Chart ─ values ─▶ each chart's values ─ render ─▶ documents
//!                                             functions ──┘
//! ```
//!
//! Charts of images are rendered in a process of their own, within limits ([`render_apart`]).
//!
//! What needs a running cluster (`lookup`) or chance (keys, passwords) gives nothing, or something of that shape. Templates cannot
//! change a value in place (`set`): what a chart says that way is not seen.

mod apart;
mod chart;
mod functions;
mod methods;
mod render;
mod values;

pub use apart::{ChartSource, render_apart, run as run_apart};
pub use chart::{Chart, ChartError};
pub use render::{Rendered, render};
