//! A real registry: Debian's `docker-registry`, on a port of the loopback, as plain or as guarded as a test wants.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::{apt, wait_until};

/// How a registry is guarded.
#[derive(Debug, Default)]
pub struct Guard {
    /// Certificate and key, PEM.
    pub tls: Option<(String, String)>,
    /// Lines of an htpasswd file (bcrypt).
    pub htpasswd: Option<String>,
    /// Address of a token server, and the certificate whose key signs its tokens.
    pub token: Option<(String, String)>,
}

/// A registry that runs until it is dropped.
#[derive(Debug)]
pub struct Registry {
    host: String,
    folder: PathBuf,
    process: Child,
}

/// Who registry and token server say they are.
pub const SERVICE: &str = "registry of a test";

impl Registry {
    /// Starts one that keeps everything in `folder`.
    ///
    /// # Errors
    /// When the package cannot be had, or the registry does not come up.
    pub fn start(folder: &Path, guard: &Guard) -> Result<Self> {
        Self::start_at(Ipv4Addr::LOCALHOST.into(), folder, guard)
    }

    /// The same at another address of the loopback.
    ///
    /// # Errors
    /// Like [`Registry::start`].
    pub fn start_at(address: IpAddr, folder: &Path, guard: &Guard) -> Result<Self> {
        let program =
            apt::unpacked("registry-packages", &["docker-registry"])?.join("usr/bin/docker-registry");
        fs::create_dir_all(folder.join("data"))?;
        // Between the two somebody else might take the port; then the registry says so and the test fails.
        let host = TcpListener::bind((address, 0))?.local_addr()?.to_string();
        fs::write(folder.join("config.yml"), config(folder, &host, guard)?)?;
        let log = fs::File::create(folder.join("log"))?;
        let process = Command::new(program)
            .arg("serve")
            .arg(folder.join("config.yml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start docker-registry")?;
        let mut registry = Self {
            host,
            folder: folder.to_owned(),
            process,
        };
        wait_until("the registry listens", Duration::from_secs(20), || {
            if let Some(status) = registry.process.try_wait()? {
                bail!("docker-registry ended with {status}:\n{}", registry.log()?);
            }
            Ok(std::net::TcpStream::connect(&registry.host).ok().map(drop))
        })?;
        Ok(registry)
    }

    /// `127.0.0.1:PORT`, or `[::1]:PORT`.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// What it wrote; one line of it is one request.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(self.folder.join("log"))?)
    }

    /// Status and bytes of every answer to a request with this method and `part` in its line, in the order in which they ended.
    ///
    /// # Errors
    /// When its log cannot be read, or is no log of requests.
    pub fn answers(&self, method: &str, part: &str) -> Result<Vec<(u16, u64)>> {
        let log = self.log()?;
        let requests = log.lines().filter(|line| line.contains(&format!("\"{method} ")));
        let answers = requests.filter(|line| line.contains(part)).map(|line| {
            let (_, rest) = line.split_once(" HTTP/1.1\" ").context("no request")?;
            let mut numbers = rest.split(' ');
            let (status, len) = (numbers.next(), numbers.next());
            Ok((
                status.context("no status")?.parse()?,
                len.context("no length")?.parse()?,
            ))
        });
        answers
            .collect::<Result<_>>()
            .context("the registry's log is another one")
    }

    /// How many requests with this method and `part` in their line there were.
    ///
    /// # Errors
    /// When its log cannot be read.
    pub fn requests(&self, method: &str, part: &str) -> Result<usize> {
        let wanted = format!("\"{method} ");
        let lines = self.log()?;
        let fits = |line: &&str| line.contains(&wanted) && line.contains(part);
        Ok(lines.lines().filter(fits).count())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn config(folder: &Path, host: &str, guard: &Guard) -> Result<String> {
    let shown = folder.display();
    let mut text = format!(
        "version: 0.1\nlog: {{ level: warn, accesslog: {{ disabled: false }} }}\n\
         storage:\n  filesystem: {{ rootdirectory: {shown}/data }}\n\
         http:\n  addr: \"{host}\"\n  secret: of-a-test\n"
    );
    if let Some((certificate, key)) = &guard.tls {
        fs::write(folder.join("registry.crt"), certificate)?;
        fs::write(folder.join("registry.key"), key)?;
        text += &format!("  tls: {{ certificate: {shown}/registry.crt, key: {shown}/registry.key }}\n");
    }
    if let Some(users) = &guard.htpasswd {
        fs::write(folder.join("htpasswd"), users)?;
        text += &format!("auth:\n  htpasswd: {{ realm: test, path: {shown}/htpasswd }}\n");
    }
    if let Some((realm, certificate)) = &guard.token {
        fs::write(folder.join("token.crt"), certificate)?;
        text += &format!(
            "auth:\n  token: {{ realm: \"{realm}\", service: \"{SERVICE}\", issuer: \"{SERVICE}\", \
             rootcertbundle: {shown}/token.crt }}\n"
        );
    }
    Ok(text)
}
