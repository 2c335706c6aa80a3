//! This module owns reading `WWW-Authenticate` (RFC 9110, section 11.6.1): how a registry wants to be asked.

use crate::limits::MAX_CHALLENGE_LEN;

/// One way to authenticate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// The scheme, lower case: `basic`, `bearer`.
    pub scheme: String,
    /// Its parameters, names in lower case, in order.
    pub parameters: Vec<(String, String)>,
}

impl Challenge {
    /// The value of a parameter.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.parameters.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// The challenges of one header. What comes after a mistake in it is left out: there is nothing to learn from it.
#[must_use]
pub fn parse_challenges(header: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    if header.len() > MAX_CHALLENGE_LEN {
        return challenges;
    }
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let Some((word, after)) = token(rest) else {
            return challenges;
        };
        let spaced = after.trim_start_matches([' ', '\t']);
        match (spaced.strip_prefix('='), challenges.last_mut()) {
            // `name = value` belongs to the challenge before it.
            (Some(value), Some(challenge)) => {
                let Some((value, after)) = value_of(value.trim_start_matches([' ', '\t'])) else {
                    return challenges;
                };
                challenge.parameters.push((word.to_ascii_lowercase(), value));
                rest = after;
            }
            (Some(_), None) => return challenges,
            (None, _) => {
                challenges.push(Challenge {
                    scheme: word.to_ascii_lowercase(),
                    parameters: Vec::new(),
                });
                rest = after;
            }
        }
    }
}

/// The token that `text` begins with, and what follows.
fn token(text: &str) -> Option<(&str, &str)> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~/".contains(&b);
    let end = text.bytes().position(|b| !legal(b)).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// The value, quoted or not, that `text` begins with, and what follows.
fn value_of(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        // Some servers do not quote addresses.
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (end > 0).then(|| (text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn challenges_of_registries_are_understood() {
        let docker = parse_challenges(
            r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/nginx:pull,push""#,
        );
        assert_eq!(docker.len(), 1);
        assert_eq!(docker[0].get("realm"), Some("https://auth.docker.io/token"));
        assert_eq!(docker[0].get("scope"), Some("repository:library/nginx:pull,push"));
        let two = parse_challenges(r#"Basic realm="a \"b\", c" , BEARER Realm=https://t/x, service = "s""#);
        assert_eq!(
            (two[0].scheme.as_str(), two[0].get("realm")),
            ("basic", Some(r#"a "b", c"#))
        );
        assert_eq!(
            (two[1].scheme.as_str(), two[1].get("realm")),
            ("bearer", Some("https://t/x"))
        );
        assert_eq!(two[1].get("service"), Some("s"));
        for nothing in ["", "=", "realm=\"x\"", "\"", ","] {
            assert!(parse_challenges(nothing).is_empty(), "{nothing}");
        }
        assert_eq!(parse_challenges("Bearer realm=\"open").len(), 1);
    }

    proptest! {
        #[test]
        fn no_header_is_too_strange(header in ".{0,300}") {
            let _ = parse_challenges(&header);
        }

        #[test]
        fn what_is_written_is_read(
            scheme in "[a-z]{1,10}",
            parameters in prop::collection::vec(("[a-z]{1,8}", "[ -~]{0,40}"), 0..5),
        ) {
            let quoted: Vec<String> = parameters
                .iter()
                .map(|(name, value)| format!("{name}=\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"")))
                .collect();
            let read = parse_challenges(&format!("{scheme} {}", quoted.join(", ")));
            prop_assert_eq!(read, vec![Challenge { scheme, parameters }]);
        }
    }
}
