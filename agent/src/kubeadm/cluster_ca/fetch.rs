//! Fetches a CA that another control plane made out of the cluster, where `kubeadm init phase upload-certs` put it for control
//! planes that join: in a secret, each file encrypted by a key that travels with the pass.

use std::net::{IpAddr, SocketAddr};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use gantry_model::{ClusterName, Digest};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use super::authority::bundle;
use super::key::is_key_of;
use super::{ClusterCaError, io};
use crate::host::Host;
use crate::kubeadm::ADMIN;
use crate::kubeadm::node_api::NodeApi;

/// Both files of the CA in that secret, a line each.
const FILES: &str = "jsonpath={.data.ca\\.crt}{\"\\n\"}{.data.ca\\.key}{\"\\n\"}";
/// Where a kubeconfig names its API server.
const SERVER: &str = "server:";

/// Certificate and key of the CA with fingerprint `ca`, both PEM, and each the other's.
///
/// # Errors
/// When the API server of `from` does not give them, or they are others than those.
pub(super) async fn fetch(
    host: &Host,
    cluster: &ClusterName,
    ca: &Digest,
    from: IpAddr,
    certificate_key: &str,
) -> Result<(String, String), ClusterCaError> {
    let path = std::path::Path::new(ADMIN);
    let admin = std::fs::read_to_string(path).map_err(io("read", path))?;
    let port = port(&admin).ok_or_else(|| ClusterCaError::Unknown {
        path: path.into(),
        what: "it names no API server",
    })?;
    // Of the host that has it: the own one may be down, after a run that was cut off.
    let server = format!("https://{}", SocketAddr::new(from, port));
    let words = [
        "--server",
        &server,
        "get",
        "secret",
        "kubeadm-certs",
        "--namespace=kube-system",
        "-o",
        FILES,
    ];
    let answer = NodeApi::of(host, cluster)
        .await?
        .call(&words, format!("fetch the new CA from {from}"))
        .await?;
    read(&String::from_utf8_lossy(&answer), ca, certificate_key).map_err(|reason| {
        ClusterCaError::Certificate {
            what: format!("the CA that {from} keeps for other control planes"),
            reason,
        }
    })
}

/// What is in the two lines of an answer.
fn read(answer: &str, ca: &Digest, certificate_key: &str) -> Result<(String, String), String> {
    let mut lines = answer.lines();
    let mut file = |name: &str| {
        let sealed = lines.next().and_then(|line| BASE64_STANDARD.decode(line).ok());
        let opened = sealed.and_then(|sealed| open(&sealed, certificate_key));
        opened.ok_or_else(|| format!("{name} cannot be decrypted"))
    };
    let (certificates, key) = (file("ca.crt")?, file("ca.key")?);
    let signing = bundle(&certificates)?.into_iter().next();
    let Some(signing) = signing.filter(|signing| signing.fingerprint == *ca) else {
        return Err(format!("it is not CA {}", ca.short()));
    };
    if is_key_of(key.as_bytes(), &signing) {
        Ok((signing.pem, key))
    } else {
        Err("its key is another one's".into())
    }
}

/// What kubeadm encrypted: AES-256-GCM with the nonce before the text; the key is in hex digits.
fn open(sealed: &[u8], certificate_key: &str) -> Option<String> {
    let (nonce, text) = sealed.split_at_checked(NONCE_LEN)?;
    let key = from_hex(certificate_key)?;
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).ok()?);
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut text = text.to_vec();
    let opened = key.open_in_place(nonce, Aad::empty(), &mut text).ok()?;
    String::from_utf8(opened.to_vec()).ok()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect();
    let digits = digits?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty()
        .then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

/// The port of the API server in a kubeconfig.
fn port(kubeconfig: &str) -> Option<u16> {
    let server = kubeconfig
        .lines()
        .find_map(|line| line.trim().strip_prefix(SERVER))?;
    let endpoint = server.trim().strip_prefix("https://")?;
    endpoint.rsplit_once(':')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::authority::given;
    use super::super::authority::tests::ca_and_key;
    use super::*;

    const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    /// A line of the answer: `text`, as kubeadm encrypts it.
    fn sealed(text: &str) -> String {
        let key = UnboundKey::new(&AES_256_GCM, &from_hex(KEY).unwrap()).unwrap();
        let nonce = [7; NONCE_LEN];
        let mut bytes = text.as_bytes().to_vec();
        LessSafeKey::new(key)
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut bytes)
            .unwrap();
        BASE64_STANDARD.encode([&nonce[..], &bytes].concat())
    }

    #[test]
    fn what_kubeadm_uploaded_is_the_first_ca_and_its_key() {
        let ((new, key), (old, old_key)) = (ca_and_key(), ca_and_key());
        let fingerprint = given(std::slice::from_ref(&new)).unwrap()[0].fingerprint;
        let answer = |certificates: &str, key: &str| format!("{}\n{}\n", sealed(certificates), sealed(key));
        let both = format!("{new}{old}");
        let read_both = read(&answer(&both, &key), &fingerprint, KEY).unwrap();
        assert_eq!(read_both, (new.clone(), key.clone()));
        for (odd, said) in [
            (answer(&both, &old_key), "its key is another one's"),
            (answer(&old, &old_key), "it is not CA"),
            (answer(&new, &key[..100]), "its key is another one's"),
            (String::new(), "ca.crt cannot be decrypted"),
            (sealed(&new), "ca.key cannot be decrypted"),
        ] {
            let error = read(&odd, &fingerprint, KEY).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
        let other = KEY.replace("00", "ff");
        assert!(read(&answer(&both, &key), &fingerprint, &other).is_err());
        assert_eq!((from_hex("0"), from_hex("xx")), (None, None));
    }

    #[test]
    fn the_port_is_the_one_of_the_kubeconfig() {
        let admin =
            "clusters:\n- cluster:\n    server: https://apiserver.cluster.local:6443\n  name: kubernetes\n";
        assert_eq!(port(admin), Some(6443));
        assert_eq!(port("    server: https://[fd00::2]:7000\n"), Some(7000));
        assert_eq!(port("server: https://a"), None);
    }
}
