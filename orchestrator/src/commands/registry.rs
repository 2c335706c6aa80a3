//! What commands that talk to registries have in common: their flags, a client, and what an error means.

use std::path::PathBuf;
use std::sync::Arc;

use clap::ValueHint;
use gantry_registry_client::{Credentials, Places, RegistryClient, RegistryError, RetryPolicy, Settings};

use crate::exit::OrExit as _;
use crate::report::transfers::Transfers;

/// How registries are reached.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Registry options")]
pub struct RegistryArgs {
    /// Accept any certificate of the registry that the name says, and plain HTTP; of others, registries.conf says it
    #[arg(long, alias = "skip-tls-verify")]
    insecure: bool,

    /// The other way to say it, as skopeo and podman have it
    #[arg(long, hide = true, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    tls_verify: Option<bool>,

    /// File of logins [default: those of podman and docker, $REGISTRY_AUTH_FILE]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    authfile: Option<PathBuf>,

    /// Folder of the registry's certificates: *.crt are authorities, *.cert with *.key who we are
    /// [default: HOST[:PORT] below /etc/containers/certs.d and /etc/docker/certs.d]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    cert_dir: Option<PathBuf>,

    /// How often to try again what failed on the network
    #[arg(long, value_name = "N", default_value_t = RetryPolicy::default().retries)]
    retries: u32,
}

impl RegistryArgs {
    /// A client as the flags have it; `transfers` shows what it does. Given `credentials` go before all files.
    ///
    /// # Errors
    /// When a `registries.conf` is not valid.
    pub fn client(
        &self,
        credentials: Option<Credentials>,
        transfers: &Arc<Transfers>,
    ) -> anyhow::Result<RegistryClient> {
        let settings = Settings {
            insecure: self.is_insecure(),
            credentials,
            ..self.settings()
        };
        client(settings, transfers)
    }

    /// Whether the command line says that registries need no certificate.
    pub(super) fn is_insecure(&self) -> bool {
        self.insecure || self.tls_verify == Some(false)
    }

    /// What the flags say, but for which registries it is that need no certificate.
    pub(super) fn settings(&self) -> Settings {
        let mut places = Places::from_environment();
        if let Some(file) = &self.authfile {
            places.auth_file = Some(file.clone());
        }
        Settings {
            places,
            certificates: self.cert_dir.clone(),
            retry: RetryPolicy {
                retries: self.retries,
                ..RetryPolicy::default()
            },
            ..Settings::default()
        }
    }
}

/// A client with these settings; `transfers` shows what it does.
///
/// # Errors
/// When a `registries.conf` is not valid.
pub(super) fn client(settings: Settings, transfers: &Arc<Transfers>) -> anyhow::Result<RegistryClient> {
    let transfers = transfers.clone();
    RegistryClient::new(settings, Arc::new(move |event| transfers.event(event))).map_err(registry_error)
}

/// A registry's error with its exit code.
pub(super) fn registry_error(error: RegistryError) -> anyhow::Error {
    let code = error.exit_code();
    Err::<(), _>(error).or_exit(code).expect_err("it is an error")
}
