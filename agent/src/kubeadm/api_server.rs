//! Stops the API server of this host, a control plane, and starts it again: by taking its manifest away from kubelet and
//! giving it back. Nobody changes the cluster meanwhile.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use gantry_model::ClusterName;
use gantry_system::files;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::kubelet::{self, KubeletError};
use crate::etcd::KeepError;
use crate::host::Host;

/// What kubelet runs it by.
const MANIFEST: &str = "/etc/kubernetes/manifests/kube-apiserver.yaml";
/// Its mode, as kubeadm makes it.
const MANIFEST_MODE: u32 = 0o600;
/// The flag that names its port, and its port without that flag.
const PORT_FLAG: &str = "--secure-port=";
const PORT: u16 = 6443;
/// How long it may take to end: kubelet gives it 30 s, and looks at its manifests every 20 s.
const STOP_LIMIT: Duration = Duration::from_secs(180);
/// How long kubelet is given to start it by itself.
const SOON: Duration = Duration::from_secs(90);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why the API server does not stop or start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiServerError {
    /// There is none.
    #[error("this host runs no API server: there is no {MANIFEST}")]
    None,
    /// The disk fails.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// There is no place for its manifest.
    #[error(transparent)]
    Keep(#[from] KeepError),
    /// It goes on.
    #[error("the API server still answers {limit} s after its manifest was taken away; `journalctl -u kubelet` says more", limit = STOP_LIMIT.as_secs())]
    Runs,
    /// It does not come back.
    #[error(transparent)]
    NotUp(#[from] KubeletError),
}

/// Stops the API server and waits until it has ended.
///
/// # Errors
/// When there is none, or it does not end.
pub(crate) async fn stop(host: &Host, cluster: &ClusterName) -> Result<(), ApiServerError> {
    let stopped = host.etcd_snapshots.stopped_api_server(cluster)?;
    take_away(Path::new(MANIFEST), &stopped)?;
    let text = fs::read_to_string(&stopped).map_err(failed("read", &stopped))?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port(&text)));
    let deadline = Instant::now() + STOP_LIMIT;
    let is_refused = |tried: Result<io::Result<TcpStream>, _>| matches!(tried, Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused);
    while !is_refused(timeout(LOOK_EVERY, TcpStream::connect(address)).await) {
        if Instant::now() >= deadline {
            return Err(ApiServerError::Runs);
        }
        sleep(LOOK_EVERY).await;
    }
    tracing::info!(%cluster, "API server stopped");
    Ok(())
}

/// Starts the API server, if it was stopped, and then kubelet anew: it registers its node again, in case that is not known any
/// more. A kubelet that starts while nobody answers it needs minutes to tell of the pods it runs. Waits until both serve.
///
/// # Errors
/// When it does not come back.
pub(crate) async fn start(host: &Host, cluster: &ClusterName) -> Result<(), ApiServerError> {
    let stopped = host.etcd_snapshots.stopped_api_server(cluster)?;
    give_back(Path::new(MANIFEST), &stopped)?;
    if let Err(error) = kubelet::wait_until_up(host, cluster, SOON).await {
        tracing::info!(%cluster, "kubelet is started anew although {error}");
    }
    kubelet::restart(host, cluster).await?;
    // The restore is over here; until now it might have been begun anew.
    Ok(host.etcd_snapshots.keep_newest(cluster)?)
}

/// Moves the manifest; both may be there when this was cut off.
fn take_away(manifest: &Path, stopped: &Path) -> Result<(), ApiServerError> {
    match fs::read(manifest) {
        Ok(text) => {
            files::write_atomically(stopped, &text, MANIFEST_MODE).map_err(failed("write", stopped))?;
            fs::remove_file(manifest).map_err(failed("remove", manifest))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if stopped.is_file() {
                Ok(())
            } else {
                Err(ApiServerError::None)
            }
        }
        Err(error) => Err(failed("read", manifest)(error)),
    }
}

/// Moves it back, unless kubeadm has made another one.
fn give_back(manifest: &Path, stopped: &Path) -> Result<(), ApiServerError> {
    let text = match fs::read(stopped) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("read", stopped)(error)),
    };
    if !manifest.exists() {
        files::write_atomically(manifest, &text, MANIFEST_MODE).map_err(failed("write", manifest))?;
    }
    fs::remove_file(stopped).map_err(failed("remove", stopped))
}

fn port(manifest: &str) -> u16 {
    let flag = manifest.lines().find_map(|line| line.split_once(PORT_FLAG));
    flag.and_then(|(_, port)| port.trim_end_matches(['"', '\'']).trim().parse().ok())
        .unwrap_or(PORT)
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ApiServerError {
    let path = path.to_owned();
    move |source| ApiServerError::Io { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_goes_and_comes_back_however_often_it_is_tried() {
        let folder = tempfile::tempdir().unwrap();
        let (manifest, stopped) = (
            folder.path().join("kube-apiserver.yaml"),
            folder.path().join("stopped"),
        );
        assert!(matches!(
            take_away(&manifest, &stopped),
            Err(ApiServerError::None)
        ));
        give_back(&manifest, &stopped).unwrap();
        fs::write(&manifest, "first").unwrap();
        take_away(&manifest, &stopped).unwrap();
        take_away(&manifest, &stopped).unwrap();
        assert!(!manifest.exists());
        give_back(&manifest, &stopped).unwrap();
        give_back(&manifest, &stopped).unwrap();
        assert_eq!(fs::read_to_string(&manifest).unwrap(), "first");

        take_away(&manifest, &stopped).unwrap();
        fs::write(&manifest, "kubeadm's").unwrap();
        give_back(&manifest, &stopped).unwrap();
        assert_eq!(fs::read_to_string(&manifest).unwrap(), "kubeadm's");
        assert!(!stopped.exists());
    }

    #[test]
    fn its_port_is_the_one_in_its_manifest() {
        assert_eq!(port("    - --secure-port=7443\n    - --v=2\n"), 7443);
        assert_eq!(port("    - \"--secure-port=7443\"\n"), 7443);
        assert_eq!(port("    - --v=2\n"), 6443);
    }
}
