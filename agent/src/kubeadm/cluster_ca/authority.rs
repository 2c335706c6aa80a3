//! Certificates of CAs, as they are given to this host and as they lie in its files. Pure.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use gantry_model::{ClusterCa, Digest};
use gantry_protocol::limits::{MAX_CLUSTER_CA_LEN, MAX_CLUSTER_CAS};
use x509_parser::pem::Pem;

use super::ClusterCaError;

/// What a block of PEM with a certificate is called (RFC 7468, section 5.1).
const LABEL: &str = "CERTIFICATE";
/// Signs on a line of PEM (RFC 7468, section 2).
const LINE_LEN: usize = 64;

/// Whether these can be a cluster's CAs: a few, each of them one certificate of a CA, no two the same.
///
/// # Errors
/// What is wrong with them.
pub(crate) fn check(authorities: &[String]) -> Result<(), String> {
    given(authorities).map(drop).map_err(|error| error.to_string())
}

/// The CAs that a step brings.
pub(super) fn given(authorities: &[String]) -> Result<Vec<ClusterCa>, ClusterCaError> {
    let what = || "the CAs of the step".to_owned();
    let wrong = |reason: String| ClusterCaError::Certificate { what: what(), reason };
    if authorities.is_empty() || authorities.len() > MAX_CLUSTER_CAS {
        let count = authorities.len();
        return Err(wrong(format!(
            "there are {count} of them; 1 to {MAX_CLUSTER_CAS} are allowed"
        )));
    }
    let mut cas: Vec<ClusterCa> = Vec::new();
    for text in authorities {
        match bundle(text).map_err(wrong)?.as_slice() {
            [ca] if cas.contains(ca) => return Err(wrong("one is there twice".into())),
            [ca] => cas.push(ca.clone()),
            other => return Err(wrong(format!("{} certificates in the place of one", other.len()))),
        }
    }
    Ok(cas)
}

/// Every CA in a file, in its order.
pub(super) fn bundle(text: &str) -> Result<Vec<ClusterCa>, String> {
    if text.len() > MAX_CLUSTER_CA_LEN * MAX_CLUSTER_CAS {
        return Err(format!("it has {} bytes, which is too long", text.len()));
    }
    let blocks = Pem::iter_from_buffer(text.as_bytes());
    blocks
        .map(|block| read(&block.map_err(|error| error.to_string())?))
        .collect()
}

fn read(block: &Pem) -> Result<ClusterCa, String> {
    if block.label != LABEL {
        return Err(format!("a block of it is a {}", block.label));
    }
    let certificate = block.parse_x509().map_err(|error| error.to_string())?;
    if !certificate.is_ca() {
        return Err(format!("{} is no CA", certificate.subject()));
    }
    Ok(ClusterCa {
        pem: to_pem(&block.contents),
        fingerprint: Digest::of(&block.contents),
        not_before: certificate.validity().not_before.timestamp(),
        not_after: certificate.validity().not_after.timestamp(),
    })
}

/// The certificate `der` as PEM.
fn to_pem(der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(LINE_LEN)
        .filter_map(|line| std::str::from_utf8(line).ok())
        .collect();
    format!(
        "-----BEGIN {LABEL}-----\n{}\n-----END {LABEL}-----\n",
        lines.join("\n")
    )
}

/// One file of them.
pub(super) fn to_bundle(cas: &[ClusterCa]) -> String {
    cas.iter().map(|ca| ca.pem.as_str()).collect()
}

/// Whether both are the same CAs, in whatever order.
pub(super) fn are_same(one: &[ClusterCa], other: &[ClusterCa]) -> bool {
    one.len() == other.len() && one.iter().all(|ca| other.contains(ca))
}

#[cfg(test)]
pub(super) mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

    use super::*;

    /// A CA, PEM.
    pub(in super::super) fn ca() -> String {
        ca_and_key().0
    }

    /// A CA and its key, both PEM.
    pub(in super::super) fn ca_and_key() -> (String, String) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        (certificate.replace("\r\n", "\n"), key.serialize_pem())
    }

    #[test]
    fn a_bundle_is_its_certificates_in_order_and_reads_back_the_same() {
        let (one, other) = (ca(), ca());
        let cas = bundle(&format!("{one}\n# a word\n{other}")).unwrap();
        assert_eq!(
            (cas[0].pem.as_str(), cas[1].pem.as_str()),
            (one.as_str(), other.as_str())
        );
        assert_eq!(bundle(&to_bundle(&cas)).unwrap(), cas);
        let turned = [cas[1].clone(), cas[0].clone()];
        assert!(are_same(&cas, &turned) && !are_same(&cas, &turned[..1]));
    }

    #[test]
    fn only_a_few_cas_each_once_and_nothing_else_are_taken() {
        let (one, other) = (ca(), ca());
        check(&[one.clone(), other.clone()]).unwrap();
        let leaf = CertificateParams::new(vec!["host1".into()]).unwrap();
        let leaf = leaf.self_signed(&KeyPair::generate().unwrap()).unwrap().pem();
        let key = KeyPair::generate().unwrap().serialize_pem();
        for (odd, said) in [
            (vec![], "there are 0"),
            (vec![one.clone(), one.clone()], "twice"),
            (vec![format!("{one}{other}")], "2 certificates"),
            (vec![String::new()], "0 certificates"),
            (vec![leaf], "is no CA"),
            (vec![key], "PRIVATE KEY"),
            (vec![one.repeat(1000)], "too long"),
        ] {
            let error = check(&odd).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
