//! Which cluster a command is about, and where its hosts are.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::ValueHint;
use gantry_model::{ClusterName, Digest, ExitCode, StepAction};

use crate::clusterfile::{Role, Source};
use crate::context::Context;
use crate::exit::failure_hint;
use crate::plan::Place;
use crate::state::{State, known_clusters};

/// Which cluster.
#[derive(Debug, Clone, clap::Args)]
pub struct WhichArgs {
    /// Name of the cluster [default: the only one that was applied from here]
    #[arg(short, long, value_name = "NAME")]
    cluster: Option<ClusterName>,

    /// Clusterfile of the cluster, when it was not applied from here
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "cluster")]
    clusterfile: Option<PathBuf>,

    /// The flag that names the Clusterfile.
    #[arg(skip = CLUSTERFILE)]
    flag: &'static str,
}

/// The flag that names a Clusterfile.
const CLUSTERFILE: &str = "--clusterfile";

impl WhichArgs {
    /// What these flags would be for a command whose `flag` names the Clusterfile.
    pub(super) const fn new(
        cluster: Option<ClusterName>,
        clusterfile: Option<PathBuf>,
        flag: &'static str,
    ) -> Self {
        Self {
            cluster,
            clusterfile,
            flag,
        }
    }
}

/// A cluster and its hosts.
#[derive(Debug, Clone)]
pub struct Which {
    /// Its name.
    pub cluster: ClusterName,
    /// Addresses of its hosts.
    pub hosts: Vec<IpAddr>,
    /// Those that are to be control planes.
    pub masters: Vec<IpAddr>,
    /// The image it was given last, by digest, and its layers; none when it was not applied from here.
    pub image: Option<(String, Vec<Digest>)>,
}

impl Which {
    /// Adds the hosts that were in the cluster when it was applied from here last, and that a Clusterfile leaves out: they are members
    /// until an apply has taken them out. Gives them back.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub(super) fn add_applied(&mut self, state: &State) -> anyhow::Result<Vec<IpAddr>> {
        if !known_clusters(state)?.contains(&self.cluster) {
            return Ok(Vec::new());
        }
        let plan = state.cluster(&self.cluster).plan()?;
        let applied = plan.hosts.iter().filter(|host| host.place != Place::GivenUp);
        let mut added = Vec::new();
        for host in applied.filter(|host| !self.hosts.contains(&host.address)) {
            added.push(host.address);
            if host.etcd {
                self.masters.push(host.address);
            }
        }
        self.hosts.extend(&added);
        Ok(added)
    }
}

impl WhichArgs {
    /// The cluster these flags name.
    ///
    /// # Errors
    /// As [`WhichArgs::find`], and when they name none and none was applied from here.
    pub fn need(&self, context: &Context) -> anyhow::Result<Which> {
        self.find(context)?
            .ok_or_else(|| failure_hint(ExitCode::Input, "no cluster was applied from here", self.hint()))
    }

    fn hint(&self) -> String {
        format!("name its Clusterfile with {}", self.flag)
    }

    /// The cluster these flags name; none when they name none and none was applied from here.
    ///
    /// # Errors
    /// When there are several and none is named, or what is named cannot be read.
    pub fn find(&self, context: &Context) -> anyhow::Result<Option<Which>> {
        if let Some(file) = &self.clusterfile {
            let clusterfile = Source::read(file, self.flag)?.clusterfile()?;
            let hosts = clusterfile.hosts.iter().map(|host| host.address).collect();
            let masters = clusterfile.hosts.iter().filter(|host| host.role == Role::Master);
            let masters = masters.map(|host| host.address).collect();
            return Ok(Some(Which {
                cluster: clusterfile.name,
                hosts,
                masters,
                image: None,
            }));
        }
        let state = State::new(context.root());
        let cluster = match &self.cluster {
            Some(cluster) if known_clusters(&state)?.contains(cluster) => cluster.clone(),
            Some(unknown) => {
                let message = format!("cluster {unknown} was never applied from here");
                return Err(failure_hint(ExitCode::Input, message, self.hint()));
            }
            None => match known_clusters(&state)?.as_slice() {
                [] => return Ok(None),
                [only] => only.clone(),
                several => {
                    let names: Vec<&str> = several.iter().map(ClusterName::as_str).collect();
                    let message = format!(
                        "which cluster? These were applied from here: {}",
                        names.join(", ")
                    );
                    return Err(failure_hint(ExitCode::Input, message, "name one with -c"));
                }
            },
        };
        let plan = state.cluster(&cluster).plan()?;
        let layers = plan.steps().find_map(|step| match &step.step.action {
            StepAction::Stage { layers, .. } => Some(layers.iter().map(|layer| layer.digest).collect()),
            _ => None,
        });
        let image = plan
            .image
            .as_ref()
            .map(|image| image.reference.to_string())
            .zip(layers);
        let hosts = plan.hosts.iter().filter(|host| host.place != Place::GivenUp);
        let masters = hosts.clone().filter(|host| host.etcd);
        let masters = masters.map(|host| host.address).collect();
        let hosts = hosts.map(|host| host.address).collect();
        Ok(Some(Which {
            cluster,
            hosts,
            masters,
            image,
        }))
    }
}
