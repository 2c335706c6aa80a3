//! A test host: a real systemd in its own tree, network, process table and cgroup.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::network::Port;
use crate::wait::wait_until;
use crate::{cgroup::Cgroup, command, command::Finished};

/// How long a host may take to boot. It takes half a second on an idle machine.
const BOOT_LIMIT: Duration = Duration::from_secs(90);

/// One host of a testbed.
#[derive(Debug)]
pub struct Host {
    name: String,
    machine: String,
    tree: PathBuf,
    port: Port,
    cgroup: Cgroup,
    supervisor: Mutex<Option<Child>>,
}

impl Host {
    /// Makes the host's tree from the base tree and boots it.
    ///
    /// # Errors
    /// When the tree cannot be copied or the host does not come up; the message says where its console went.
    pub fn boot(name: &str, machine: String, base: &Path, tree: PathBuf, port: Port) -> Result<Self> {
        let copy = ["-a", "--reflink=auto"].map(AsRef::as_ref);
        command::must("cp", copy.into_iter().chain([base.as_os_str(), tree.as_os_str()]))?;
        fs::write(tree.join("etc/hostname"), format!("{name}\n"))?;
        fs::write(
            tree.join("etc/hosts"),
            format!("127.0.0.1 localhost\n{} {name}\n", port.address),
        )?;
        let cgroup = Cgroup::named(&machine);
        let host = Self {
            name: name.to_owned(),
            machine,
            tree,
            port,
            cgroup,
            supervisor: Mutex::new(None),
        };
        host.power_on()?;
        Ok(host)
    }

    /// Its name, `host1` and so on.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.port.address
    }

    /// Its end of the network cable.
    #[must_use]
    pub fn port(&self) -> &Port {
        &self.port
    }

    /// Its cgroup, which counts the CPU time of all that runs on it.
    #[must_use]
    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// Its disk as seen from this machine: no mounts made on the host are visible there.
    #[must_use]
    pub fn disk(&self) -> &Path {
        &self.tree
    }

    /// Boots the host; its tree is as it was when it went down.
    ///
    /// # Errors
    /// When it is running already, or does not come up in time.
    pub fn power_on(&self) -> Result<()> {
        let mut supervisor = self
            .supervisor
            .lock()
            .expect("no test panics while it holds this lock");
        if supervisor.is_some() {
            bail!("{} is running already", self.name);
        }
        self.cgroup.create()?;
        let console = File::options().create(true).append(true).open(self.console())?;
        let errors = console.try_clone()?;
        // An own mount namespace keeps nspawn's mounts off this machine; its private /run/systemd/nspawn is there
        // because nspawn refuses to clean up below a /run that is on disk.
        let script = format!(
            "{}mkdir -p /run/systemd/nspawn && mount -t tmpfs tmpfs /run/systemd/nspawn && exec \"$@\"",
            self.cgroup.enter_script()
        );
        let child = Command::new("unshare")
            .args([
                "--mount",
                "--propagation",
                "private",
                "sh",
                "-c",
                &script,
                "sh",
                "systemd-nspawn",
                "--quiet",
            ])
            .arg(format!("--directory={}", self.tree.display()))
            .arg(format!(
                "--network-namespace-path=/run/netns/{}",
                self.port.namespace
            ))
            .arg(format!("--machine={}", self.machine))
            .args([
                "--boot",
                "--register=no",
                "--keep-unit",
                "--capability=all",
                "--resolv-conf=off",
                "--link-journal=no",
            ])
            .args([
                "--timezone=off",
                "--system-call-filter=@keyring bpf keyctl add_key",
                "--hostname",
                &self.name,
            ])
            .env("SYSTEMD_NSPAWN_API_VFS_WRITABLE", "1")
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(console)
            .stderr(errors)
            .spawn()
            .context("cannot start systemd-nspawn")?;
        *supervisor = Some(child);
        drop(supervisor);
        self.wait_for_boot().with_context(|| {
            format!(
                "{} does not boot; its console: {}",
                self.name,
                self.console().display()
            )
        })
    }

    /// Ends the host at once, as a power cut does.
    ///
    /// # Errors
    /// When something on it does not end.
    pub fn power_off(&self) -> Result<()> {
        let Some(mut child) = self
            .supervisor
            .lock()
            .expect("no test panics while it holds this lock")
            .take()
        else {
            return Ok(());
        };
        if let Some(pid) = first_process(child.id()) {
            // It may be gone already; the cgroup is emptied below in any case.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        self.cgroup.remove()?;
        child.wait().context("systemd-nspawn cannot be waited for")?;
        Ok(())
    }

    /// Power cut, then boot.
    ///
    /// # Errors
    /// When it does not go down or come up.
    pub fn reboot(&self) -> Result<()> {
        self.power_off()?;
        self.power_on()
    }

    /// Runs shell words on the host as root and waits for their end.
    ///
    /// # Errors
    /// When the host is not running.
    pub fn run(&self, script: &str) -> Result<Finished> {
        let output = self
            .command(script)?
            .stdin(Stdio::null())
            .output()
            .context("cannot enter the host")?;
        Ok(Finished::new(format!("{}# {script}", self.name), &output))
    }

    /// Runs shell words that have to succeed; gives their standard output.
    ///
    /// # Errors
    /// When they fail; the message holds both outputs.
    pub fn must(&self, script: &str) -> Result<String> {
        self.run(script)?.ok()
    }

    /// The command of this machine that runs shell words on the host.
    ///
    /// # Errors
    /// When the host is not running.
    pub fn command(&self, script: &str) -> Result<Command> {
        let pid = self.pid1()?;
        let mut command = Command::new("sh");
        let enter = format!(
            "{}exec nsenter --target {pid} --all -- \"$@\"",
            self.cgroup.enter_script()
        );
        command
            .args(["-c", &enter, "sh", "bash", "-c", script])
            .current_dir("/");
        command
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("HOME", "/root");
        Ok(command)
    }

    /// A path of the host as this machine reaches it, mounts of the host included. Links in it that lead to an
    /// absolute path lead to this machine instead.
    ///
    /// # Errors
    /// When the host is not running.
    pub fn path(&self, path: &str) -> Result<PathBuf> {
        Ok(PathBuf::from(format!(
            "/proc/{}/root/{}",
            self.pid1()?,
            path.trim_start_matches('/')
        )))
    }

    /// The host's first process, by this machine's count.
    ///
    /// # Errors
    /// When the host is not running.
    pub fn pid1(&self) -> Result<i32> {
        let supervisor = self
            .supervisor
            .lock()
            .expect("no test panics while it holds this lock");
        let child = supervisor
            .as_ref()
            .with_context(|| format!("{} is not running", self.name))?;
        first_process(child.id()).with_context(|| {
            format!(
                "{} has no first process; see {}",
                self.name,
                self.console().display()
            )
        })
    }

    /// Where its console output goes.
    #[must_use]
    pub fn console(&self) -> PathBuf {
        self.tree.with_extension("console")
    }

    fn wait_for_boot(&self) -> Result<()> {
        wait_until("the host has started its services", BOOT_LIMIT, || {
            if self.has_exited()? {
                bail!(
                    "systemd-nspawn ended: {}",
                    fs::read_to_string(self.console()).unwrap_or_default()
                );
            }
            // `is-system-running` fails while the bus is not there yet, and says `degraded` where the machine
            // withholds something a unit of the base system wants: both programs run all the same.
            let Ok(state) = self.run("systemctl is-system-running") else {
                return Ok(None);
            };
            Ok(matches!(state.stdout.trim(), "running" | "degraded").then_some(()))
        })
    }

    fn has_exited(&self) -> Result<bool> {
        let mut supervisor = self
            .supervisor
            .lock()
            .expect("no test panics while it holds this lock");
        match supervisor.as_mut() {
            Some(child) => Ok(child.try_wait()?.is_some()),
            None => Ok(true),
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Err(error) = self.power_off() {
            eprintln!("{} could not be stopped: {error:#}", self.name);
        }
    }
}

/// The child of nspawn that became the host's first process.
fn first_process(supervisor: u32) -> Option<i32> {
    let children = fs::read_to_string(format!("/proc/{supervisor}/task/{supervisor}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}
