//! Whether a ClusterImage has everything a cluster asks for: container images that its files name, and those that its
//! `registry/` has.
//!
//! ```text
//! rootfs ─┬─ scan ─▶ image_list, kubernetes_yaml, charts ─▶ references ─┐
//!         └─ registry_contents ─────────────────────────────────────────┴─ report ─▶ missing, damaged
//! ```
//!
//! The bundle that lacks one image is found out in the machine room, where nobody can fetch it: so it is looked for before.

mod charts;
mod image_list;
mod kubeadm;
mod kubernetes_yaml;
mod references;
mod registry_contents;
mod report;
mod scan;
mod template_values;

pub use image_list::{IgnoredImages, MAX_LEN as MAX_IMAGE_LIST_LEN, parse as parse_image_list};
pub use kubeadm::{
    add as add_kubeadm_answer, configuration as kubeadm_configuration, has_no_control_plane, upstream,
};
pub use kubernetes_yaml::find as find_in_yaml;
pub use references::{Doubt, Place, References};
pub use registry_contents::{Flaw, FoundIn, RegistryContents, places_of};
pub(crate) use registry_contents::{ROOT as REGISTRY_ROOT, data_path};
pub use report::{Missing, Report};
pub use scan::{Scan, scan};
pub use template_values::TemplateValues;
