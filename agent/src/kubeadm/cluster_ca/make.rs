//! Makes another CA beside the one that signs, by kubeadm. Nothing uses it yet.

use std::fs;
use std::path::Path;

use gantry_model::{ClusterCa, ClusterName, Digest};
use gantry_system::files;
use jiff::Timestamp;

use super::authority::bundle;
use super::pki::make_private_folder;
use super::{ClusterCaError, Pki, io};
use crate::host::Host;
use crate::kubeadm::pass::{proved, run};
use crate::kubeadm::{ADMIN, PROGRAM, PassError};

/// Makes another CA of `cluster` on this host, one of its control planes, unless there is one.
///
/// # Errors
/// When this host is none, another CA signs than `replaces`, kubeadm fails, or what it made is not newer by this host's clock.
pub(crate) async fn make(
    host: &Host,
    cluster: &ClusterName,
    replaces: &Digest,
) -> Result<(), ClusterCaError> {
    if !Path::new(ADMIN).is_file() {
        let cluster = cluster.clone();
        return Err(PassError::NoControlPlane { cluster }.into());
    }
    let pki = Pki::here();
    let signing = pki.trusted()?.into_iter().next();
    let Some(signing) = signing.filter(|ca| ca.fingerprint == *replaces) else {
        return Err(ClusterCaError::Another);
    };
    if pki.next()?.is_some() {
        return Ok(());
    }
    let kubeadm = proved(host, cluster, PROGRAM).await?;
    let version = run(&kubeadm, &["version", "--output", "short"], "version").await?;
    let folder = pki.making_folder();
    // What a run that was cut off left there was never used.
    if folder.exists() {
        files::remove_tree(&folder).map_err(io("remove", &folder))?;
    }
    make_private_folder(&folder)?;
    let path = folder.to_string_lossy();
    let words = [
        "init",
        "phase",
        "certs",
        "ca",
        "--cert-dir",
        &path,
        "--kubernetes-version",
        version.trim(),
    ];
    run(&kubeadm, &words, "CA").await?;
    let read = |name: &str| {
        let path = folder.join(name);
        fs::read(&path).map_err(io("read", &path))
    };
    let (certificate, key) = (read("ca.crt")?, read("ca.key")?);
    let is_newer = check_newer(&String::from_utf8_lossy(&certificate), &signing);
    if is_newer.is_ok() {
        pki.put_next(&certificate, &key)?;
    }
    files::remove_tree(&folder).map_err(io("remove", &folder))?;
    is_newer?;
    tracing::info!(%cluster, "another CA of the cluster was made; nothing uses it yet");
    Ok(())
}

/// Refuses a CA that was made, PEM, and does not begin after the one that signs.
fn check_newer(made: &str, signing: &ClusterCa) -> Result<(), ClusterCaError> {
    let wrong = |reason: String| ClusterCaError::Certificate {
        what: "what kubeadm made".into(),
        reason,
    };
    let made = bundle(made).map_err(wrong)?.into_iter().next();
    let made = made.ok_or_else(|| wrong("it is no certificate".into()))?;
    if made.not_before > signing.not_before {
        return Ok(());
    }
    Err(ClusterCaError::NotNewer {
        made: time(made.not_before),
        signing: time(signing.not_before),
    })
}

/// A time of a certificate, in seconds since the epoch, for people.
fn time(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::authority::given;
    use super::super::authority::tests::ca;
    use super::*;

    #[test]
    fn a_ca_by_a_clock_that_is_behind_is_not_the_next_one() {
        let (one, other) = (ca(), ca());
        let mut signing = given(&[one]).unwrap().remove(0);
        let made = given(std::slice::from_ref(&other)).unwrap().remove(0);
        signing.not_before = made.not_before - 1;
        check_newer(&other, &signing).unwrap();
        for ahead in [0, 24 * 3600] {
            signing.not_before = made.not_before + ahead;
            let error = check_newer(&other, &signing).unwrap_err().to_string();
            let told = [time(made.not_before), time(signing.not_before)];
            assert!(told.iter().all(|time| error.contains(time)), "{error}");
            assert!(
                error.contains("nothing was changed") && error.contains("set the clock right"),
                "{error}"
            );
        }
        assert!(check_newer("", &signing).is_err());
    }
}
