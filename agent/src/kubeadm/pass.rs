//! Passes for hosts that join: made on a control plane, by kubeadm itself.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use gantry_model::{ClusterName, Digest, JoinPass};
use gantry_system::files;
use gantry_system::processes::{self, ProcessError};
use tokio::process::Command;
use x509_parser::pem::Pem;

use super::{ADMIN, PROGRAM, wait_for_api_server};
use crate::facts::PATH;
use crate::host::Host;
use crate::rootfs::RootfsError;
use crate::scripts::ProofError;

/// The cluster's certificate authority on a control plane.
const CA: &str = "/etc/kubernetes/pki/ca.crt";
/// How long a token is good for: a host that joins needs minutes.
const TTL: &str = "1h0m0s";
/// How long kubeadm may take for a token or for uploading certificates.
const KUBEADM_LIMIT: Duration = Duration::from_secs(120);
/// What bootstrap tokens are made of (kubernetes.io: `[a-z0-9]{6}\.[a-z0-9]{16}`), 32 signs so that five bits choose
/// one without a bias.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// Why there is no pass.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PassError {
    /// This host has no cluster to let anybody into.
    #[error("this host is no control plane of cluster {cluster}: there is no {ADMIN}")]
    NoControlPlane {
        /// The cluster.
        cluster: ClusterName,
    },
    /// The rootfs with kubeadm is not there.
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    /// kubeadm is not the image's.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// kubeadm failed.
    #[error("kubeadm makes no {what}: {source}")]
    Kubeadm {
        /// What it should make.
        what: &'static str,
        /// What it said.
        source: ProcessError,
    },
    /// The control plane does not serve with its new certificates.
    #[error(
        "the control plane of this host was to start anew and does not serve: {reason}; `journalctl -u kubelet` says more"
    )]
    NotUp {
        /// What it waits for.
        reason: String,
    },
    /// Its kubeconfigs cannot be made to trust the cluster's CAs.
    #[error(transparent)]
    Cas(Box<super::cluster_ca::ClusterCaError>),
    /// The cluster's CA certificate is no certificate.
    #[error("{CA} is no certificate: {0}")]
    Ca(String),
    /// A file cannot be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

/// Makes a pass into `cluster`, for one more control plane or for a worker.
///
/// # Errors
/// When this host is no control plane of the cluster, or its API server does not answer.
pub(crate) async fn issue(
    host: &Host,
    cluster: &ClusterName,
    control_plane: bool,
) -> Result<JoinPass, PassError> {
    if !Path::new(ADMIN).is_file() {
        return Err(PassError::NoControlPlane {
            cluster: cluster.clone(),
        });
    }
    let kubeadm = proved(host, cluster, PROGRAM).await?;
    wait_for_api_server(host, cluster).await;

    let token = format!("{}.{}", random(6)?, random(16)?);
    let certificate_key = control_plane.then(random_key).transpose()?;
    // Its own version is the one it need not ask the network for.
    let version = run(&kubeadm, &["version", "--output", "short"], "version").await?;
    let config = config(version.trim(), &token, certificate_key.as_deref());
    let folder = tempfile::tempdir().map_err(io("make", Path::new("a temporary folder")))?;
    let file = folder.path().join("kubeadm.yaml");
    files::write_atomically(&file, config.as_bytes(), 0o600).map_err(io("write", &file))?;
    let file = file.to_string_lossy();

    let words = ["token", "create", "--config", &file, "--kubeconfig", ADMIN];
    run(&kubeadm, &words, "token").await?;
    if control_plane {
        let words = [
            "init",
            "phase",
            "upload-certs",
            "--upload-certs",
            "--skip-certificate-key-print",
            "--config",
            &file,
        ];
        run(&kubeadm, &words, "upload of certificates").await?;
    }
    Ok(JoinPass {
        token,
        ca_hash: ca_hash(&fs::read(CA).map_err(io("read", Path::new(CA)))?)?,
        certificate_key,
    })
}

/// A program of the cluster's rootfs, which is the image's.
///
/// # Errors
/// When it is not.
pub(super) async fn proved(host: &Host, cluster: &ClusterName, program: &str) -> Result<PathBuf, PassError> {
    let rootfs = host.rootfs.path(cluster)?;
    let layers = host
        .rootfs
        .current_generation(cluster)?
        .map(|generation| generation.layers);
    host.scripts
        .prove(&host.store, &layers.unwrap_or_default(), &rootfs, program)
        .await?;
    Ok(rootfs.join(program))
}

pub(super) async fn run(kubeadm: &Path, words: &[&str], what: &'static str) -> Result<String, PassError> {
    let mut command = Command::new(kubeadm);
    command.args(words).env("PATH", PATH).env("KUBECONFIG", ADMIN);
    let output = processes::run_successfully(&mut command, KUBEADM_LIMIT)
        .await
        .map_err(|source| PassError::Kubeadm { what, source })?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What kubeadm is told, in the form that `version` reads.
fn config(version: &str, token: &str, certificate_key: Option<&str>) -> String {
    let api = gantry_model::kubeadm_api_version(version);
    let key = certificate_key.map_or_else(String::new, |key| format!("certificateKey: \"{key}\"\n"));
    format!(
        "apiVersion: {api}\nkind: InitConfiguration\n{key}bootstrapTokens:\n- token: \"{token}\"\n  ttl: {TTL}\n  \
         usages: [signing, authentication]\n  groups: [\"system:bootstrappers:kubeadm:default-node-token\"]\n  \
         description: made by gantry-agent for hosts that join\n---\n\
         apiVersion: {api}\nkind: ClusterConfiguration\nkubernetesVersion: {version}\n"
    )
}

/// The digest that a joining host compares the CA's public key with (RFC 7469, section 2.4).
fn ca_hash(pem: &[u8]) -> Result<String, PassError> {
    let wrong = |error: &dyn std::fmt::Display| PassError::Ca(error.to_string());
    let pem = Pem::iter_from_buffer(pem)
        .next()
        .ok_or_else(|| wrong(&"there is no PEM block in it"))?
        .map_err(|error| wrong(&error))?;
    let certificate = pem.parse_x509().map_err(|error| wrong(&error))?;
    Ok(format!(
        "sha256:{}",
        Digest::of(certificate.public_key().raw).hex()
    ))
}

fn random(signs: usize) -> Result<String, PassError> {
    let bytes = random_bytes(signs)?;
    Ok(bytes
        .iter()
        .map(|byte| char::from(ALPHABET[usize::from(byte % 32)]))
        .collect())
}

/// An AES-256 key, as `kubeadm init phase upload-certs` takes it.
fn random_key() -> Result<String, PassError> {
    let bytes = random_bytes(32)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn random_bytes(count: usize) -> Result<Vec<u8>, PassError> {
    const SOURCE: &str = "/dev/urandom";
    let mut bytes = vec![0; count];
    fs::File::open(SOURCE)
        .and_then(|mut source| source.read_exact(&mut bytes))
        .map_err(io("read", Path::new(SOURCE)))?;
    Ok(bytes)
}

pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PassError {
    move |source| PassError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_and_keys_are_what_kubeadm_takes() {
        let token = format!("{}.{}", random(6).unwrap(), random(16).unwrap());
        let (id, secret) = token.split_once('.').unwrap();
        assert_eq!((id.len(), secret.len()), (6, 16));
        assert!(
            id.bytes()
                .chain(secret.bytes())
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        );
        assert_eq!(random_key().unwrap().len(), 64);
        assert_ne!(random_key().unwrap(), random_key().unwrap());
    }

    #[test]
    fn the_cas_digest_is_the_one_openssl_computes() {
        // openssl x509 -pubkey -in ca.crt | openssl pkey -pubin -outform der | sha256sum
        let pem = include_bytes!("test-ca.crt");
        let hash = include_str!("test-ca.sha256").trim();
        assert_eq!(ca_hash(pem).unwrap(), format!("sha256:{hash}"));
        assert!(matches!(ca_hash(b"hello"), Err(PassError::Ca(_))));
    }

    #[test]
    fn without_a_key_nothing_is_said_about_one() {
        let text = config("v1.20.2", "abcdef.0123456789abcdef", None);
        assert!(
            text.starts_with(
                "apiVersion: kubeadm.k8s.io/v1beta2\nkind: InitConfiguration\nbootstrapTokens:\n"
            )
        );
        assert!(
            config("v1.28.0", "a.b", Some("00"))
                .contains("v1beta3\nkind: InitConfiguration\ncertificateKey: \"00\"\n")
        );
    }
}
