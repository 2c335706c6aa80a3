//! A fake: certificates dated as if it were another day. The clock of this machine is everybody's, so a host whose
//! clock is a day off, or which was off for two years, cannot be had here; what both ends then see of each other's
//! certificate can.

use std::fs;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use rcgen::{
    CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};

use crate::{Host, Operator};

/// A day, in which clocks of machine rooms differ once in a while.
pub const DAY: Duration = Duration::from_secs(24 * 3600);

/// Where an agent keeps its identity.
const IDENTITY: &str = "/var/lib/gantry/agent/identity";

impl Host {
    /// Gives the agent the certificate that it would have if it had been enrolled at another time: the operator's CA,
    /// the host's own key and name, other dates. The agent is started again with it.
    ///
    /// # Errors
    /// When the host is not enrolled, or its agent does not start.
    pub fn dates_certificate(&self, operator: &Operator, from: SystemTime, until: SystemTime) -> Result<()> {
        let pki = operator.root().join("orchestrator/pki");
        let read = |path: &std::path::Path| {
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
        };
        let ca_key = KeyPair::from_pem(&read(&pki.join("ca.key.pem"))?)?;
        let issuer = Issuer::from_ca_cert_pem(&read(&pki.join("ca.pem"))?, ca_key)?;
        let identity = self.path(IDENTITY)?;
        let key = KeyPair::from_pem(&read(&identity.join("key.pem"))?)?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let name = format!("gantry://agent/{}", self.address());
        params.subject_alt_names = vec![SanType::URI(name.as_str().try_into()?)];
        params.not_before = from.into();
        params.not_after = until.into();
        params.serial_number = Some(SerialNumber::from_slice(&[0x40, 7]));
        fs::write(identity.join("cert.pem"), params.signed_by(&key, &issuer)?.pem())?;
        self.must("systemctl restart gantry-agent")?;
        self.wait_for_agent()
    }
}
