//! Lets another CA sign on this host, a control plane, and makes every certificate of the control plane anew by it.

use std::path::Path;

use gantry_model::{ClusterName, Digest, JoinPass, kubeadm_api_version};
use gantry_system::files;

use super::{ClusterCaError, Pki, io};
use crate::host::Host;
use crate::kubeadm::pass::{proved, run};
use crate::kubeadm::{ADMIN, PROGRAM, PassError, renew};

/// Where a control plane finds an API server: its own (kubeadm, "JoinConfiguration").
const SERVER: &str = "server:";

/// Lets the CA with fingerprint `ca` sign. Its key was made here; or it comes, as to a control plane that joins, by way of
/// the cluster with `pass`.
///
/// # Errors
/// When its key is not here, kubeadm fails, or the control plane does not come back.
pub(crate) async fn sign(
    host: &Host,
    cluster: &ClusterName,
    ca: &Digest,
    pass: Option<&JoinPass>,
) -> Result<(), ClusterCaError> {
    if !Path::new(ADMIN).is_file() {
        let cluster = cluster.clone();
        return Err(PassError::NoControlPlane { cluster }.into());
    }
    let pki = Pki::here();
    match pass {
        Some(pass) => fetch(host, cluster, pass).await?,
        None => pki.take_up_next(ca)?,
    }
    let trusted = pki.trusted()?;
    let Some(signing) = trusted.first().filter(|first| first.fingerprint == *ca) else {
        return Err(ClusterCaError::NoKey(*ca));
    };
    pki.part_signing(signing)?;
    renew(host, cluster).await?;
    pki.forget_next()
}

/// Fetches what control planes have in common, the CA's key among it, out of the cluster.
async fn fetch(host: &Host, cluster: &ClusterName, pass: &JoinPass) -> Result<(), ClusterCaError> {
    let kubeadm = proved(host, cluster, PROGRAM)?;
    let version = run(&kubeadm, &["version", "--output", "short"], "version").await?;
    let admin = std::fs::read_to_string(ADMIN).map_err(io("read", Path::new(ADMIN)))?;
    let endpoint = endpoint(&admin).ok_or_else(|| ClusterCaError::Unknown {
        path: ADMIN.into(),
        what: "it names no API server",
    })?;
    let folder = tempfile::tempdir().map_err(io("make", Path::new("a temporary folder")))?;
    let file = folder.path().join("kubeadm.yaml");
    let config = config(version.trim(), endpoint, pass);
    files::write_atomically(&file, config.as_bytes(), 0o600).map_err(io("write", &file))?;
    let file = file.to_string_lossy();
    let words = [
        "join",
        "phase",
        "control-plane-prepare",
        "download-certs",
        "--config",
        &file,
    ];
    run(&kubeadm, &words, "download of certificates").await?;
    Ok(())
}

/// What kubeadm is told, in the form that `version` reads.
fn config(version: &str, endpoint: &str, pass: &JoinPass) -> String {
    let api = kubeadm_api_version(version);
    let key = pass.certificate_key.as_deref().unwrap_or_default();
    format!(
        "apiVersion: {api}\nkind: JoinConfiguration\ndiscovery:\n  bootstrapToken:\n    apiServerEndpoint: \"{endpoint}\"\n    \
         token: \"{}\"\n    caCertHashes: [\"{}\"]\ncontrolPlane:\n  certificateKey: \"{key}\"\n",
        pass.token, pass.ca_hash
    )
}

/// Host and port of the API server in a kubeconfig.
fn endpoint(kubeconfig: &str) -> Option<&str> {
    let server = kubeconfig
        .lines()
        .find_map(|line| line.trim().strip_prefix(SERVER))?;
    let endpoint = server.trim().strip_prefix("https://")?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b':' | b'[' | b']');
    endpoint.bytes().all(plain).then_some(endpoint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_plane_asks_its_own_api_server() {
        let admin =
            "clusters:\n- cluster:\n    server: https://apiserver.cluster.local:6443\n  name: kubernetes\n";
        assert_eq!(endpoint(admin), Some("apiserver.cluster.local:6443"));
        assert_eq!(endpoint("server: https://a\"b"), None);
        let pass = JoinPass {
            token: "abcdef.0123456789abcdef".into(),
            ca_hash: "sha256:00".into(),
            certificate_key: Some("ff".into()),
        };
        let text = config("v1.20.2", "a:6443", &pass);
        assert!(
            text.starts_with("apiVersion: kubeadm.k8s.io/v1beta2\nkind: JoinConfiguration\n"),
            "{text}"
        );
        assert!(
            text.ends_with("controlPlane:\n  certificateKey: \"ff\"\n"),
            "{text}"
        );
    }
}
