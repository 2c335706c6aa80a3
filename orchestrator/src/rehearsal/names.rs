//! Names that scripts ask for: a question of DNS (RFC 1035, section 4) is read and answered. Pure.
//!
//! Every name gets an address of its own out of a block that no network has, so that what is reached next has a name.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// Names that get an address of their own; those that come later share the last one.
const MAX_NAMES: usize = 4096;
/// The first address that is given: 198.18.0.0/15 is for measurements and routed nowhere (RFC 2544, appendix C).
const FIRST_ADDRESS: u32 = u32::from_be_bytes([198, 18, 0, 1]);

const HEADER_LEN: usize = 12;
/// Longest label and longest name, in bytes (RFC 1035, section 2.3.4).
const MAX_LABEL_LEN: usize = 63;
const MAX_NAME_LEN: usize = 255;
/// The only type that gets an address, and the class Internet.
const TYPE_A: u16 = 1;
const CLASS_IN: u16 = 1;
/// For how long an answer holds, in seconds.
const TIME_TO_LIVE: u32 = 60;
/// A response, to a question that wanted recursion, by somebody who offers it.
const RESPONSE: u16 = 0x8180;
const NO_SUCH_NAME: u16 = 3;

/// What somebody wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The name in small letters, without the dot at its end.
    pub name: String,
    id: [u8; 2],
    kind: u16,
    /// As it was asked.
    bytes: Vec<u8>,
}

impl Question {
    /// The question in a message of DNS; none when the message is anything but one question.
    #[must_use]
    pub fn read(message: &[u8]) -> Option<Self> {
        let header = message.get(..HEADER_LEN)?;
        let is_query = header[2] & 0xf8 == 0;
        if !is_query || header[4..6] != [0, 1] {
            return None;
        }
        let mut name = String::new();
        let mut at = HEADER_LEN;
        loop {
            let len = usize::from(*message.get(at)?);
            at += 1;
            if len == 0 {
                break;
            }
            // A question is the first thing in a message: it has nothing to point back to.
            if len > MAX_LABEL_LEN || at + len - HEADER_LEN > MAX_NAME_LEN {
                return None;
            }
            if !name.is_empty() {
                name.push('.');
            }
            let shown = |byte: &u8| {
                if byte.is_ascii_graphic() {
                    char::from(byte.to_ascii_lowercase())
                } else {
                    '\u{fffd}'
                }
            };
            name.extend(message.get(at..at + len)?.iter().map(shown));
            at += len;
        }
        let kind = message.get(at..at + 2)?;
        let bytes = message.get(HEADER_LEN..at + 4)?.to_vec();
        Some(Self {
            name,
            id: [header[0], header[1]],
            kind: u16::from_be_bytes([kind[0], kind[1]]),
            bytes,
        })
    }

    /// The answer: `address` where one is asked for, else nothing more than that the name is there. No address: no such name.
    #[must_use]
    pub fn answer(&self, address: Option<Ipv4Addr>) -> Vec<u8> {
        let found = address.filter(|_| self.kind == TYPE_A);
        let code = if address.is_none() { NO_SUCH_NAME } else { 0 };
        let mut message = self.id.to_vec();
        for number in [RESPONSE | code, 1, u16::from(found.is_some()), 0, 0] {
            message.extend(number.to_be_bytes());
        }
        message.extend(&self.bytes);
        if let Some(address) = found {
            // The name is the one of the question, at its place.
            message.extend([0xc0, HEADER_LEN as u8]);
            message.extend(TYPE_A.to_be_bytes());
            message.extend(CLASS_IN.to_be_bytes());
            message.extend(TIME_TO_LIVE.to_be_bytes());
            message.extend([0, 4]);
            message.extend(address.octets());
        }
        message
    }
}

/// Which address stands for which name.
#[derive(Debug, Default)]
pub(super) struct Names {
    addresses: BTreeMap<String, Ipv4Addr>,
    names: BTreeMap<Ipv4Addr, String>,
}

impl Names {
    /// The address that stands for `name`.
    pub(super) fn address(&mut self, name: &str) -> Ipv4Addr {
        if let Some(address) = self.addresses.get(name) {
            return *address;
        }
        let number = self.addresses.len().min(MAX_NAMES - 1);
        let address = Ipv4Addr::from(FIRST_ADDRESS + u32::try_from(number).unwrap_or(0));
        if self.addresses.len() < MAX_NAMES {
            self.addresses.insert(name.to_owned(), address);
            self.names.insert(address, name.to_owned());
        }
        address
    }

    /// The name that `address` stands for.
    pub(super) fn name(&self, address: Ipv4Addr) -> Option<&str> {
        self.names.get(&address).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `Example.com`, type A, as dig asks.
    const QUERY: &[u8] = b"\x12\x34\x01\x20\0\x01\0\0\0\0\0\0\x07Example\x03com\0\0\x01\0\x01";

    #[test]
    fn a_question_is_answered_with_the_address_of_its_name() {
        let question = Question::read(QUERY).unwrap();
        assert_eq!(question.name, "example.com");
        let mut names = Names::default();
        let address = names.address(&question.name);
        assert_eq!(address, Ipv4Addr::new(198, 18, 0, 1));
        assert_eq!(names.address("example.com"), address);
        assert_ne!(names.address("other.example"), address);
        assert_eq!(names.name(address), Some("example.com"));
        let answer = question.answer(Some(address));
        assert_eq!(
            answer,
            b"\x12\x34\x81\x80\0\x01\0\x01\0\0\0\0\x07Example\x03com\0\0\x01\0\x01\
              \xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xc6\x12\0\x01"
        );
    }

    #[test]
    fn other_types_have_no_address_and_other_names_are_not_there() {
        let mut query = QUERY.to_vec();
        let kind = query.len() - 3;
        query[kind] = 28;
        let question = Question::read(&query).unwrap();
        let answer = question.answer(Some(Ipv4Addr::LOCALHOST));
        assert_eq!(answer[..8], *b"\x12\x34\x81\x80\0\x01\0\0");
        assert_eq!(question.answer(None)[..4], *b"\x12\x34\x81\x83");
    }

    #[test]
    fn what_is_no_question_is_not_answered() {
        for end in 0..QUERY.len() {
            assert_eq!(Question::read(&QUERY[..end]), None, "{end}");
        }
        let mut pointer = QUERY.to_vec();
        pointer[12] = 0xc0;
        assert_eq!(Question::read(&pointer), None);
        let mut response = QUERY.to_vec();
        response[2] |= 0x80;
        assert_eq!(Question::read(&response), None);
    }

    #[test]
    fn names_that_come_too_late_share_an_address() {
        let mut names = Names::default();
        for number in 0..MAX_NAMES {
            names.address(&format!("{number}.example"));
        }
        let last = names.address("more.example");
        assert_eq!(last, names.address("even.more.example"));
        assert_eq!(names.addresses.len(), MAX_NAMES);
    }
}
