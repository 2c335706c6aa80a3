//! Which identity is shown to agents: this orchestrator's own, or one that was made for somebody.

use std::path::Path;
use std::time::{Duration, SystemTime};

use gantry_model::ExitCode;
use gantry_system::files::FileLock;
use gantry_transport::{Authority, CERTIFICATE_LIFETIME, Identity, Role};

use super::{State, create_dir};
use crate::exit::{OrExit as _, failure_hint};

/// The name in this orchestrator's own certificate.
pub const OWN_NAME: &str = "orchestrator";
/// Its own certificate is made anew when it has less than this left.
const RENEW_BEFORE_END: Duration = Duration::from_secs(30 * 24 * 3600);

impl State {
    /// This orchestrator's own identity, which trusts what the CA says today; made now if there is none.
    ///
    /// # Errors
    /// When there is no CA here, or files cannot be read or written.
    pub fn own_identity(&self) -> anyhow::Result<Identity> {
        let authority = self.authority().map_err(|_| {
            failure_hint(
                ExitCode::Input,
                "no host was enrolled from here, so there is no identity to show to agents",
                "enrol hosts with `gantry token create` and `gantry enroll HOST…`, or name an identity with --identity",
            )
        })?;
        self.identity_from(&authority)
    }

    /// Like [`State::own_identity`], from an open CA.
    ///
    /// # Errors
    /// When files cannot be read or written.
    pub fn identity_from(&self, authority: &Authority) -> anyhow::Result<Identity> {
        self.identity_that_ends_after(authority, SystemTime::now() + RENEW_BEFORE_END)
    }

    /// Makes this orchestrator's own identity anew, if there is a CA here.
    ///
    /// # Errors
    /// When files cannot be read or written.
    pub fn renew_own_identity(&self) -> anyhow::Result<()> {
        let Ok(authority) = self.authority() else {
            return Ok(());
        };
        let never = SystemTime::now() + CERTIFICATE_LIFETIME;
        self.identity_that_ends_after(&authority, never).map(drop)
    }

    fn identity_that_ends_after(
        &self,
        authority: &Authority,
        renew_at: SystemTime,
    ) -> anyhow::Result<Identity> {
        let dir = self.dir.join("operators").join("self");
        // One that cannot be read is made anew, like one that is not there: the CA is here.
        let present = Identity::load(&dir).ok();
        let ca = authority.name().or_exit(ExitCode::Failed)?;
        let identity = match present {
            Some(identity) if identity.not_after() > renew_at && identity.ca() == ca => identity,
            other => {
                create_dir(&dir)?;
                // The key stays: two commands that do so at once write certificates of the same key.
                let made = match other {
                    Some(identity) => authority.renew(&identity),
                    None => authority.issue_operator(OWN_NAME, Role::Operator),
                };
                let identity = made.or_exit(ExitCode::Failed)?;
                identity.save(&dir).or_exit(ExitCode::Failed)?;
                identity
            }
        };
        let fresh = authority.refresh(&identity).or_exit(ExitCode::Failed)?;
        if fresh.trust().to_pem() != identity.trust().to_pem() {
            fresh.save(&dir).or_exit(ExitCode::Failed)?;
        }
        Ok(fresh)
    }
}

/// The identity in `dir`, as `gantry operator add` made it.
///
/// # Errors
/// When it cannot be read.
pub(super) fn load(dir: &Path) -> anyhow::Result<Identity> {
    Identity::load(dir).or_exit_hint(
        ExitCode::Input,
        "`gantry operator add NAME -o DIR` makes such a folder",
    )
}

impl State {
    /// The right to replace the CA, or to revoke what it signed, held until it is dropped.
    ///
    /// # Errors
    /// When another command has it: exit code 8.
    pub fn lock_rotation(&self) -> anyhow::Result<FileLock> {
        let path = self.dir.join("rotation.lock");
        let lock = FileLock::try_exclusive(&path).or_exit(ExitCode::Failed)?;
        lock.ok_or_else(|| {
            failure_hint(
                ExitCode::Locked,
                "another command that replaces the CA, or revokes certificates, runs here",
                "wait until it ends",
            )
        })
    }

    /// The identity to show: the one in `dir` if it is given, else this orchestrator's own.
    ///
    /// # Errors
    /// When it cannot be read or made.
    pub fn identity(&self, dir: Option<&Path>) -> anyhow::Result<Identity> {
        dir.map_or_else(|| self.own_identity(), load)
    }
}
