//! What is on a host, as text that two moments can be compared by.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

use crate::{Host, Testbed};

/// What stays of an agent when the cluster goes.
const AGENTS_OWN: &[&str] = &["/var/lib/gantry", "/etc/gantry"];
/// Changes that a message shows.
const SHOWN: usize = 20;

/// Programs by which a host is looked at, which run while it is.
const LOOKS: &str = "bash|dash|sh|find|grep|xargs|sha256sum|sed|awk|mawk|readlink|sort|systemctl|ip|nsenter|xtables-nft-multi|xtables-legacy-multi";

/// Settings of the kernel that every host has for itself; others are those of the machine, and of all hosts on it.
const SETTINGS: [&str; 4] = [
    "net/ipv4/ip_forward",
    "net/ipv4/conf/all/route_localnet",
    "net/ipv6/conf/all/forwarding",
    "net/ipv6/conf/default/forwarding",
];

/// Files, mounts, units, processes, network links, addresses, routes, packet filters and settings of the network of a host at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    lines: BTreeSet<String>,
}

impl Snapshot {
    /// Looks at a host. `except` are paths below which nothing is looked at: what the host changes by itself.
    ///
    /// # Errors
    /// When the host cannot be asked.
    pub fn of(host: &Host, except: &[&str]) -> Result<Self> {
        let always = [
            "/proc",
            "/sys",
            "/dev",
            "/run",
            "/tmp",
            "/var/log/journal",
            // Packages as they are installed, and logins.
            "/var/log/apt",
            "/var/log/alternatives.log",
            "/var/log/dpkg.log",
            "/var/log/btmp",
            "/var/log/lastlog",
            "/var/log/wtmp",
            // What scripts of images that tests make write down.
            "/var/log/scripts",
            // Debian copies its package database there at midnight.
            "/var/backups",
            "/var/cache",
            "/var/tmp",
            "/var/lib/systemd",
        ];
        let prune: String = always
            .iter()
            .chain(except)
            .map(|path| format!("-path {path} -o "))
            .collect();
        // Kind, mode, owners, size and link target; for plain files also their content. Folder sizes and times
        // are the filesystem's own affair.
        let files = format!(
            "find / -xdev \\( {prune} -false \\) -prune -o \\( -type d -printf 'file %p %y %m %U:%G\\n' \\) \
             -o \\( -type l -printf 'file %p %y %l\\n' \\) -o -printf 'file %p %y %m %U:%G %s\\n'"
        );
        let sums = format!(
            "find / -xdev \\( {prune} -false \\) -prune -o -type f -size -4096k -print0 | xargs -0 sha256sum | sed 's/^/sum /'"
        );
        // What nspawn covers files of /proc with has another name after every boot.
        let mounts =
            "awk '{sub(\"^/[.]#proc-.*\", \"nspawn\", $4); print \"mount\", $5, $4}' /proc/self/mountinfo";
        let units = "systemctl list-unit-files --no-legend --no-pager --state=enabled,static,masked | awk '{print \"unit\", $1, $2}'";
        // systemd's own come when they are asked for, and go by themselves.
        let processes = format!(
            "for exe in /proc/[0-9]*/exe; do readlink $exe; done 2>/dev/null | grep -vE '/systemd/|/({LOOKS})( |$)' | sort -u | \
             sed 's/^/process /'"
        );
        let network = "ip -oneline link | awk '{sub(\"@.*\", \"\", $2); print \"link\", $2}'; \
             ip -oneline -4 address | awk '{print \"address\", $2, $4}'; ip route show table all | sed 's/^/route /'; \
             ip rule | sed 's/^/rule /'";
        // Rules, chains that somebody made, and policies that keep something out; without the counters.
        let filters = "for words in iptables-save ip6tables-save; do command -v $words >/dev/null && \
             $words | grep -vE '^([#*]|COMMIT|:[A-Z]+ ACCEPT)' | sed \"s/ *\\[[0-9:]*\\]$//; s/^/$words /\"; done; sed '1,3d; s/^/ipvs /' /proc/net/ip_vs 2>/dev/null";
        let settings = format!(
            "cd /proc/sys && grep -s '' {} | sed 's/^/setting /'",
            SETTINGS.join(" ")
        );
        let text = host.must(&format!(
            "{files}; {sums}; {mounts}; {units}; {processes}; {network}; {filters}; {settings}; true"
        ))?;
        Ok(Self {
            lines: text.lines().map(str::to_owned).collect(),
        })
    }

    /// Looks at everything on a host but its agent's own folders.
    ///
    /// # Errors
    /// When the host cannot be asked.
    pub fn beside_agent(host: &Host) -> Result<Self> {
        Self::of(host, AGENTS_OWN)
    }

    /// What this moment has and `before` had not (`+`), and the other way round (`-`).
    #[must_use]
    pub fn changes_since(&self, before: &Self) -> Vec<String> {
        let added = self
            .lines
            .difference(&before.lines)
            .map(|line| format!("+ {line}"));
        let removed = before
            .lines
            .difference(&self.lines)
            .map(|line| format!("- {line}"));
        added.chain(removed).collect()
    }
}

impl Testbed {
    /// Looks at everything on every host but its agent's own folders.
    ///
    /// # Errors
    /// When a host cannot be asked.
    pub fn snapshots(&self) -> Result<Vec<Snapshot>> {
        self.hosts().iter().map(Snapshot::beside_agent).collect()
    }
}

impl Host {
    /// That the host is as it was at the moment `before`, its agent's own folders left out.
    ///
    /// # Errors
    /// What is not as it was.
    pub fn ensure_as_before(&self, before: &Snapshot) -> Result<()> {
        let changes = Snapshot::beside_agent(self)?.changes_since(before);
        let shown = &changes[..changes.len().min(SHOWN)];
        ensure!(changes.is_empty(), "{}: {shown:#?}", self.name());
        Ok(())
    }
}
