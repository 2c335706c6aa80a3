//! Helm charts, rendered as `helm template` would with a chart's own values: enough to tell which container images it starts.
//!
//! ```text
//! files ─ chart ─▶ Chart ─ values ─▶ each chart's values ─ render ─▶ documents
//!                                             functions ──┘
//! ```
//!
//! Charts of images are rendered in a process of their own, within limits ([`render_apart`]).
//!
//! What needs a running cluster (`lookup`) or chance (keys, passwords) gives nothing, or something of that shape. What a template
//! changes in place (`set`) is changed where it is a variable's alone, and told where others would see it, too.

mod apart;
mod chart;
mod functions;
mod in_place;
mod methods;
mod render;
mod values;

pub use apart::{ChartSource, render_apart, run as run_apart};
pub use chart::{Chart, ChartError};
pub use render::{Rendered, render};
