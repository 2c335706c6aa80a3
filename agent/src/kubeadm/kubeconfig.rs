//! The administrator's access to a cluster, as it lies on its control planes.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use gantry_model::ClusterName;
use gantry_protocol::limits::MAX_KUBECONFIG_LEN;

use super::{ADMIN, PassError};
use crate::host::Host;

/// The kubeconfig of `cluster`'s administrator.
///
/// # Errors
/// When this host is no control plane of that cluster, or the file cannot be read.
pub(crate) fn kubeconfig(host: &Host, cluster: &ClusterName) -> Result<String, PassError> {
    // Another cluster's would be another cluster's.
    let ours = host.rootfs.path(cluster).is_ok();
    let file = match File::open(ADMIN) {
        Ok(file) if ours => file,
        Err(source) if ours && source.kind() != io::ErrorKind::NotFound => return Err(failed(source)),
        _ => {
            return Err(PassError::NoControlPlane {
                cluster: cluster.clone(),
            });
        }
    };
    let mut text = String::new();
    file.take(MAX_KUBECONFIG_LEN)
        .read_to_string(&mut text)
        .map_err(failed)?;
    Ok(text)
}

fn failed(source: io::Error) -> PassError {
    PassError::Io {
        action: "read",
        path: Path::new(ADMIN).to_owned(),
        source,
    }
}
