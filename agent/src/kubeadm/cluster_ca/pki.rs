//! This module owns [`Pki`]: the files by which a member of a cluster knows its CAs, and how each of them becomes another one
//! without a moment at which what starts then would not start.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use gantry_model::{ClusterCa, ClusterCas, Digest};
use gantry_system::files;

use super::ClusterCaError;
use super::authority::{are_same, bundle, given, to_bundle};
use super::io as failed;
use super::key::is_key_of;

/// Where kubeadm keeps what belongs to a member of a cluster.
const KUBERNETES: &str = "/etc/kubernetes";
/// Kubeconfigs that kubeadm makes, where there are some.
const KUBECONFIGS: [&str; 5] = [
    "admin.conf",
    "super-admin.conf",
    "controller-manager.conf",
    "scheduler.conf",
    "kubelet.conf",
];
/// In a kubeconfig, what stands before the CAs (base64 of PEM).
const EMBEDDED: &str = "certificate-authority-data:";
/// What the controller manager is told the certificate by that it signs with.
const SIGNING_FLAG: &str = "--cluster-signing-cert-file=";
/// Where that flag leads as kubeadm makes it; in the pod and on the host the path is the same.
const CA: &str = "/etc/kubernetes/pki/ca.crt";
/// And while there are several.
const SIGNING: &str = "/etc/kubernetes/pki/signing-ca.crt";
/// Modes, as kubeadm makes its files.
const CERTIFICATE_MODE: u32 = 0o644;
const KEY_MODE: u32 = 0o600;

/// The files below one folder, `/etc/kubernetes` but for tests.
#[derive(Debug, Clone)]
pub(in super::super) struct Pki {
    root: PathBuf,
}

impl Pki {
    /// Those of this host.
    pub(in super::super) fn here() -> Self {
        Self::at(Path::new(KUBERNETES))
    }

    fn at(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    /// The CAs as they lie here, the one first that signs. What cannot be read is not there.
    ///
    /// The one that signs is the one whose key lies where that of the CA lies, also where power was cut before `ca.crt` said
    /// so: with the key of the one before, the way back is gone, and whoever plans has to know.
    pub(in super::super) fn cas(&self) -> ClusterCas {
        let mut trusted = self.trusted().unwrap_or_default();
        let next = self.next().unwrap_or_default();
        if let Some(signing) = self.taken_up(&trusted, next.as_ref()) {
            trusted.retain(|ca| *ca != signing);
            trusted.insert(0, signing);
        }
        ClusterCas { trusted, next }
    }

    /// The CA of these whose key lies where the one that signs has its key.
    fn taken_up(&self, trusted: &[ClusterCa], next: Option<&ClusterCa>) -> Option<ClusterCa> {
        // Workers have none, and some keep it elsewhere (kubeadm, "External CA mode").
        let key = fs::read(self.pki().join("ca.key")).ok()?;
        let mut known = trusted.iter().chain(next);
        known.find(|ca| is_key_of(&key, ca)).cloned()
    }

    /// Those that are trusted; the first one signs.
    pub(super) fn trusted(&self) -> Result<Vec<ClusterCa>, ClusterCaError> {
        read_bundle(&self.ca())
    }

    /// The one that was made here and signs nothing yet.
    pub(super) fn next(&self) -> Result<Option<ClusterCa>, ClusterCaError> {
        let path = self.next_folder().join("ca.crt");
        if path.exists() {
            return Ok(read_bundle(&path)?.into_iter().next());
        }
        Ok(None)
    }

    /// Puts a CA that was made down as the next one: its key first, so that one with a certificate is whole.
    pub(super) fn put_next(&self, certificate: &[u8], key: &[u8]) -> Result<(), ClusterCaError> {
        let folder = self.next_folder();
        make_private_folder(&folder)?;
        write(&folder.join("ca.key"), key, KEY_MODE)?;
        write(&folder.join("ca.crt"), certificate, CERTIFICATE_MODE)?;
        files::sync_dir(&self.pki()).map_err(failed("write", &self.pki()))
    }

    /// The next one, whose certificate has this fingerprint, becomes the one that signs; the others stay trusted. The key of
    /// the one that signed until now is gone then.
    pub(super) fn take_up_next(&self, ca: &Digest) -> Result<(), ClusterCaError> {
        let trusted = self.trusted()?;
        // Taken up already by a run that was cut off later, whatever is left of the folder.
        if trusted.first().is_some_and(|first| {
            let key = fs::read(self.pki().join("ca.key"));
            first.fingerprint == *ca && key.is_ok_and(|key| is_key_of(&key, first))
        }) {
            return Ok(());
        }
        let Some(next) = self.next()?.filter(|next| next.fingerprint == *ca) else {
            let signs = trusted.first().is_some_and(|first| first.fingerprint == *ca);
            return if signs {
                Ok(())
            } else {
                Err(ClusterCaError::NoKey(*ca))
            };
        };
        let key = self.next_folder().join("ca.key");
        let bytes = fs::read(&key).map_err(failed("read", &key))?;
        if !is_key_of(&bytes, &next) {
            return Err(ClusterCaError::NoKey(*ca));
        }
        let others = trusted.into_iter().filter(|other| *other != next);
        let bundle: Vec<ClusterCa> = std::iter::once(next.clone()).chain(others).collect();
        write(&self.pki().join("ca.key"), &bytes, KEY_MODE)?;
        write(&self.ca(), to_bundle(&bundle).as_bytes(), CERTIFICATE_MODE)
    }

    /// Whether the CA with this fingerprint signs here, or can.
    pub(super) fn has_key_of(&self, ca: &Digest) -> bool {
        let here = |certificate: &Path, key: PathBuf| {
            let first = read_bundle(certificate)
                .ok()
                .and_then(|cas| cas.into_iter().next());
            let first = first.filter(|first| first.fingerprint == *ca);
            first.is_some_and(|first| fs::read(key).is_ok_and(|key| is_key_of(&key, &first)))
        };
        let next = self.next_folder();
        here(&next.join("ca.crt"), next.join("ca.key")) || here(&self.ca(), self.pki().join("ca.key"))
    }

    /// Refuses where the CA with this fingerprint signs, or has begun to: its key lies where the one that signs has its key.
    pub(super) fn refuse_to_withdraw(&self, ca: &Digest) -> Result<(), ClusterCaError> {
        let trusted = self.trusted()?;
        let key = self.pki().join("ca.key");
        // Some keep it elsewhere (kubeadm, "External CA mode").
        let key = key.exists().then(|| fs::read(&key).map_err(failed("read", &key)));
        let key = key.transpose()?.unwrap_or_default();
        let begun = trusted
            .iter()
            .chain(self.next()?.iter())
            .any(|one| one.fingerprint == *ca && is_key_of(&key, one));
        let signs = trusted.first().is_some_and(|first| first.fingerprint == *ca);
        if signs || begun {
            return Err(ClusterCaError::Signs(*ca));
        }
        Ok(())
    }

    /// Removes the next one, when it signs or is not to: its key first, its certificate last, so that it is seen until nothing
    /// is left of it.
    pub(super) fn forget_next(&self) -> Result<(), ClusterCaError> {
        let folder = self.next_folder();
        let key = folder.join("ca.key");
        match fs::remove_file(&key) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove", &key)(error));
            }
            Err(_) => {}
            Ok(()) => files::sync_dir(&folder).map_err(failed("write", &folder))?,
        }
        match files::remove_tree(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", &folder)(error)),
            _ => Ok(()),
        }
    }

    /// `wanted` with the one first that signs here.
    ///
    /// # Errors
    /// On a control plane, when that is not among them.
    pub(super) fn in_order(
        &self,
        wanted: Vec<ClusterCa>,
        control_plane: bool,
    ) -> Result<Vec<ClusterCa>, ClusterCaError> {
        let first = self.trusted()?.into_iter().next();
        match first.filter(|first| wanted.contains(first)) {
            Some(first) => {
                let others = wanted.into_iter().filter(|ca| *ca != first);
                Ok(std::iter::once(first.clone()).chain(others).collect())
            }
            None if control_plane => Err(ClusterCaError::StillSigns),
            None => Ok(wanted),
        }
    }

    /// Makes these what is trusted, in `ca.crt` and in every kubeconfig.
    pub(super) fn put_trusted(&self, cas: &[ClusterCa]) -> Result<(), ClusterCaError> {
        write(&self.ca(), to_bundle(cas).as_bytes(), CERTIFICATE_MODE)?;
        self.embed()
    }

    /// Makes every kubeconfig trust what `ca.crt` does: kubeadm gives them the first one only.
    pub(in super::super) fn embed(&self) -> Result<(), ClusterCaError> {
        let cas = to_bundle(&self.trusted()?);
        for path in KUBECONFIGS.map(|name| self.root.join(name)) {
            let Some(text) = read(&path)? else { continue };
            let wrong = || ClusterCaError::Unknown {
                path: path.clone(),
                what: "it has no certificate-authority-data in it, as kubeadm's kubeconfigs have",
            };
            let embedded = embed_in(&text, &cas).ok_or_else(wrong)?;
            if embedded != text {
                write(&path, embedded.as_bytes(), KEY_MODE)?;
            }
        }
        Ok(())
    }

    /// Whether `ca.crt` and every kubeconfig trust `authorities`, and nothing else.
    pub(super) fn trusts(&self, authorities: &[String]) -> bool {
        let (Ok(wanted), Ok(trusted)) = (given(authorities), self.trusted()) else {
            return false;
        };
        let cas = to_bundle(&trusted);
        are_same(&wanted, &trusted)
            && KUBECONFIGS.iter().all(|name| match read(&self.root.join(name)) {
                Ok(Some(text)) => embed_in(&text, &cas).is_some_and(|embedded| embedded == text),
                Ok(None) => true,
                Err(_) => false,
            })
    }

    /// Gives the controller manager a file with nothing but `signing` in it. Before `ca.crt` has several, and whenever
    /// another one signs.
    pub(super) fn part_signing(&self, signing: &ClusterCa) -> Result<(), ClusterCaError> {
        write(&self.signing(), signing.pem.as_bytes(), CERTIFICATE_MODE)?;
        self.set_signing_flag(SIGNING)
    }

    /// Lets it read `ca.crt` again, where there is but one by now.
    pub(super) fn join_signing(&self) -> Result<(), ClusterCaError> {
        self.set_signing_flag(CA)
    }

    /// Removes that file, when the controller manager reads it no more.
    pub(super) fn forget_signing(&self) -> Result<(), ClusterCaError> {
        match fs::remove_file(self.signing()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("remove", &self.signing())(error))
            }
            _ => Ok(()),
        }
    }

    /// Whether it has that file: `ca.crt` had several, and what started then may run yet.
    pub(super) fn is_signing_parted(&self) -> bool {
        self.signing().exists()
    }

    fn set_signing_flag(&self, file: &str) -> Result<(), ClusterCaError> {
        let path = self.root.join("manifests/kube-controller-manager.yaml");
        let Some(text) = read(&path)? else { return Ok(()) };
        let Some(changed) = with_signing_flag(&text, file) else {
            return Err(ClusterCaError::Unknown {
                path,
                what: "the controller manager is not told of a certificate to sign with, as kubeadm tells it",
            });
        };
        if changed != text {
            write(&path, changed.as_bytes(), KEY_MODE)?;
        }
        Ok(())
    }

    fn pki(&self) -> PathBuf {
        self.root.join("pki")
    }

    fn ca(&self) -> PathBuf {
        self.pki().join("ca.crt")
    }

    fn signing(&self) -> PathBuf {
        self.pki().join("signing-ca.crt")
    }

    fn next_folder(&self) -> PathBuf {
        self.pki().join("next-ca")
    }

    /// Where kubeadm makes one.
    pub(super) fn making_folder(&self) -> PathBuf {
        self.pki().join("next-ca.making")
    }
}

/// `text` with the CAs of its one cluster being `cas`; none where it has no place for them.
pub(super) fn embed_in(text: &str, cas: &str) -> Option<String> {
    let line = text
        .lines()
        .find(|line| line.trim_start().starts_with(EMBEDDED))?;
    let indent = &line[..line.len() - line.trim_start().len()];
    let embedded = format!("{indent}{EMBEDDED} {}", BASE64_STANDARD.encode(cas));
    Some(text.replacen(line, &embedded, 1))
}

/// The CAs of the cluster in a kubeconfig, PEM.
pub(super) fn embedded_in(text: &str) -> Option<String> {
    let line = text
        .lines()
        .find_map(|line| line.trim_start().strip_prefix(EMBEDDED))?;
    String::from_utf8(BASE64_STANDARD.decode(line.trim()).ok()?).ok()
}

/// The manifest with the flag leading to `file`; none where it has no such flag.
fn with_signing_flag(manifest: &str, file: &str) -> Option<String> {
    let (before, after) = manifest.split_once(SIGNING_FLAG)?;
    let rest = after.find(['\n', '"', '\'']).map_or("", |end| &after[end..]);
    Some(format!("{before}{SIGNING_FLAG}{file}{rest}"))
}

/// A folder that nobody but root looks into.
pub(super) fn make_private_folder(folder: &Path) -> Result<(), ClusterCaError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let mut builder = fs::DirBuilder::new();
    builder
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(failed("make", folder))
}

fn read_bundle(path: &Path) -> Result<Vec<ClusterCa>, ClusterCaError> {
    let text = fs::read_to_string(path).map_err(failed("read", path))?;
    bundle(&text).map_err(|reason| ClusterCaError::Certificate {
        what: path.display().to_string(),
        reason,
    })
}

/// None: there is no such file.
fn read(path: &Path) -> Result<Option<String>, ClusterCaError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path)(error)),
    }
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), ClusterCaError> {
    files::write_atomically(path, bytes, mode).map_err(failed("write", path))
}

#[cfg(test)]
mod tests {
    use super::super::authority::tests::{ca, ca_and_key};
    use super::*;

    const MANIFEST: &str = "spec:\n  containers:\n  - command:\n    - kube-controller-manager\n    \
        - --client-ca-file=/etc/kubernetes/pki/ca.crt\n    \
        - --cluster-signing-cert-file=/etc/kubernetes/pki/ca.crt\n    \
        - --cluster-signing-key-file=/etc/kubernetes/pki/ca.key\n    - --root-ca-file=/etc/kubernetes/pki/ca.crt\n";

    /// A control plane with this CA.
    fn control_plane(ca: &str) -> (tempfile::TempDir, Pki) {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("pki")).unwrap();
        fs::create_dir_all(root.join("manifests")).unwrap();
        fs::write(root.join("pki/ca.crt"), ca).unwrap();
        fs::write(root.join("pki/ca.key"), "old key").unwrap();
        fs::write(root.join("manifests/kube-controller-manager.yaml"), MANIFEST).unwrap();
        for name in ["admin.conf", "kubelet.conf"] {
            let text = kubeconfig(ca);
            fs::write(root.join(name), text).unwrap();
        }
        let pki = Pki::at(root);
        (folder, pki)
    }

    fn kubeconfig(cas: &str) -> String {
        format!(
            "clusters:\n- cluster:\n    {EMBEDDED} {}\n    server: https://apiserver.cluster.local:6443\n",
            BASE64_STANDARD.encode(cas)
        )
    }

    fn manifest(folder: &tempfile::TempDir) -> String {
        fs::read_to_string(folder.path().join("manifests/kube-controller-manager.yaml")).unwrap()
    }

    #[test]
    fn a_ca_is_replaced_by_overlap_and_leaves_nothing_beside_the_new_one() {
        let (old, (new, new_key)) = (ca(), ca_and_key());
        let (folder, pki) = control_plane(&old);
        let file = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        assert!(!pki.cas().are_replaced());
        pki.put_next(new.as_bytes(), new_key.as_bytes()).unwrap();
        assert!(
            pki.cas().are_replaced() && pki.trusts(std::slice::from_ref(&old)),
            "nobody trusts it yet"
        );

        // However the step names them, the one that signs stays the first.
        let both = [new.clone(), old.clone()];
        let ordered = pki.in_order(given(&both).unwrap(), true).unwrap();
        pki.part_signing(&ordered[0]).unwrap();
        pki.put_trusted(&ordered).unwrap();
        assert_eq!(file("pki/ca.crt"), format!("{old}{new}"));
        assert_eq!(file("pki/signing-ca.crt"), old);
        assert_eq!(file("kubelet.conf"), kubeconfig(&format!("{old}{new}")));
        assert_eq!(
            manifest(&folder),
            MANIFEST.replace(
                "cert-file=/etc/kubernetes/pki/ca.crt",
                "cert-file=/etc/kubernetes/pki/signing-ca.crt"
            )
        );
        assert!(pki.trusts(&both) && !pki.trusts(std::slice::from_ref(&old)));

        let fingerprint = given(std::slice::from_ref(&new)).unwrap()[0].fingerprint;
        for _ in 0..2 {
            pki.take_up_next(&fingerprint).unwrap();
            assert_eq!(file("pki/ca.crt"), format!("{new}{old}"));
            assert_eq!(file("pki/ca.key"), new_key);
        }
        pki.forget_next().unwrap();
        pki.forget_next().unwrap();
        pki.take_up_next(&fingerprint).unwrap();
        assert_eq!(file("pki/ca.key"), new_key);

        // kubeadm gave the kubeconfigs it made the first one only.
        fs::write(folder.path().join("admin.conf"), kubeconfig(&new)).unwrap();
        assert!(!pki.trusts(&both));
        pki.embed().unwrap();
        assert!(pki.trusts(&both));

        assert!(matches!(
            pki.in_order(given(&[old]).unwrap(), true),
            Err(ClusterCaError::StillSigns)
        ));
        let alone = [new.clone()];
        let ordered = pki.in_order(given(&alone).unwrap(), true).unwrap();
        pki.put_trusted(&ordered).unwrap();
        pki.join_signing().unwrap();
        pki.forget_signing().unwrap();
        assert_eq!(manifest(&folder), MANIFEST);
        assert!(pki.trusts(&alone) && !pki.cas().are_replaced());
        let mut left: Vec<_> = fs::read_dir(folder.path().join("pki"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["ca.crt", "ca.key"]);
    }

    #[test]
    fn without_its_key_a_ca_is_not_taken_up() {
        let (old, (new, key), (_, other_key)) = (ca(), ca_and_key(), ca_and_key());
        let (folder, pki) = control_plane(&old);
        let fingerprint = given(std::slice::from_ref(&new)).unwrap()[0].fingerprint;
        let refused = || matches!(pki.take_up_next(&fingerprint), Err(ClusterCaError::NoKey(_)));
        assert!(refused() && !pki.has_key_of(&fingerprint));
        // One that was cut off while it was written, and one of another CA.
        for odd in [&key[..key.len() / 2], &other_key] {
            pki.put_next(new.as_bytes(), odd.as_bytes()).unwrap();
            assert!(refused() && !pki.has_key_of(&fingerprint));
            let signs = fs::read_to_string(folder.path().join("pki/ca.key")).unwrap();
            assert_eq!(signs, "old key");
        }
        pki.put_next(new.as_bytes(), key.as_bytes()).unwrap();
        assert!(pki.has_key_of(&fingerprint));
    }

    #[test]
    fn a_ca_is_withdrawn_until_its_key_lies_where_the_one_that_signs_has_its() {
        let (old, (new, key)) = (ca(), ca_and_key());
        let (folder, pki) = control_plane(&old);
        let fingerprint = given(std::slice::from_ref(&new)).unwrap()[0].fingerprint;
        pki.put_next(new.as_bytes(), key.as_bytes()).unwrap();
        let both = pki.in_order(given(&[old, new]).unwrap(), true).unwrap();
        pki.part_signing(&both[0]).unwrap();
        pki.put_trusted(&both).unwrap();
        assert!(pki.is_signing_parted());
        pki.refuse_to_withdraw(&fingerprint).unwrap();
        assert_eq!(pki.cas().trusted, both);

        // Power was cut between the key and the certificate.
        let refused = || {
            matches!(
                pki.refuse_to_withdraw(&fingerprint),
                Err(ClusterCaError::Signs(_))
            )
        };
        fs::write(folder.path().join("pki/ca.key"), &key).unwrap();
        assert!(refused());
        // So that whoever plans knows, though `ca.crt` says otherwise.
        let turned = [both[1].clone(), both[0].clone()];
        assert_eq!(
            (pki.trusted().unwrap(), pki.cas().trusted),
            (both, turned.to_vec())
        );
        pki.take_up_next(&fingerprint).unwrap();
        assert_eq!(pki.trusted().unwrap(), turned);
        // And once more while the folder was removed.
        fs::remove_file(pki.next_folder().join("ca.key")).unwrap();
        pki.take_up_next(&fingerprint).unwrap();
        pki.forget_next().unwrap();
        assert!(refused() && pki.has_key_of(&fingerprint));
    }

    #[test]
    fn a_next_ca_is_seen_until_nothing_is_left_of_it() {
        let (old, (new, key)) = (ca(), ca_and_key());
        let (folder, pki) = control_plane(&old);
        pki.put_next(new.as_bytes(), key.as_bytes()).unwrap();
        // Power was cut after the first file.
        fs::remove_file(pki.next_folder().join("ca.key")).unwrap();
        assert!(pki.cas().next.is_some());
        pki.forget_next().unwrap();
        assert!(!folder.path().join("pki/next-ca").exists() && pki.cas().next.is_none());
    }

    #[test]
    fn files_that_are_not_kubeadms_are_said_to_be() {
        assert_eq!(embed_in("clusters: []\n", "x"), None);
        assert_eq!(with_signing_flag("- --v=2\n", "x"), None);
        let quoted = "- \"--cluster-signing-cert-file=/a\"\n";
        assert_eq!(
            with_signing_flag(quoted, "/b").unwrap(),
            "- \"--cluster-signing-cert-file=/b\"\n"
        );
    }
}
