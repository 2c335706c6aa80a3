//! `gantry kubeconfig`: the administrator's access to a cluster, from one of its control planes.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::ValueHint;
use gantry_model::{ClusterName, ExitCode};

use super::connect::{self, ConnectArgs};
use super::output_file;
use super::which::WhichArgs;
use crate::context::Context;
use crate::exit::failure_hint;
use crate::output::print;
use crate::plan::planner::{API_SERVER, API_SERVER_PORT};
use crate::session::{AgentSession as _, SessionError, Sessions};

/// Flags of `gantry kubeconfig`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write it to FILE, which only its owner may read, instead of printing it; - prints it
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    output: Option<PathBuf>,

    #[command(flatten)]
    which: WhichArgs,

    #[command(flatten)]
    connect: ConnectArgs,
}

/// Prints or writes the cluster's kubeconfig, with the address of the control plane that gave it.
///
/// # Errors
/// When no host of the cluster gives it, or it cannot be written.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let file = args.output.as_deref();
    let file = file.filter(|file| !output_file::is_standard_output(file));
    if let Some(file) = file {
        output_file::folder(file)?;
    }
    let which = args.which.need(context)?;
    let dialer = connect::dialer(context, &args.connect)?;
    let found = connect::block_on(
        async {
            let found = first(&dialer, &which.cluster, &which.hosts).await;
            dialer.close().await;
            Ok(found)
        },
        "nothing was changed",
    )?;
    let (host, kubeconfig) = found.map_err(|errors| {
        let said: Vec<_> = errors
            .iter()
            .map(|(host, error)| (*host, error.exit_code()))
            .collect();
        let (code, hint) = connect::none_answered(&which.masters, &said).unwrap_or((
            ExitCode::Failed,
            "a cluster has one once `gantry apply` has run kubeadm on its first master",
        ));
        let mut message = format!("no host of cluster {} gave its kubeconfig:", which.cluster);
        for (host, error) in &errors {
            message.push_str(&format!("\n  {host}: {}", error.without_address(*host)));
        }
        failure_hint(code, message, hint)
    })?;
    let text = reachable(&kubeconfig, host);
    match file {
        None => print(&text)?,
        Some(file) => {
            output_file::write(file, text.as_bytes(), 0o600)?;
            anstream::eprintln!(
                "Written to {}; try `kubectl --kubeconfig {0} get nodes`.",
                file.display()
            );
        }
    }
    Ok(ExitCode::Done)
}

/// The first host that gives it, or why each did not.
async fn first<S: Sessions>(
    sessions: &S,
    cluster: &ClusterName,
    hosts: &[IpAddr],
) -> Result<(IpAddr, String), Vec<(IpAddr, SessionError)>> {
    let mut errors = Vec::new();
    for &host in hosts {
        let asked: Result<String, SessionError> = async {
            let session = sessions.session(host).await?;
            session.kubeconfig(cluster).await
        }
        .await;
        match asked {
            Ok(kubeconfig) => return Ok((host, kubeconfig)),
            Err(error) => errors.push((host, error)),
        }
    }
    Err(errors)
}

/// The same kubeconfig for people who do not find the API server by the name that the cluster's hosts have for it. Its
/// certificate names the address as well.
fn reachable(kubeconfig: &str, host: IpAddr) -> String {
    let by_name = format!("https://{API_SERVER}:{API_SERVER_PORT}");
    let by_address = format!("https://{}", SocketAddr::new(host, API_SERVER_PORT));
    kubeconfig.replace(&by_name, &by_address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_server_is_found_from_outside() {
        let inside = "    server: https://apiserver.cluster.local:6443\n";
        let outside = |host: &str| reachable(inside, host.parse().unwrap());
        assert_eq!(outside("10.0.0.2"), "    server: https://10.0.0.2:6443\n");
        assert_eq!(outside("fd00::2"), "    server: https://[fd00::2]:6443\n");
    }
}
