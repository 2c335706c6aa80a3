//! Gets kubelet of this host another client certificate in the way it gets its own: by a signing request that its present
//! one is good for (kubernetes.io, "TLS bootstrapping").

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use gantry_model::{ClusterCa, ClusterName, Digest};
use gantry_system::{clock, files};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, UnixTime};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use webpki::{EndEntityCert, KeyUsage};

use super::kubelet_api::{KUBELET_CONFIG, KubeletApi};
use super::{ClusterCaError, Pki, io};
use crate::host::Host;
use crate::kubeadm::kubelet;

/// Where kubelet keeps its own certificates.
const FOLDER: &str = "/var/lib/kubelet/pki";
/// The one that it uses: a link to a file beside it, with certificate and key.
const CURRENT: &str = "/var/lib/kubelet/pki/kubelet-client-current.pem";
/// What nodes are as subjects of certificates (kubernetes.io, "Using Node Authorization").
const NODE_GROUP: &str = "system:nodes";
const NODE_PREFIX: &str = "system:node:";
/// Who signs for nodes.
const SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";
/// How long the cluster may take to sign.
const SIGN_LIMIT: Duration = Duration::from_secs(180);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Gets kubelet a certificate of the CA with fingerprint `ca`, lets it start anew and waits until it is served.
///
/// # Errors
/// When this host does not trust that CA, the cluster does not sign, or kubelet does not come back.
pub(crate) async fn renew(host: &Host, cluster: &ClusterName, ca: &Digest) -> Result<(), ClusterCaError> {
    let trusted = Pki::here().trusted()?;
    let Some(issuer) = trusted.iter().find(|one| one.fingerprint == *ca) else {
        return Err(ClusterCaError::Certificate {
            what: "/etc/kubernetes/pki/ca.crt".into(),
            reason: format!("it has no CA {}", ca.short()),
        });
    };
    let config = fs::read_to_string(KUBELET_CONFIG).map_err(io("read", Path::new(KUBELET_CONFIG)))?;
    if !config.contains(CURRENT) {
        return Err(ClusterCaError::Unknown {
            path: KUBELET_CONFIG.into(),
            what: "kubelet does not renew its certificate by itself: client-certificate is not \
                   /var/lib/kubelet/pki/kubelet-client-current.pem",
        });
    }
    let api = KubeletApi::of(host, cluster).await?;
    // A run that was cut off before kubelet started anew has it already.
    let present = fs::read_to_string(CURRENT).map_err(io("read", Path::new(CURRENT)))?;
    let standing = standing_by(&present, &issuer.pem);
    if let (Standing::NotYet, Some(when)) = (standing, standing.by_this_clock()) {
        let what = "kubelet's certificate";
        return Err(ClusterCaError::OutOfTime { what, when });
    }
    if standing != Standing::Good {
        let name = subject(&present).ok_or_else(|| ClusterCaError::Certificate {
            what: CURRENT.into(),
            reason: format!("it is no certificate of a node ({NODE_PREFIX}…)"),
        })?;
        let (certificate, key) = signed(&api, &name, &issuer.pem).await?;
        take(Path::new(FOLDER), Path::new(CURRENT), &certificate, &key)?;
    }
    kubelet::restart(host, cluster).await?;
    api.answers().await?;
    tracing::info!(%cluster, "kubelet has a certificate of the new CA");
    Ok(())
}

/// How kubelet's certificate stands with `cas`: the best of them. One that kubelet does not renew itself is elsewhere, and not
/// looked at.
pub(super) fn standing(cas: &[ClusterCa]) -> Standing {
    let Ok(present) = fs::read_to_string(CURRENT) else {
        return Standing::Good;
    };
    let with = cas.iter().map(|ca| standing_by(&present, &ca.pem));
    with.min().unwrap_or(Standing::Another)
}

/// How a certificate stands with a CA, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// The CA signed it, and it holds.
    Good,
    /// The CA signed it, and by this host's clock it does not hold yet: the clock is behind, or the signer's is ahead.
    NotYet,
    /// The CA signed it, and by this host's clock it has ended.
    Over,
    /// It is of another CA, or none.
    Another,
}

impl Standing {
    /// What is wrong by this host's clock alone.
    pub(super) const fn by_this_clock(self) -> Option<&'static str> {
        match self {
            Self::NotYet => Some("is not valid yet"),
            Self::Over => Some("has ended"),
            Self::Good | Self::Another => None,
        }
    }
}

/// A certificate for the node `name`, and its key, both PEM.
async fn signed(api: &KubeletApi, name: &str, issuer: &str) -> Result<(String, String), ClusterCaError> {
    let wrong = |reason: String| ClusterCaError::Certificate {
        what: "kubelet's new certificate".into(),
        reason,
    };
    let key = KeyPair::generate().map_err(|error| wrong(error.to_string()))?;
    let request = request(name, &key).map_err(|error| wrong(error.to_string()))?;
    let folder = tempfile::tempdir().map_err(io("make", Path::new("a temporary folder")))?;
    let file = folder.path().join("request.json");
    let deadline = Instant::now() + SIGN_LIMIT;
    // By another name each time: one that was cut off has another key.
    let object = format!(
        "gantry-{}-{}",
        name.trim_start_matches(NODE_PREFIX),
        clock::now_ms()
    );
    let text = signing_request(&object, &request).to_string();
    files::write_atomically(&file, text.as_bytes(), 0o600).map_err(io("write", &file))?;
    let file = file.to_string_lossy().into_owned();
    let mut asked = false;
    loop {
        let tried = async {
            if !asked {
                api.call(&["create", "-f", &file], "ask for a certificate")
                    .await?;
                asked = true;
            }
            let words = [
                "get",
                "certificatesigningrequest",
                &object,
                "-o",
                "jsonpath={.status.certificate}",
            ];
            api.call(&words, "fetch its certificate").await
        };
        let lacks = match tried.await {
            Ok(text) if text.is_empty() => "the cluster has not signed kubelet's request".to_owned(),
            Ok(text) => {
                let pem = BASE64_STANDARD
                    .decode(text)
                    .map_err(|error| wrong(error.to_string()))?;
                let pem = String::from_utf8(pem).map_err(|error| wrong(error.to_string()))?;
                let standing = standing_by(&pem, issuer);
                if let Some(when) = standing.by_this_clock() {
                    let what = "what the cluster signed for kubelet";
                    return Err(ClusterCaError::OutOfTime { what, when });
                }
                if standing == Standing::Another {
                    return Err(wrong(
                        "the cluster did not sign it by the new CA; run this again".into(),
                    ));
                }
                return Ok((pem, key.serialize_pem()));
            }
            Err(error) => error.to_string(),
        };
        if Instant::now() >= deadline {
            let limit_s = SIGN_LIMIT.as_secs();
            let what = format!("{lacks}; `kubectl get csr {object}` says more");
            return Err(ClusterCaError::TooLate { limit_s, what });
        }
        sleep(LOOK_EVERY).await;
    }
}

fn request(name: &str, key: &KeyPair) -> Result<String, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, NODE_GROUP);
    params.distinguished_name.push(DnType::CommonName, name);
    params.serialize_request(key)?.pem()
}

fn signing_request(object: &str, request: &str) -> Value {
    json!({
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": { "name": object },
        "spec": {
            "signerName": SIGNER,
            "request": BASE64_STANDARD.encode(request),
            "usages": ["digital signature", "key encipherment", "client auth"],
        },
    })
}

/// Makes them the ones that kubelet uses, as kubelet itself does: a file of a new name, and the link to it last.
fn take(folder: &Path, current: &Path, certificate: &str, key: &str) -> Result<(), ClusterCaError> {
    let name = format!("kubelet-client-gantry-{}.pem", clock::now_ms());
    let file: PathBuf = folder.join(name);
    files::write_atomically(&file, format!("{certificate}{key}").as_bytes(), 0o600)
        .map_err(io("write", &file))?;
    files::replace_symlink(&file, current).map_err(io("write", current))
}

/// The common name of the first certificate in `pem`, if it is a node's.
fn subject(pem: &str) -> Option<String> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).ok()?;
    let name = certificate.subject().iter_common_name().next()?.as_str().ok()?;
    name.starts_with(NODE_PREFIX).then(|| name.to_owned())
}

/// How the first certificate in `pem`, a client's, stands with `issuer`.
fn standing_by(pem: &str, issuer: &str) -> Standing {
    standing_at(pem, issuer, UnixTime::now())
}

fn standing_at(pem: &str, issuer: &str, at: UnixTime) -> Standing {
    let (Ok(certificate), Ok(issuer)) = (
        CertificateDer::from_pem_slice(pem.as_bytes()),
        CertificateDer::from_pem_slice(issuer.as_bytes()),
    ) else {
        return Standing::Another;
    };
    let (Ok(end_entity), Ok(anchor)) = (
        EndEntityCert::try_from(&certificate),
        webpki::anchor_from_trusted_cert(&issuer),
    ) else {
        return Standing::Another;
    };
    let anchors = [anchor];
    let verify = |at: UnixTime| {
        let usage = KeyUsage::client_auth();
        let algorithms = webpki::ALL_VERIFICATION_ALGS;
        end_entity.verify_for_usage(algorithms, &anchors, &[], at, usage, None, None)
    };
    let standing = match verify(at) {
        Ok(_) => return Standing::Good,
        Err(webpki::Error::CertNotValidYet { .. }) => Standing::NotYet,
        Err(webpki::Error::CertExpired { .. }) => Standing::Over,
        Err(_) => return Standing::Another,
    };
    // Its time may be looked at before its signature is.
    let begins = x509_parser::parse_x509_certificate(&certificate)
        .ok()
        .and_then(|(_, certificate)| u64::try_from(certificate.validity().not_before.timestamp()).ok());
    let then = begins.map(|begins| UnixTime::since_unix_epoch(Duration::from_secs(begins)));
    if then.is_some_and(|then| verify(then).is_ok()) {
        standing
    } else {
        Standing::Another
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, IsCa, Issuer};

    use super::*;

    #[test]
    fn a_certificate_is_known_by_the_ca_that_signed_it_and_not_by_that_cas_name() {
        let ca = || {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let key = KeyPair::generate().unwrap();
            let pem = params.self_signed(&key).unwrap().pem();
            (pem, Issuer::new(params, key))
        };
        let ((old, _), (new, issuer)) = (ca(), ca());
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, "system:node:host1");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &issuer).unwrap().pem();
        let file = format!("{leaf}{}", key.serialize_pem());
        assert_eq!(standing_by(&file, &new), Standing::Good);
        for (text, ca) in [(file.as_str(), &old), ("", &new)] {
            assert_eq!(standing_by(text, ca), Standing::Another);
        }
        assert_eq!(subject(&file).as_deref(), Some("system:node:host1"));
        assert_eq!(subject(&old), None);
    }

    #[test]
    fn what_a_clock_alone_has_against_a_certificate_is_not_taken_for_another_ca() {
        let ca = || {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let key = KeyPair::generate().unwrap();
            let pem = params.self_signed(&key).unwrap().pem();
            (pem, Issuer::new(params, key))
        };
        let ((other, _), (new, issuer)) = (ca(), ca());
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = rcgen::date_time_ymd(2020, 1, 2);
        params.not_after = rcgen::date_time_ymd(2021, 1, 2);
        let leaf = params
            .signed_by(&KeyPair::generate().unwrap(), &issuer)
            .unwrap()
            .pem();
        let day = 24 * 3600;
        let begins = 1_577_923_200;
        let at = |seconds: u64| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        for (seconds, expected, said) in [
            (begins - day, Standing::NotYet, Some("is not valid yet")),
            (begins + day, Standing::Good, None),
            (begins + 400 * day, Standing::Over, Some("has ended")),
        ] {
            let standing = standing_at(&leaf, &new, at(seconds));
            assert_eq!((standing, standing.by_this_clock()), (expected, said));
            assert_eq!(standing_at(&leaf, &other, at(seconds)), Standing::Another);
        }
    }

    #[test]
    fn kubelet_finds_certificate_and_key_behind_its_link() {
        let folder = tempfile::tempdir().unwrap();
        let current = folder.path().join("kubelet-client-current.pem");
        fs::write(folder.path().join("first.pem"), "old").unwrap();
        std::os::unix::fs::symlink(folder.path().join("first.pem"), &current).unwrap();
        take(folder.path(), &current, "certificate\n", "key\n").unwrap();
        assert_eq!(fs::read_to_string(&current).unwrap(), "certificate\nkey\n");
        assert!(current.is_symlink());
        assert_eq!(
            fs::read_to_string(folder.path().join("first.pem")).unwrap(),
            "old"
        );
    }

    #[test]
    fn the_request_is_one_that_the_cluster_signs_by_itself() {
        let request = request("system:node:host1", &KeyPair::generate().unwrap()).unwrap();
        assert!(request.starts_with("-----BEGIN CERTIFICATE REQUEST-----"));
        let object = signing_request("gantry-host1-1", &request);
        assert_eq!(object["spec"]["signerName"], SIGNER);
    }
}
