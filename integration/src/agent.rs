//! What tests do with the agent of a host.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::{Host, packages::Packages, wait_until};

impl Host {
    /// Installs a Debian package of this machine on the host.
    ///
    /// # Errors
    /// When `dpkg` refuses it.
    pub fn install_deb(&self, package: &Path) -> Result<String> {
        let name = package
            .file_name()
            .context("a package has a name")?
            .to_string_lossy();
        fs::copy(package, self.disk().join("root").join(&*name))?;
        self.must(&format!("dpkg --install /root/{name} 2>&1 && rm /root/{name}"))
    }

    /// Installs the agent's package; its service is running afterwards.
    ///
    /// # Errors
    /// When the package is refused or the service does not come up.
    pub fn install_agent(&self) -> Result<()> {
        self.install_deb(&Packages::find()?.agent)?;
        self.wait_for_agent()
    }

    /// Puts a one-time token where the agent looks for it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn drop_token(&self, token: &str) -> Result<()> {
        self.must(&format!(
            "umask 077 && printf '%s\\n' '{token}' >/etc/gantry/token"
        ))
        .map(drop)
    }

    /// Waits until systemd calls the agent active: it says so itself once it listens.
    ///
    /// # Errors
    /// When that takes longer than half a minute; the message holds its log.
    pub fn wait_for_agent(&self) -> Result<()> {
        wait_until("the agent's service is active", Duration::from_secs(30), || {
            Ok((self.run("systemctl is-active gantry-agent")?.stdout.trim() == "active").then_some(()))
        })
        .with_context(|| self.agent_log())
    }

    /// Kills the agent's process: no chance to clean up. systemd starts it again.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill_agent(&self) -> Result<()> {
        let before = self.agent_pid()?;
        self.must(&format!("kill -9 {before}"))?;
        wait_until(
            "systemd has started the agent again",
            Duration::from_secs(30),
            || Ok(self.agent_pid().ok().filter(|now| *now != before)),
        )?;
        self.wait_for_agent()
    }

    /// Resident memory of the agent, in bytes.
    ///
    /// # Errors
    /// When it does not run.
    pub fn agent_memory(&self) -> Result<u64> {
        self.agent_status_line("VmRSS:")
    }

    /// The most resident memory the agent had since it started, in bytes.
    ///
    /// # Errors
    /// When it does not run.
    pub fn agent_peak_memory(&self) -> Result<u64> {
        self.agent_status_line("VmHWM:")
    }

    /// The agent's process, by the host's count.
    ///
    /// # Errors
    /// When it does not run.
    pub fn agent_pid(&self) -> Result<u32> {
        let pid = self.must("systemctl show --property=MainPID --value gantry-agent")?;
        let pid = pid
            .trim()
            .parse()
            .with_context(|| format!("systemctl gave {pid:?} for a process id"))?;
        if pid == 0 {
            anyhow::bail!("the agent of {} does not run", self.name());
        }
        Ok(pid)
    }

    /// What the agent wrote to the journal.
    #[must_use]
    pub fn agent_log(&self) -> String {
        let log = self.run("journalctl --no-pager --output=cat --unit=gantry-agent");
        format!(
            "log of the agent on {}:\n{}",
            self.name(),
            log.map(|log| log.stdout).unwrap_or_default()
        )
    }

    fn agent_status_line(&self, start: &str) -> Result<u64> {
        let status = self.must(&format!("cat /proc/{}/status", self.agent_pid()?))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(start))
            .context("no such line in /proc/PID/status")?;
        let kibibytes: u64 = line
            .trim()
            .trim_end_matches(" kB")
            .parse()
            .context("not a number of kB")?;
        Ok(kibibytes * 1024)
    }
}
