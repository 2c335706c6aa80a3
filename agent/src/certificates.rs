//! Certificates that lie on this host: of its control plane, of its kubelet, and the agent's own.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use gantry_model::{CertificateKeeper, CertificateRecord};
use x509_parser::pem::Pem;

/// Where kubeadm keeps a control plane's certificates; workers have the authority's there.
const PKI: [&str; 2] = ["/etc/kubernetes/pki", "/etc/kubernetes/pki/etcd"];
/// Files that hold a client's certificate beside its key.
const KUBECONFIGS: [&str; 5] = [
    "/etc/kubernetes/admin.conf",
    "/etc/kubernetes/super-admin.conf",
    "/etc/kubernetes/controller-manager.conf",
    "/etc/kubernetes/scheduler.conf",
    "/etc/kubernetes/kubelet.conf",
];
/// The last of them is kubelet's own.
const KUBELET_CONFIG: &str = "/etc/kubernetes/kubelet.conf";
/// What kubelet shows, and what it proves itself with.
const KUBELET: [&str; 2] = [
    "/var/lib/kubelet/pki/kubelet-client-current.pem",
    "/var/lib/kubelet/pki/kubelet.crt",
];
/// In a kubeconfig, what stands before a certificate (base64 of PEM).
const EMBEDDED: &str = "client-certificate-data:";
/// Longest file that is read, in bytes.
const MAX_FILE_LEN: u64 = 64 << 10;
/// Most files of one folder that are looked at.
const MAX_FILES: usize = 64;

/// The certificates on this host; `own` is the agent's.
pub(crate) fn certificates(own: &Path) -> Vec<CertificateRecord> {
    let mut records = Vec::new();
    for folder in PKI {
        for file in certificates_in(Path::new(folder)) {
            records.extend(record(&file, &text(&file), CertificateKeeper::Kubeadm));
        }
    }
    for file in KUBECONFIGS.map(Path::new) {
        let keeper = if file == Path::new(KUBELET_CONFIG) {
            CertificateKeeper::Kubelet
        } else {
            CertificateKeeper::Kubeadm
        };
        records.extend(embedded(&text(file)).and_then(|pem| record(file, &pem, keeper)));
    }
    for file in KUBELET.map(Path::new) {
        records.extend(record(file, &text(file), CertificateKeeper::Kubelet));
    }
    records.extend(record(own, &text(own), CertificateKeeper::Gantry));
    records
}

/// Files of certificates in a folder, by name.
fn certificates_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.map(|entry| entry.path());
    let mut files: Vec<PathBuf> = files
        .filter(|file| file.extension().is_some_and(|extension| extension == "crt"))
        .take(MAX_FILES)
        .collect();
    files.sort();
    files
}

/// A file that is not there, or too long, has no certificate.
fn text(file: &Path) -> String {
    let short = fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.len() <= MAX_FILE_LEN);
    if short {
        fs::read_to_string(file).unwrap_or_default()
    } else {
        String::new()
    }
}

/// The certificate in a kubeconfig, as PEM.
fn embedded(kubeconfig: &str) -> Option<String> {
    let line = kubeconfig
        .lines()
        .find_map(|line| line.trim().strip_prefix(EMBEDDED))?;
    String::from_utf8(BASE64_STANDARD.decode(line.trim()).ok()?).ok()
}

/// The first certificate in `pem`.
fn record(file: &Path, pem: &str, keeper: CertificateKeeper) -> Option<CertificateRecord> {
    let block = Pem::iter_from_buffer(pem.as_bytes())
        .flatten()
        .find(|block| block.label == "CERTIFICATE")?;
    let certificate = block.parse_x509().ok()?;
    let subject = certificate.subject();
    let name = subject
        .iter_common_name()
        .next()
        .and_then(|name| name.as_str().ok());
    Some(CertificateRecord {
        file: file.to_string_lossy().into_owned(),
        subject: name.map_or_else(|| subject.to_string(), str::to_owned),
        not_after: certificate.validity().not_after.timestamp(),
        keeper: if certificate.is_ca() {
            CertificateKeeper::Nobody
        } else {
            keeper
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_found_alone_and_in_a_kubeconfig() {
        let pem = include_str!("kubeadm/test-ca.crt");
        let file = Path::new("/etc/kubernetes/pki/ca.crt");
        let found = record(file, pem, CertificateKeeper::Kubeadm).unwrap();
        assert_eq!(
            (found.file.as_str(), found.keeper),
            ("/etc/kubernetes/pki/ca.crt", CertificateKeeper::Nobody)
        );
        assert!(!found.subject.is_empty() && found.not_after > 0);
        let kubeconfig = format!(
            "users:\n- name: admin\n  user:\n    {EMBEDDED} {}\n",
            BASE64_STANDARD.encode(pem)
        );
        assert_eq!(embedded(&kubeconfig).as_deref(), Some(pem));
        assert_eq!(embedded("users: []\n"), None);
        assert_eq!(record(file, "no certificate", CertificateKeeper::Kubeadm), None);
    }
}
