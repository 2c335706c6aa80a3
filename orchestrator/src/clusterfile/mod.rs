//! This module owns [`Clusterfile`]: what the operator wants, as read and checked.
//!
//! ```text
//! text ─ tree ─▶ places and values ─ structure ─▶ names and kinds ─ validate ─▶ meaning
//!          └──────────────────────────┴── mistakes: all of them, each with its place ──┘
//! ```

pub mod application;
pub mod command;
pub mod compose;
pub mod config;
pub mod document;
pub mod edit;
pub mod image_check;
mod image_plugins;
pub mod kubernetes;
pub mod mistake;
pub mod schema;
mod secrets;
pub(crate) mod spelling;
mod structure;
pub mod tree;
mod unsupported;
mod validate;
pub mod yaml;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::net::IpAddr;
use std::path::Path;

use gantry_model::{ClusterName, ExitCode, HostsEntry, ImageReference, NodeMarks};

use crate::exit::{OrExit as _, failure, failure_hint};

pub use application::{ApplicationSettings, Applications};
pub use command::{Command, CommandHosts};
pub use config::Config;
pub use image_plugins::WithPlugins;
pub use kubernetes::KubernetesDocuments;
pub use mistake::{Mistake, Mistakes};
pub(crate) use validate::known_variables;

/// What one cluster shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clusterfile {
    /// Its name.
    pub name: ClusterName,
    /// The image its hosts run.
    pub image: ImageReference,
    /// Environment of the image's scripts on every host.
    pub env: BTreeMap<String, String>,
    /// The hosts, in the order of the file. At least one is a master.
    pub hosts: Vec<Host>,
    /// The cluster's own registry.
    pub registry: Registry,
    /// `docker` or `containerd`, if the file says.
    pub runtime: Option<String>,
    /// More lines for `/etc/hosts`.
    pub host_aliases: Vec<HostsEntry>,
    /// What it says about Kubernetes itself.
    pub kubernetes: KubernetesDocuments,
    /// What it says about files of the rootfs, in the order of the file.
    pub configs: Vec<Config>,
    /// Its own commands, in the order in which those of one moment run.
    pub commands: Vec<Command>,
    /// Names of its plugins, of whatever type.
    pub plugins: BTreeSet<String>,
    /// The plugin that wants the cluster's own pods ready before commands run, by name.
    pub cluster_check: Option<String>,
    /// Values of variables that the commands in the place of the image's, or the image's, name.
    pub command_arguments: BTreeMap<String, String>,
    /// What it says about the applications of the image.
    pub applications: Applications,
}

/// One host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its address, which is also its name.
    pub address: IpAddr,
    /// Master or node.
    pub role: Role,
    /// Environment over the cluster's.
    pub env: BTreeMap<String, String>,
    /// Labels and taints of its node.
    pub marks: NodeMarks,
    /// The name it is to have, if the file says.
    pub hostname: Option<String>,
}

/// What a host is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It runs the control plane.
    Master,
    /// It runs workloads.
    Node,
}

/// The cluster's own registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registry {
    /// Its name in image references.
    pub domain: String,
    /// Its port.
    pub port: u16,
    /// Who serves it, if the file says.
    pub mode: Option<RegistryMode>,
}

/// Who serves the cluster's registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegistryMode {
    /// Every agent, to its own host.
    Agent,
    /// The image's `init-registry.sh`, on the first master.
    Image,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            domain: "sea.hub".into(),
            port: 5000,
            mode: None,
        }
    }
}

impl Clusterfile {
    /// The first master: a registry of the image's own runs there, and the API server's name leads there.
    ///
    /// # Panics
    /// Never: reading refuses a file without a master.
    #[must_use]
    pub fn first_master(&self) -> &Host {
        self.hosts
            .iter()
            .find(|host| host.role == Role::Master)
            .expect("a Clusterfile has a master")
    }

    /// Reads the text of a Clusterfile; `file` is its name for messages. The second value is what to tell the
    /// operator about a file that is right.
    ///
    /// # Errors
    /// Every mistake of the file.
    pub fn parse(file: &str, text: &str) -> Result<(Self, Vec<String>), Mistakes> {
        let (documents, mut mistakes) = tree::parse(text);
        let readable = mistakes.is_empty() || !documents.is_empty();
        let meaning = if readable {
            validate::clusterfile(&documents, text, &mut mistakes)
        } else {
            None
        };
        match meaning {
            Some(meaning) if mistakes.is_empty() => Ok(meaning),
            _ => Err(Mistakes::new(file, text, mistakes)),
        }
    }
}

/// A Clusterfile as it lies on disk.
#[derive(Debug, Clone)]
pub struct Source {
    /// The path, for messages.
    pub file: String,
    /// The text.
    pub text: String,
}

impl Source {
    /// Reads `path`, which the flag `flag` names; `-` is standard input.
    ///
    /// # Errors
    /// When it cannot be read, is too long or is not text.
    pub fn read(path: &Path, flag: &str) -> anyhow::Result<Self> {
        let file = path.display().to_string();
        let mut bytes = Vec::new();
        let limit = tree::MAX_LEN as u64 + 1;
        if path.as_os_str() == "-" {
            std::io::stdin().lock().take(limit).read_to_end(&mut bytes)?;
        } else {
            let hint = format!("name the file with {flag}");
            let open = std::fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes));
            open.map_err(|error| anyhow::Error::new(error).context(format!("cannot read {file}")))
                .or_exit_hint(ExitCode::Input, hint)?;
        }
        if bytes.len() > tree::MAX_LEN {
            let message = format!("{file} is longer than {} KiB", tree::MAX_LEN >> 10);
            return Err(failure_hint(
                ExitCode::Input,
                message,
                "a Clusterfile lists hosts, not their data",
            ));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            failure(
                ExitCode::Input,
                format!("{file} is not UTF-8 text: byte {at} belongs to no character"),
            )
        })?;
        Ok(Self { file, text })
    }

    /// What it means. Mistakes are printed on standard error, and so is what to know about a file that is right.
    ///
    /// # Errors
    /// When the file has mistakes.
    pub fn clusterfile(&self) -> anyhow::Result<Clusterfile> {
        match Clusterfile::parse(&self.file, &self.text) {
            Ok((clusterfile, notes)) => {
                self.print(&notes);
                Ok(clusterfile)
            }
            Err(mistakes) => refused(mistakes),
        }
    }

    /// Prints what there is to know about the plugins of its image.
    ///
    /// # Errors
    /// When they have mistakes, which are printed, too.
    pub fn tell(&self, with_plugins: WithPlugins) -> anyhow::Result<()> {
        self.print(&with_plugins.notes);
        for mistakes in &with_plugins.mistakes {
            anstream::eprint!("{}", mistakes.render(true));
        }
        with_plugins.or_mistakes().map(drop)
    }

    fn print(&self, notes: &[String]) {
        let style = anstyle::Style::new().bold();
        for note in notes {
            anstream::eprintln!("{style}note:{style:#} {}: {note}", self.file);
        }
    }

    /// Says that documents which configure Kubernetes do nothing with `image`, where they do.
    pub fn tell_of_kubernetes(&self, clusterfile: &Clusterfile, image: &ImageReference) {
        let kinds: Vec<&str> = clusterfile.kubernetes.keys().map(|kind| kind.name()).collect();
        if !kinds.is_empty() {
            self.print(&[format!(
                "what it says in {} has no effect: image {image} does not bring kubeadm",
                kinds.join(", ")
            )]);
        }
    }

    /// The error that something is wrong with the image that it names, at the place where it does.
    #[must_use]
    pub fn refuse_image(&self, message: &str, help: &str) -> anyhow::Error {
        let documents = tree::parse(&self.text).0;
        let image = documents.iter().find_map(|document| {
            let is_cluster = document.get("kind").and_then(tree::Node::text) == Some("Cluster");
            document.get("spec").filter(|_| is_cluster)?.get("image")
        });
        let Some(image) = image else {
            return failure_hint(ExitCode::Input, message, help);
        };
        let mistake = Mistake::new(image.span.clone(), message).help(help);
        let refused: anyhow::Result<()> = refused(Mistakes::new(&self.file, &self.text, vec![mistake]));
        refused.expect_err("it is an error")
    }

    /// Holds what it, which means `clusterfile`, says about things of its image against the image. Mistakes are printed on standard error.
    ///
    /// # Errors
    /// When something does not fit.
    pub fn check_against(
        &self,
        clusterfile: &Clusterfile,
        offer: &image_check::Offer<'_>,
    ) -> anyhow::Result<()> {
        let mistakes = image_check::mistakes(&self.text, clusterfile, offer);
        if mistakes.is_empty() {
            return Ok(());
        }
        refused(Mistakes::new(&self.file, &self.text, mistakes))
    }
}

/// Prints `mistakes`, and ends the command.
fn refused<T>(mistakes: Mistakes) -> anyhow::Result<T> {
    anstream::eprint!("{}", mistakes.render(true));
    Err(mistakes).or_exit(ExitCode::Input)
}
