//! This module owns [`IpRange`]: a block of addresses, written as RFC 4632 (section 3.1) and RFC 4291 (section 2.3) do.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// All addresses that share their first bits: `10.96.0.0/12`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IpRange {
    address: IpAddr,
    prefix: u8,
}

/// Why a text is no block of addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no range of addresses; one is written like 10.96.0.0/12 or fd00:10:96::/112")]
pub struct IpRangeError(String);

impl IpRange {
    /// The block of `prefix` bits that `address` is in; none when the address has fewer bits.
    #[must_use]
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        let address = match address {
            IpAddr::V4(v4) if prefix <= 32 => {
                let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from(u32::from(v4) & mask))
            }
            IpAddr::V6(v6) if prefix <= 128 => {
                let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from(u128::from(v6) & mask))
            }
            _ => return None,
        };
        Some(Self { address, prefix })
    }

    /// Its first address.
    #[must_use]
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// How many bits its addresses share.
    #[must_use]
    pub const fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether `address` is in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        Self::new(address, self.prefix).is_some_and(|range| range.address == self.address)
    }

    /// Whether any address is in both: then one holds the other.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }
}

impl FromStr for IpRange {
    type Err = IpRangeError;

    fn from_str(text: &str) -> Result<Self, IpRangeError> {
        let wrong = || IpRangeError(text.chars().take(96).collect());
        let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let digits = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
        let (address, prefix) = match (address.parse(), prefix.parse()) {
            (Ok(address), Ok(prefix)) if digits => (address, prefix),
            _ => return Err(wrong()),
        };
        Self::new(address, prefix).ok_or_else(wrong)
    }
}

impl TryFrom<String> for IpRange {
    type Error = IpRangeError;

    fn try_from(text: String) -> Result<Self, IpRangeError> {
        text.parse()
    }
}

impl From<IpRange> for String {
    fn from(range: IpRange) -> Self {
        range.to_string()
    }
}

impl fmt::Display for IpRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> IpRange {
        text.parse().unwrap()
    }

    #[test]
    fn a_range_is_written_by_its_first_address() {
        assert_eq!(range("10.96.3.7/22").to_string(), "10.96.0.0/22");
        assert_eq!(range("fd00::7/112").to_string(), "fd00::/112");
        assert_eq!(range("1.2.3.4/0").to_string(), "0.0.0.0/0");
        for odd in [
            "",
            "10.0.0.0",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "10.0.0.0/",
            "fd00::/129",
            "x/8",
        ] {
            assert!(odd.parse::<IpRange>().is_err(), "{odd}");
        }
    }

    #[test]
    fn ranges_overlap_when_one_holds_the_other() {
        assert!(range("10.96.0.0/12").overlaps(&range("10.100.1.0/24")));
        assert!(range("10.100.1.0/24").overlaps(&range("10.96.0.0/12")));
        assert!(!range("10.96.0.0/16").overlaps(&range("10.97.0.0/16")));
        assert!(!range("0.0.0.0/0").overlaps(&range("::/0")), "of one kind only");
        assert!(range("10.0.0.0/8").contains("10.1.2.3".parse().unwrap()));
    }
}
