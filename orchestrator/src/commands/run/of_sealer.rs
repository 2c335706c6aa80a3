//! Flags of `sealer run` that have no work to do here: scripts that give them are told what holds instead.

use gantry_model::ExitCode;

use crate::exit::failure_hint;

/// The flags. Help leaves them out.
#[derive(Debug, Default, clap::Args)]
pub(super) struct SealerArgs {
    /// Not used: nothing goes over ssh
    #[arg(short, long, hide = true)]
    user: Option<String>,

    /// Not used: nothing goes over ssh
    #[arg(short, long, hide = true)]
    passwd: Option<String>,

    /// Not used: nothing goes over ssh
    #[arg(long, hide = true)]
    port: Option<String>,

    /// Not used: nothing goes over ssh
    #[arg(long, hide = true)]
    pk: Option<String>,

    /// Not used: nothing goes over ssh
    #[arg(long, hide = true)]
    pk_passwd: Option<String>,

    /// Has to be BAREMETAL
    #[arg(long, hide = true)]
    provider: Option<String>,

    /// Has to be apply
    #[arg(long, hide = true)]
    mode: Option<String>,

    /// Not used: the receiver decides what travels
    #[arg(long, hide = true)]
    ignore_cache: bool,

    /// Not used: agents fetch what they lack
    #[arg(long, hide = true)]
    distributor: Option<String>,

    /// The same as -e PodCIDR=RANGE
    #[arg(long, hide = true)]
    podcidr: Option<String>,

    /// The same as -e SvcCIDR=RANGE
    #[arg(long, hide = true)]
    svccidr: Option<String>,
}

impl SealerArgs {
    /// What some of them are as variables.
    pub(super) fn variables(&self) -> impl Iterator<Item = String> {
        let range =
            |name: &str, range: &Option<String>| range.as_ref().map(|range| format!("{name}={range}"));
        let ranges = [range("PodCIDR", &self.podcidr), range("SvcCIDR", &self.svccidr)];
        ranges.into_iter().flatten()
    }

    /// Says which of them were given for nothing.
    ///
    /// # Errors
    /// When one asks for what is not done here.
    pub(super) fn tell_or_refuse(&self) -> anyhow::Result<()> {
        if let Some(provider) = self
            .provider
            .as_ref()
            .filter(|word| !word.eq_ignore_ascii_case("baremetal"))
        {
            return Err(failure_hint(
                ExitCode::Input,
                format!("--provider {provider} is not supported: hosts are not created"),
                "leave it out, and name hosts that are there and enrolled (`gantry enroll`)",
            ));
        }
        if let Some(mode) = self.mode.as_ref().filter(|mode| *mode != "apply") {
            return Err(failure_hint(
                ExitCode::Input,
                format!("--mode {mode} is not supported by `gantry run`"),
                "`gantry run … --print >Clusterfile` and `gantry stage -f Clusterfile` bring the image to the hosts and change nothing else",
            ));
        }
        let over_ssh = [
            ("--user", self.user.is_some()),
            ("--passwd", self.passwd.is_some()),
            ("--port", self.port.is_some()),
            ("--pk", self.pk.is_some()),
            ("--pk-passwd", self.pk_passwd.is_some()),
        ];
        let own_way = [
            ("--ignore-cache", self.ignore_cache),
            ("--distributor", self.distributor.is_some()),
        ];
        let style = anstyle::Style::new().bold();
        for (flags, why) in [
            (
                &over_ssh[..],
                "agents are enrolled (`gantry enroll`), nothing goes over ssh",
            ),
            (&own_way[..], "agents know what they have, and fetch the rest"),
        ] {
            let given: Vec<&str> = flags
                .iter()
                .filter(|(_, given)| *given)
                .map(|(flag, _)| *flag)
                .collect();
            match given[..] {
                [] => {}
                [one] => anstream::eprintln!("{style}note:{style:#} {one} is not used: {why}"),
                _ => anstream::eprintln!("{style}note:{style:#} {} are not used: {why}", given.join(", ")),
            }
        }
        Ok(())
    }
}
