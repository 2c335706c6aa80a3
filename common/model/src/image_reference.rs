//! This module owns [`ImageReference`]: how people name an image.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Digest;

/// An image name: `[DOMAIN[:PORT]/]PATH[:TAG][@DIGEST]` (the grammar of the distribution project's references).
///
/// Without a tag and a digest the tag is `latest`. Names are kept as they were written: `kubernetes:v1.19.8`
/// stays that, no registry is put before it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageReference {
    name: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is not an image name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an image name: {reason}")]
pub struct ReferenceError {
    text: String,
    reason: &'static str,
}

impl ImageReference {
    /// Longest name without tag and digest, as docker has it.
    pub const MAX_NAME_LEN: usize = 255;
    /// Longest tag.
    pub const MAX_TAG_LEN: usize = 128;

    /// The name without tag and digest, e.g. `sea.hub:5000/library/nginx`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The tag; none when only a digest was given.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one was given.
    #[must_use]
    pub const fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The registry's address: the part before the first `/` when it has a `.`, a `:` or is `localhost`.
    #[must_use]
    pub fn domain(&self) -> Option<&str> {
        let (first, _) = self.name.split_once('/')?;
        (first.contains(['.', ':']) || first == "localhost").then_some(first)
    }

    /// The name without the registry's address.
    #[must_use]
    pub fn path(&self) -> &str {
        self.domain()
            .map_or(&self.name, |domain| &self.name[domain.len() + 1..])
    }
}

impl FromStr for ImageReference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let wrong = |reason| ReferenceError {
            text: text.chars().take(300).collect(),
            reason,
        };
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = digest
                    .parse()
                    .map_err(|_| wrong("after '@' comes sha256: and 64 hex digits"))?;
                (rest, Some(digest))
            }
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if name.is_empty() {
            return Err(wrong("the name is empty"));
        }
        if name.contains("://") {
            return Err(wrong(
                "a name begins with its registry or its path: leave out \"://\" and what is before it",
            ));
        }
        if name.len() > Self::MAX_NAME_LEN {
            return Err(wrong("the name is longer than 255 characters"));
        }
        if let Some(tag) = tag {
            check_tag(tag).map_err(wrong)?;
        }
        let reference = Self {
            name: name.to_owned(),
            tag: tag
                .map(str::to_owned)
                .or_else(|| digest.is_none().then(|| "latest".to_owned())),
            digest,
        };
        if let Some(domain) = reference.domain() {
            check_domain(domain).map_err(wrong)?;
        }
        for part in reference.path().split('/') {
            check_path_part(part).map_err(wrong)?;
        }
        Ok(reference)
    }
}

fn check_tag(tag: &str) -> Result<(), &'static str> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let bytes = tag.as_bytes();
    if bytes.is_empty() {
        return Err("after ':' comes a tag");
    }
    if bytes.len() > ImageReference::MAX_TAG_LEN {
        return Err("the tag is longer than 128 characters");
    }
    if word(bytes[0]) && bytes.iter().all(|&b| word(b) || b == b'.' || b == b'-') {
        Ok(())
    } else {
        Err("a tag is letters, digits, '_', '.' and '-', and does not start with '.' or '-'")
    }
}

/// Host and port of a registry's address, `HOST[:PORT]`; an IPv6 address stands in brackets, which are part of the host
/// (RFC 3986, section 3.2.2).
#[must_use]
pub fn host_and_port(address: &str) -> (&str, Option<&str>) {
    match address.rfind(':') {
        Some(at) if !address[at..].contains(']') => (&address[..at], Some(&address[at + 1..])),
        _ => (address, None),
    }
}

/// The port that `text` says in digits alone; no sign, as other programs' numbers may have (RFC 3986, section 3.2.3).
#[must_use]
pub fn port_number(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// The address in brackets, if `host` is one.
#[must_use]
pub fn ipv6_in_brackets(host: &str) -> Option<Ipv6Addr> {
    host.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

fn check_domain(domain: &str) -> Result<(), &'static str> {
    let (host, port) = host_and_port(domain);
    if host.contains([':', '[', ']']) {
        if ipv6_in_brackets(host).is_none() {
            return Err("an IPv6 address of a registry stands in brackets, as in [::1]:5000");
        }
    } else if !is_host_name(host) {
        return Err("the registry's address is not a host name");
    }
    if port.is_some_and(|port| port_number(port).is_none()) {
        return Err(
            "the registry's port is not a number from 0 to 65535; write it in digits alone, as in :5000",
        );
    }
    Ok(())
}

fn is_host_name(host: &str) -> bool {
    let legal = |part: &str| {
        !part.is_empty()
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    host.split('.').all(legal)
}

fn check_path_part(part: &str) -> Result<(), &'static str> {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = part.as_bytes();
    let edges =
        bytes.first().is_some_and(|&b| alphanumeric(b)) && bytes.last().is_some_and(|&b| alphanumeric(b));
    if part.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err("a name is lower case");
    }
    if !edges
        || !bytes
            .iter()
            .all(|&b| alphanumeric(b) || matches!(b, b'.' | b'_' | b'-'))
        || part.contains("..")
    {
        return Err("each part of a name is a-z, 0-9, with single '.', '_' or '-' between them");
    }
    Ok(())
}

impl TryFrom<String> for ImageReference {
    type Error = ReferenceError;

    fn try_from(text: String) -> Result<Self, ReferenceError> {
        text.parse()
    }
}

impl From<ImageReference> for String {
    fn from(reference: ImageReference) -> Self {
        reference.to_string()
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_parts() {
        let reference: ImageReference = "sea.hub:5000/library/nginx:1.25".parse().unwrap();
        assert_eq!(reference.domain(), Some("sea.hub:5000"));
        assert_eq!(reference.path(), "library/nginx");
        assert_eq!(reference.tag(), Some("1.25"));
        assert_eq!(reference.to_string(), "sea.hub:5000/library/nginx:1.25");
        assert_eq!(
            "kubernetes".parse::<ImageReference>().unwrap().to_string(),
            "kubernetes:latest"
        );
        assert_eq!(
            "sea.hub:5000/pause".parse::<ImageReference>().unwrap().tag(),
            Some("latest")
        );
    }

    #[test]
    fn a_registry_may_have_an_ipv6_address() {
        for (text, domain, path, tag) in [
            (
                "[::1]:5000/library/nginx:1.25",
                "[::1]:5000",
                "library/nginx",
                "1.25",
            ),
            ("[2001:DB8::5]/nginx", "[2001:DB8::5]", "nginx", "latest"),
        ] {
            let reference: ImageReference = text.parse().unwrap();
            assert_eq!(reference.domain(), Some(domain));
            assert_eq!((reference.path(), reference.tag()), (path, Some(tag)));
            assert_eq!(reference.to_string().parse(), Ok(reference));
        }
        assert_eq!(host_and_port("[::1]:5000"), ("[::1]", Some("5000")));
        assert_eq!(host_and_port("[::1]"), ("[::1]", None));
        assert_eq!(host_and_port("sea.hub:5000"), ("sea.hub", Some("5000")));
    }

    #[test]
    fn what_stands_before_the_first_slash_is_a_registry_if_it_looks_like_one() {
        for (text, domain, path) in [
            ("x", None, "x"),
            ("a/x", None, "a/x"),
            ("localhost/x", Some("localhost"), "x"),
            ("localhost:5000/x", Some("localhost:5000"), "x"),
            ("a.b/x", Some("a.b"), "x"),
            ("a:1/x", Some("a:1"), "x"),
            ("a.b:1/c/x", Some("a.b:1"), "c/x"),
            ("127.0.0.1/x", Some("127.0.0.1"), "x"),
            ("a/b.c/x", None, "a/b.c/x"),
            ("a:1", None, "a"),
        ] {
            let reference: ImageReference = text.parse().unwrap();
            assert_eq!((reference.domain(), reference.path()), (domain, path), "{text}");
        }
    }

    #[test]
    fn a_wrong_name_says_what_is_wrong() {
        for (text, reason) in [
            ("", "empty"),
            ("Kubernetes", "lower case"),
            ("a:", "after ':'"),
            ("a:-b", "does not start"),
            ("a/../b", "each part"),
            ("a@sha256:12", "after '@'"),
            ("h.st:99999/a", "port"),
            ("::1/a", "in brackets"),
            ("[::1/a", "in brackets"),
            ("[::1]x:5000/a", "in brackets"),
            ("[fe80::1%eth0]:5000/a", "in brackets"),
            ("[::1]:port/a", "port"),
        ] {
            let error = text.parse::<ImageReference>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
