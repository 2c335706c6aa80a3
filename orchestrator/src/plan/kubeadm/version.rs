//! This module owns [`Version`]: a version of Kubernetes, as far as it decides what may follow what.

/// `v1.20.2`. What a builder puts behind it does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version {
    major: u32,
    minor: u32,
    patch: u32,
}

impl Version {
    /// The version in `text`; none when it is not one.
    pub(super) fn read(text: &str) -> Option<Self> {
        let numbers = text.strip_prefix('v').unwrap_or(text);
        let numbers = numbers.split(['-', '+']).next()?;
        let mut numbers = numbers.split('.').map(|number| number.parse().ok());
        let mut next = || numbers.next().flatten();
        let version = Self {
            major: next()?,
            minor: next()?,
            patch: next()?,
        };
        next().is_none().then_some(version)
    }

    /// Whether both are of one minor version.
    pub(super) const fn is_of_the_minor_of(&self, other: &Self) -> bool {
        self.major == other.major && self.minor == other.minor
    }

    /// Whether there is a minor version between `old` and this one.
    pub(super) const fn skips_a_minor_after(&self, old: &Self) -> bool {
        self.major != old.major || self.minor > old.minor + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_and_compared_by_its_numbers() {
        let read = |text| Version::read(text).unwrap();
        assert!(read("v1.20.10") > read("v1.20.9"));
        assert_eq!(read("v1.20.2-vendor.7"), read("1.20.2"));
        for odd in ["", "v1.20", "v1.x.2", "v1.20.2.3", "latest"] {
            assert_eq!(Version::read(odd), None, "{odd}");
        }
    }

    #[test]
    fn no_minor_version_is_left_out() {
        let old = Version::read("v1.20.2").unwrap();
        let skips = |text| Version::read(text).unwrap().skips_a_minor_after(&old);
        assert!(!skips("v1.20.9") && !skips("v1.21.0"));
        assert!(skips("v1.22.0") && skips("v2.0.0"));
    }
}
