//! The operator: the real `gantry`, as its package ships it, run from the operator's own end of the network.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait::wait_until;
use crate::{Host, cgroup::Cgroup, command, command::Finished, network::Port, packages::Packages};

/// An operator with a state folder and a working directory.
#[derive(Debug)]
pub struct Operator {
    program: PathBuf,
    root: PathBuf,
    desk: PathBuf,
    port: Port,
    cgroup: Cgroup,
}

impl Operator {
    /// Unpacks the orchestrator's package into `folder`; state and working directory are there too.
    ///
    /// # Errors
    /// When the package cannot be unpacked.
    pub fn new(folder: &Path, port: Port, cgroup: Cgroup, packages: &Packages) -> Result<Self> {
        let package = folder.join("package");
        fs::create_dir_all(&package)?;
        command::must(
            "dpkg-deb",
            ["-x".as_ref(), packages.gantry.as_os_str(), package.as_os_str()],
        )?;
        cgroup.create()?;
        let operator = Self {
            program: package.join("usr/bin/gantry"),
            root: folder.join("state"),
            desk: folder.join("desk"),
            port,
            cgroup,
        };
        fs::create_dir_all(&operator.desk)?;
        Ok(operator)
    }

    /// A second operator on the same machine, with a state folder of its own: nobody's agents are its agents.
    ///
    /// # Errors
    /// When the working directory cannot be made.
    pub fn stranger(&self, name: &str) -> Result<Self> {
        let desk = self.desk.with_file_name(format!("{name}-desk"));
        fs::create_dir_all(&desk)?;
        let root = self.root.with_file_name(format!("{name}-state"));
        Ok(Self {
            program: self.program.clone(),
            root,
            desk,
            port: self.port.clone(),
            cgroup: self.cgroup.clone(),
        })
    }

    /// The same operator with its state in another folder, e.g. one on another filesystem.
    #[must_use]
    pub fn with_state_in(&self, root: &Path) -> Self {
        Self {
            program: self.program.clone(),
            root: root.to_owned(),
            desk: self.desk.clone(),
            port: self.port.clone(),
            cgroup: self.cgroup.clone(),
        }
    }

    /// The address its packets come from.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.port.address
    }

    /// Its end of the network cable.
    #[must_use]
    pub fn port(&self) -> &Port {
        &self.port
    }

    /// Its cgroup, which counts the CPU time of all it runs.
    #[must_use]
    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// Its state folder, what `--root` names.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The packaged `gantry`.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Its working directory: Clusterfiles and contexts are put there.
    #[must_use]
    pub fn desk(&self) -> &Path {
        &self.desk
    }

    /// Writes a file into the working directory; gives its path.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put(&self, name: &str, text: impl AsRef<[u8]>) -> Result<PathBuf> {
        let path = self.desk.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// Runs `gantry` with these words, split at spaces, until it ends.
    ///
    /// # Errors
    /// When it cannot be started; that it failed is in the result.
    pub fn gantry(&self, words: &str) -> Result<Finished> {
        let output = self
            .command(words)
            .stdin(Stdio::null())
            .output()
            .context("cannot start gantry")?;
        Ok(Finished::new(format!("gantry {words}"), &output))
    }

    /// Runs `gantry`, which has to succeed; gives its standard output.
    ///
    /// # Errors
    /// When it fails; the message holds both outputs.
    pub fn must(&self, words: &str) -> Result<String> {
        self.gantry(words)?.ok()
    }

    /// Starts `gantry` and does not wait.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, words: &str) -> Result<Running> {
        let stdout = tempfile::NamedTempFile::new_in(&self.desk)?.into_temp_path();
        let stderr = tempfile::NamedTempFile::new_in(&self.desk)?.into_temp_path();
        let child = self
            .command(words)
            .stdin(Stdio::null())
            .stdout(File::create(&stdout)?)
            .stderr(File::create(&stderr)?)
            .spawn()
            .context("cannot start gantry")?;
        Ok(Running {
            words: words.to_owned(),
            child,
            stdout,
            stderr,
        })
    }

    /// Any command of this machine, run at the operator's end of the network and counted in its cgroup.
    #[must_use]
    pub fn shell(&self, script: &str) -> Command {
        let mut command = Command::new("sh");
        let enter = format!(
            "{}exec nsenter --net=/run/netns/{} -- \"$@\"",
            self.cgroup.enter_script(),
            self.port.namespace
        );
        command
            .args(["-c", &enter, "sh", "sh", "-c", script])
            .current_dir(&self.desk);
        command
    }

    /// Makes a token and enrols these hosts with it, the way the manual says.
    ///
    /// # Errors
    /// When `gantry` refuses.
    pub fn enroll(&self, hosts: &[&Host]) -> Result<()> {
        let token = self.must(&format!("token create --ttl 1h --uses {}", hosts.len()))?;
        for host in hosts {
            host.drop_token(token.trim())?;
        }
        let addresses: Vec<String> = hosts.iter().map(|host| host.address().to_string()).collect();
        self.must(&format!("enroll {}", addresses.join(" ")))?;
        Ok(())
    }

    /// The command that runs `gantry` with these words, split at spaces.
    #[must_use]
    pub fn command(&self, words: &str) -> Command {
        let mut command = self.shell("exec \"$0\" \"$@\"");
        command
            .arg(&self.program)
            .arg("--root")
            .arg(&self.root)
            .args(words.split_whitespace());
        command
    }
}

/// A `gantry` that was started and not waited for.
#[derive(Debug)]
pub struct Running {
    words: String,
    child: Child,
    stdout: tempfile::TempPath,
    stderr: tempfile::TempPath,
}

impl Running {
    /// Kills it: no chance to clean up.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Presses Ctrl-C.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn interrupt(&self) -> Result<()> {
        let pid = i32::try_from(self.child.id()).context("a process id is an i32")?;
        kill(Pid::from_raw(pid), Signal::SIGINT).context("gantry has ended already")
    }

    /// Whether it has ended.
    ///
    /// # Errors
    /// When the system cannot tell.
    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// What it has printed so far, standard output first.
    ///
    /// # Errors
    /// When its output files cannot be read.
    pub fn printed(&self) -> Result<String> {
        Ok(fs::read_to_string(&self.stdout)? + &fs::read_to_string(&self.stderr)?)
    }

    /// Waits for its end, at most `limit`.
    ///
    /// # Errors
    /// When it takes longer.
    pub fn finish(mut self, limit: Duration) -> Result<Finished> {
        let what = format!("`gantry {}` ends", self.words);
        let status = wait_until(&what, limit, || Ok(self.child.try_wait()?))
            .inspect_err(|_| eprintln!("{}", self.printed().unwrap_or_default()))?;
        let (stdout, stderr) = (fs::read(&self.stdout)?, fs::read(&self.stderr)?);
        Ok(Finished::new(
            format!("gantry {}", self.words),
            &std::process::Output {
                status,
                stdout,
                stderr,
            },
        ))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already, or a test failed and it must not outlive it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
