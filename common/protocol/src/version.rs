//! This module owns [`ProtocolVersion`] and how two peers agree on one.

use serde::{Deserialize, Serialize};

/// A version of the protocol. Numbers are never reused.
///
/// - `1`: the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProtocolVersion(pub u16);

impl ProtocolVersion {
    /// The newest version this program speaks.
    pub const CURRENT: Self = Self(1);
    /// The oldest version this program still speaks.
    pub const OLDEST: Self = Self(1);

    /// The newest version inside both spans, if there is one.
    #[must_use]
    pub fn agree(ours: (Self, Self), theirs: (Self, Self)) -> Option<Self> {
        let newest = ours.1.min(theirs.1);
        (newest >= ours.0 && newest >= theirs.0).then_some(newest)
    }
}

impl std::fmt::Display for ProtocolVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_common_version_wins_and_disjoint_spans_do_not_agree() {
        let span = |low, high| (ProtocolVersion(low), ProtocolVersion(high));
        assert_eq!(
            ProtocolVersion::agree(span(1, 3), span(2, 5)),
            Some(ProtocolVersion(3))
        );
        assert_eq!(
            ProtocolVersion::agree(span(1, 1), span(1, 1)),
            Some(ProtocolVersion(1))
        );
        assert_eq!(ProtocolVersion::agree(span(1, 2), span(3, 4)), None);
    }
}
