//! This module owns how platforms are written: `OS/ARCH[/VARIANT]`.

use gantry_store::Platform;

/// A platform as people write it.
///
/// # Errors
/// When it is none, or none of a cluster host: what is wrong.
pub fn parse(text: &str) -> Result<Platform, String> {
    let mut parts = text.split('/');
    let word = |part: Option<&str>| {
        let part = part?;
        let legal = !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        legal.then(|| part.to_owned())
    };
    if text.contains(',') {
        return Err("one platform at a time is meant here".to_owned());
    }
    let (os, architecture) = (word(parts.next()), word(parts.next()));
    let variant = parts.next();
    match (os, architecture, word(variant), parts.next()) {
        (Some(os), Some(architecture), checked, None) if checked.is_some() == variant.is_some() => {
            if os != "linux" {
                return Err(format!(
                    "{os} is no operating system of a cluster host; write linux/amd64 or linux/arm64"
                ));
            }
            Ok(Platform {
                architecture,
                os,
                variant: checked,
            })
        }
        _ => Err("a platform is written OS/ARCH[/VARIANT], e.g. linux/amd64".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_platform_is_os_and_architecture() {
        assert_eq!(parse("linux/arm64/v8").unwrap().variant.as_deref(), Some("v8"));
        for text in [
            "",
            "linux",
            "linux/",
            "linux/amd64,linux/arm64",
            "linux/amd64/",
            "windows/amd64",
            "linux/a/b/c",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
