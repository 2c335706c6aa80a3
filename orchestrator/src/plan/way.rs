//! This module owns [`Way`]: how a host comes, or came, to its image.

use gantry_model::Digest;

use crate::inventory::HostReport;

/// How a host comes to an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// It has no other image.
    First,
    /// From another one.
    Upgrade,
    /// From one that came later to it.
    Back,
}

impl Way {
    /// How the host of `report` comes to `image` as that of `cluster`, by the generations it has; it may have come.
    pub(super) fn of(
        report: Option<&HostReport>,
        cluster: &gantry_model::ClusterName,
        image: &Digest,
    ) -> Self {
        let Some(report) = report else {
            return Self::First;
        };
        let mut generations: Vec<_> = report
            .inventory
            .generations
            .iter()
            .filter(|generation| generation.cluster == *cluster)
            .collect();
        generations.sort_by_key(|generation| generation.id);
        let came = report.current(cluster).filter(|current| current.image == *image);
        if let Some(came) = came {
            generations.retain(|generation| generation.id <= came.id);
        }
        let Some(from) = generations.iter().rfind(|generation| generation.image != *image) else {
            return Self::First;
        };
        let first = |image: &Digest| {
            generations
                .iter()
                .position(|generation| generation.image == *image)
        };
        // One that comes now for the first time is later than all.
        match (first(image), first(&from.image)) {
            (Some(this), Some(from)) if this < from => Self::Back,
            _ => Self::Upgrade,
        }
    }
}
