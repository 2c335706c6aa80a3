//! The tools people copy trees with today: scp and rsync, over the cheapest cipher OpenSSH has.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use gantry_integration::{Host, Operator, command, wait_until};

use crate::contender::Contender;

/// What a host needs to be copied to.
pub(crate) const HOST_PACKAGES: &[&str] = &["openssh-server", "rsync"];

/// AES-GCM runs in hardware and needs no separate MAC; OpenSSH's default, ChaCha20, is slower.
const CIPHER: &str = "aes128-gcm@openssh.com";

/// An operator's key that hosts accept.
#[derive(Debug)]
pub(crate) struct SshKey {
    key: PathBuf,
}

impl SshKey {
    pub(crate) fn create(operator: &Operator) -> Result<Self> {
        let key = operator.desk().join("ssh-key");
        let words = ["-q", "-t", "ed25519", "-N", "", "-f"].map(AsRef::as_ref);
        command::must("ssh-keygen", words.into_iter().chain([key.as_os_str()]))?;
        Ok(Self { key })
    }

    /// Lets the key in on a host, and waits until its ssh server answers.
    pub(crate) fn accept_on(&self, host: &Host, operator: &Operator) -> Result<()> {
        let public = fs::read_to_string(self.key.with_extension("pub"))?;
        // Logins at their quickest: no name look-ups, no session bookkeeping.
        host.must(&format!(
            "mkdir -p -m 700 /root/.ssh && echo '{}' >/root/.ssh/authorized_keys && \
             printf 'UsePAM no\\nUseDNS no\\n' >/etc/ssh/sshd_config.d/quick.conf && \
             systemctl reset-failed ssh && systemctl restart ssh",
            public.trim()
        ))?;
        let login = format!("{} true", self.ssh(&self.to(host)));
        wait_until(
            "the ssh server lets the operator in",
            Duration::from_secs(30),
            || {
                Ok(command::run(&mut operator.shell(&login))?
                    .succeeded()
                    .then_some(()))
            },
        )
    }

    /// `ssh` with everything it needs to reach `whom`, as shell words.
    pub(crate) fn ssh(&self, whom: &str) -> String {
        format!("ssh {} {whom}", self.options())
    }

    /// How a host is called in ssh's commands.
    pub(crate) fn to(&self, host: &Host) -> String {
        format!("root@{}", host.address())
    }

    /// `scp` that copies a folder to a host, as shell words.
    pub(crate) fn copy(&self, folder: &str, host: &Host, to: &str) -> String {
        format!("scp -q {} -r {folder} {}:{to}", self.options(), self.to(host))
    }

    fn options(&self) -> String {
        format!(
            "-F /dev/null -c {CIPHER} -i {} -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
             -o LogLevel=ERROR -o IdentitiesOnly=yes -o GSSAPIAuthentication=no",
            self.key.display()
        )
    }
}

/// Which program copies.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Tool {
    /// `scp -r`
    Scp,
    /// `rsync -aW`
    Rsync,
}

/// One of the tools, copying one tree to one host.
pub(crate) struct SshCopy<'a> {
    pub(crate) tool: Tool,
    pub(crate) key: &'a SshKey,
    pub(crate) operator: &'a Operator,
    pub(crate) host: &'a Host,
    /// The folder that is copied.
    pub(crate) tree: &'a Path,
    /// A folder of the host that exists; the copy becomes `copy` in it.
    pub(crate) destination: &'a str,
}

impl Contender for SshCopy<'_> {
    fn name(&self) -> &str {
        match self.tool {
            Tool::Scp => "scp -c aes128-gcm@openssh.com -r",
            Tool::Rsync => "rsync -aW over ssh -c aes128-gcm@openssh.com",
        }
    }

    fn prepare(&mut self) -> Result<()> {
        self.host
            .must(&format!("rm -rf {}/copy", self.destination))
            .map(drop)
    }

    fn run(&mut self) -> Result<()> {
        let (options, tree, to) = (self.key.options(), self.tree.display(), self.key.to(self.host));
        let script = match self.tool {
            Tool::Scp => self.key.copy(
                &tree.to_string(),
                self.host,
                &format!("{}/copy", self.destination),
            ),
            Tool::Rsync => format!(
                "rsync -aW -e 'ssh {options}' {tree}/ {to}:{}/copy/",
                self.destination
            ),
        };
        command::run(&mut self.operator.shell(&script))?.ok().map(drop)
    }

    fn check(&mut self) -> Result<()> {
        same_content(self.tree, &self.host.path(&format!("{}/copy", self.destination))?)
    }
}

/// Compares two trees: names and bytes.
pub(crate) fn same_content(one: &Path, other: &Path) -> Result<()> {
    let words = ["-r", "-q", "--no-dereference"].map(AsRef::as_ref);
    command::must(
        "diff",
        words.into_iter().chain([one.as_os_str(), other.as_os_str()]),
    )
    .map(drop)
    .context("what arrived differs from what was sent")
}
