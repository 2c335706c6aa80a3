//! Keys of CAs: whether one is that of a certificate. Pure.

use gantry_model::ClusterCa;
use rustls::crypto::ring::sign::any_supported_type;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::pem::Pem;

/// Whether the private key `key` (PEM, as kubeadm writes it) is the one of `ca`.
pub(super) fn is_key_of(key: &[u8], ca: &ClusterCa) -> bool {
    let public = PrivateKeyDer::from_pem_slice(key).ok().and_then(|key| {
        any_supported_type(&key)
            .ok()?
            .public_key()
            .map(|public| public.to_vec())
    });
    let blocks = Pem::iter_from_buffer(ca.pem.as_bytes());
    let certified = blocks.flatten().next().and_then(|block| {
        let certificate = block.parse_x509().ok()?;
        Some(certificate.public_key().raw.to_vec())
    });
    public.is_some() && public == certified
}

#[cfg(test)]
mod tests {
    use super::super::authority::given;
    use super::super::authority::tests::ca_and_key;
    use super::*;

    #[test]
    fn a_key_is_known_by_the_certificate_that_was_made_of_it() {
        let ((one, key), (other, _)) = (ca_and_key(), ca_and_key());
        let cas = given(&[one, other]).unwrap();
        assert!(is_key_of(key.as_bytes(), &cas[0]));
        assert!(!is_key_of(key.as_bytes(), &cas[1]));
        // What a write that was cut off leaves.
        assert!(!is_key_of(&key.as_bytes()[..key.len() / 2], &cas[0]) && !is_key_of(b"", &cas[0]));
    }

    /// As openssl and older versions of Go write keys (PKCS #1), which kubeadm uses.
    #[test]
    fn a_key_of_kubeadms_form_is_read() {
        let pem = include_str!("test-rsa-ca.crt");
        let key = include_bytes!("test-rsa-ca.key");
        let ca = given(&[pem.to_owned()]).unwrap().remove(0);
        assert!(is_key_of(key, &ca));
    }
}
