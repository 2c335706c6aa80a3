//! This module owns [`ImageSwap`]: what scripts of an image do about swap, with which kubelet does not start.

use std::collections::{BTreeMap, BTreeSet};

use gantry_store::{ChunkSource, LayerError};
use serde::{Deserialize, Serialize};

use super::image::{below, text};

/// Folder of scripts, below the rootfs.
const SCRIPTS: &str = "scripts/";
/// What sets a host up; an image has the first, or the others.
const INIT: &str = "init.sh";
const INIT_OF_RUNTIMES: [&str; 3] = ["docker.sh", "containerd.sh", "init-kube.sh"];
/// What kubelet's unit runs before each start of it.
const BEFORE_KUBELET: &str = "kubelet-pre-start.sh";
/// How kubelet is started, which may say so itself.
const KUBELET_UNITS: [&str; 2] = ["etc/kubelet.service", "etc/10-kubeadm.conf"];
/// By it scripts call all that are beside them.
const ALL: &str = "*.sh";
/// What undoes the others.
const UNDO: [&str; 2] = ["clean", "uninstall"];

/// What scripts of an image do about swap: by what they say, not by what they do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageSwap {
    /// Nothing.
    Stays,
    /// It is off until the host boots.
    OffUntilBoot,
    /// It is off whenever kubelet starts: before each start, or where the host would turn it on.
    Off,
}

impl ImageSwap {
    /// What those of the merged `layers` do.
    ///
    /// # Errors
    /// When a layer cannot be read.
    pub(super) fn read(layers: &[ChunkSource]) -> Result<Self, LayerError> {
        let mut scripts = BTreeMap::new();
        for name in below(layers, SCRIPTS) {
            let said = text(layers, &format!("{SCRIPTS}{name}"))?.unwrap_or_default();
            scripts.insert(name, said);
        }
        let mut units = String::new();
        for path in KUBELET_UNITS {
            units += &text(layers, path)?.unwrap_or_default();
        }
        Ok(Self::of(&scripts, &units))
    }

    /// What `scripts`, texts by their names, and kubelet's `units` do.
    fn of(scripts: &BTreeMap<String, String>, units: &str) -> Self {
        let before_kubelet = called(scripts, &[BEFORE_KUBELET]);
        let init: &[&str] = if scripts.contains_key(INIT) {
            &[INIT]
        } else {
            &INIT_OF_RUNTIMES
        };
        let init = called(scripts, init);
        let says = |names: &BTreeSet<&str>, word: &str| names.iter().any(|name| says(&scripts[*name], word));
        let off_at_start = says(&before_kubelet, "swapoff") || self::says(units, "swapoff");
        if !off_at_start && !says(&init, "swapoff") {
            Self::Stays
        } else if off_at_start || says(&init, "fstab") {
            Self::Off
        } else {
            Self::OffUntilBoot
        }
    }
}

/// Those of `first` that are there, and all that they call.
fn called<'a>(scripts: &'a BTreeMap<String, String>, first: &[&str]) -> BTreeSet<&'a str> {
    let mut due: Vec<&str> = scripts
        .keys()
        .map(String::as_str)
        .filter(|name| first.contains(name))
        .collect();
    let mut found = BTreeSet::new();
    while let Some(script) = due.pop() {
        if !found.insert(script) {
            continue;
        }
        let said = &scripts[script];
        let calls_all = says(said, ALL);
        let is_called =
            |name: &&str| says(said, name) || (calls_all && !UNDO.iter().any(|undo| name.starts_with(undo)));
        due.extend(scripts.keys().map(String::as_str).filter(is_called));
    }
    found
}

/// Whether a line of `said` that is no comment has this word.
fn says(said: &str, word: &str) -> bool {
    let mut lines = said.lines().map(str::trim_start);
    lines.any(|line| !line.starts_with('#') && line.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(scripts: &[(&str, &str)]) -> ImageSwap {
        let text = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
        ImageSwap::of(&scripts.iter().map(text).collect(), "")
    }

    #[test]
    fn scripts_that_nobody_calls_turn_nothing_off() {
        for scripts in [
            &[("init.sh", "echo")][..],
            &[("init.sh", "# swapoff -a")],
            &[
                ("init.sh", "bash docker.sh"),
                ("docker.sh", "echo"),
                ("old.sh", "swapoff -a"),
            ],
            &[("init.sh", "echo"), ("clean.sh", "swapoff -a")],
            // Where there is an init.sh, it alone is run.
            &[("init.sh", "echo"), ("init-kube.sh", "swapoff -a")],
        ] {
            assert_eq!(of(scripts), ImageSwap::Stays, "{scripts:?}");
        }
    }

    #[test]
    fn scripts_that_set_a_host_up_turn_it_off_until_it_boots() {
        for scripts in [
            &[("init.sh", "swapoff -a")][..],
            &[("containerd.sh", "echo"), ("init-kube.sh", "swapoff -a || true")],
            &[
                ("init.sh", "bash \"$folder\"/docker.sh"),
                ("docker.sh", ". init-kube.sh"),
                ("init-kube.sh", "swapoff -a"),
            ],
            &[
                ("init.sh", "for one in *.sh; do bash $one; done"),
                ("swap.sh", "swapoff -a"),
            ],
        ] {
            assert_eq!(of(scripts), ImageSwap::OffUntilBoot, "{scripts:?}");
        }
    }

    #[test]
    fn what_runs_before_each_kubelet_or_changes_fstab_turns_it_off_for_good() {
        for scripts in [
            &[
                ("init.sh", "swapoff -a"),
                ("kubelet-pre-start.sh", "  swapoff -a"),
            ][..],
            &[
                ("docker.sh", "bash init-kube.sh"),
                ("kubelet-pre-start.sh", "swapoff -a"),
            ],
            &[("init-kube.sh", "swapoff -a && sed -i '/swap/d' /etc/fstab")],
        ] {
            assert_eq!(of(scripts), ImageSwap::Off, "{scripts:?}");
        }
        let unit = "[Service]\nExecStartPre=/sbin/swapoff -a\n";
        assert_eq!(ImageSwap::of(&BTreeMap::new(), unit), ImageSwap::Off);
    }
}
