//! Go templates (`text/template`) as ClusterImages use them: one text, the values of one host, one result.
//!
//! ```text
//! text ── blocks: every block opened is closed, none is too deep ──▶ render: gotmpl, within bounds ──▶ text
//! ```
//!
//! No I/O and no clock: the same text and values give the same result everywhere.

mod blocks;
mod document;
mod error;
mod functions;
mod place;
mod render;

pub use blocks::check as check_nesting;
pub use document::{from_json, render_document, to_json};
pub use error::TemplateError;
pub use place::{FOLDERS, is_in_folders, target};
pub use render::{MAX_RENDERED_LEN, MAX_TEMPLATE_LEN, check, render};
