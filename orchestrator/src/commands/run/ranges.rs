//! Flags of `sealer run` that are variables here.

/// The flags. Help leaves them out.
#[derive(Debug, Default, clap::Args)]
pub(super) struct RangeArgs {
    /// The same as -e PodCIDR=RANGE
    #[arg(long, hide = true)]
    podcidr: Option<String>,

    /// The same as -e SvcCIDR=RANGE
    #[arg(long, hide = true)]
    svccidr: Option<String>,
}

impl RangeArgs {
    /// What they are as variables.
    pub(super) fn variables(&self) -> impl Iterator<Item = String> {
        let range =
            |name: &str, range: &Option<String>| range.as_ref().map(|range| format!("{name}={range}"));
        let ranges = [range("PodCIDR", &self.podcidr), range("SvcCIDR", &self.svccidr)];
        ranges.into_iter().flatten()
    }
}
