//! The TLS verifiers of both sides of a session: the one check, and who is expected.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::KeyUsage;

use super::{CertificateProblem, Verdict, check_chain};
use crate::certificate::Role;
use crate::identity::{Identity, PeerIdentity};

/// Checks an agent's certificate, for a dialling side.
#[derive(Debug)]
pub(crate) struct AgentVerifier {
    pub(crate) identity: Identity,
    /// The name it must carry, when one is expected.
    pub(crate) expected: Option<String>,
    pub(crate) verdict: Verdict,
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
}

/// Checks the certificate of whoever dials an agent.
#[derive(Debug)]
pub(crate) struct OperatorVerifier {
    pub(crate) identity: Identity,
    pub(crate) verdict: Verdict,
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
}

impl AgentVerifier {
    fn judge(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<PeerIdentity, CertificateProblem> {
        let usage = KeyUsage::server_auth();
        let peer = check_chain(
            &self.identity,
            end_entity,
            intermediates,
            now,
            usage,
            self.algorithms,
        )?;
        if peer.role != Role::Agent {
            return Err(CertificateProblem::WrongRole {
                who: peer.to_string(),
                needed: "an agent's",
            });
        }
        match &self.expected {
            Some(expected) if *expected != peer.name => Err(CertificateProblem::WrongName {
                who: peer.to_string(),
                expected: expected.clone(),
            }),
            _ => Ok(peer),
        }
    }
}

impl OperatorVerifier {
    fn judge(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<PeerIdentity, CertificateProblem> {
        let usage = KeyUsage::client_auth();
        let peer = check_chain(
            &self.identity,
            end_entity,
            intermediates,
            now,
            usage,
            self.algorithms,
        )?;
        match peer.role {
            Role::Operator | Role::Reader => Ok(peer),
            Role::Agent => Err(CertificateProblem::WrongRole {
                who: peer.to_string(),
                needed: "an operator's or a reader's",
            }),
        }
    }
}

impl ServerCertVerifier for AgentVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verdict = self.judge(end_entity, intermediates, now);
        let answer = verdict
            .as_ref()
            .map(|_| ServerCertVerified::assertion())
            .map_err(CertificateProblem::to_tls);
        self.verdict.put(verdict);
        answer
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for OperatorVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verdict = self.judge(end_entity, intermediates, now);
        let answer = verdict
            .as_ref()
            .map(|_| ClientCertVerified::assertion())
            .map_err(CertificateProblem::to_tls);
        self.verdict.put(verdict);
        answer
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

pub(crate) fn tls12() -> Error {
    Error::General("TLS 1.2 is not spoken here".into())
}
