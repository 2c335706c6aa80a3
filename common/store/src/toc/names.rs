//! Which names may be in a layer: the one place that decides it, for tables of contents, tar streams and trees.

use std::borrow::Cow;

use crate::limits::{
    MAX_NAME_LEN, MAX_PATH_DEPTH, MAX_PATH_LEN, MAX_XATTR_LEN, MAX_XATTR_NAME_LEN, MAX_XATTRS,
};

/// Prefix of the name of a file that hides its namesake in lower layers (OCI image-spec, "Whiteouts").
pub(crate) const WHITEOUT_PREFIX: &str = ".wh.";
/// Name of the file that hides everything lower layers have in its folder.
pub(crate) const OPAQUE_NAME: &str = ".wh..wh..opq";

/// The path below the layer's root that `name` means: without `./` before and `/` behind, empty for the root, which umoci calls
/// `/`.
///
/// # Errors
/// What is wrong with it, in words.
pub(crate) fn normalise(name: &str) -> Result<&str, Cow<'static, str>> {
    if name.len() > MAX_PATH_LEN + 2 {
        return Err(format!(
            "its path has {} bytes, at most {MAX_PATH_LEN} are allowed",
            name.len()
        )
        .into());
    }
    if name.contains('\0') {
        return Err("its path has a NUL byte".into());
    }
    if name.starts_with('/') && name != "/" {
        return Err("its path is absolute; paths in a layer start below its root".into());
    }
    let mut path = name.strip_suffix('/').unwrap_or(name);
    while let Some(rest) = path.strip_prefix("./") {
        path = rest;
    }
    if path == "." || path.is_empty() {
        return Ok("");
    }
    if path.len() > MAX_PATH_LEN {
        return Err(format!(
            "its path has {} bytes, at most {MAX_PATH_LEN} are allowed",
            path.len()
        )
        .into());
    }
    for (depth, part) in path.split('/').enumerate() {
        match part {
            "" => return Err("its path has an empty part".into()),
            "." => return Err("its path has a \".\" inside".into()),
            ".." => return Err("its path has a \"..\"; nothing may lead out of the layer".into()),
            _ if part.len() > MAX_NAME_LEN => {
                let len = part.len();
                return Err(
                    format!("a name in it has {len} bytes, at most {MAX_NAME_LEN} are allowed").into(),
                );
            }
            _ if depth >= MAX_PATH_DEPTH => {
                return Err(format!("its path is deeper than {MAX_PATH_DEPTH} folders").into());
            }
            _ => {}
        }
    }
    Ok(path)
}

/// The folder `path` lies in: empty for the root. None for the root itself.
pub(crate) fn parent(path: &str) -> Option<&str> {
    match path.rsplit_once('/') {
        Some((parent, _)) => Some(parent),
        None if path.is_empty() => None,
        None => Some(""),
    }
}

/// The last part of `path`.
pub(crate) fn base(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

/// `folder/name`, where `folder` may be the root.
pub(crate) fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() {
        name.to_owned()
    } else {
        format!("{folder}/{name}")
    }
}

/// What a name stands for in the language of whiteouts.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// An ordinary file.
    None,
    /// Hides this path of lower layers.
    Whiteout(String),
    /// Hides everything that lower layers have in this folder.
    Opaque(String),
}

/// What the entry at `path` stands for.
///
/// # Errors
/// When it uses the reserved prefix in a way that means nothing.
pub(crate) fn mark(path: &str) -> Result<Mark, Cow<'static, str>> {
    let folder = parent(path).unwrap_or_default();
    if folder.split('/').any(|part| part.starts_with(WHITEOUT_PREFIX)) {
        return Err(
            "it lies in a folder whose name starts with \".wh.\", which is reserved for whiteouts".into(),
        );
    }
    let name = base(path);
    if name == OPAQUE_NAME {
        return Ok(Mark::Opaque(folder.to_owned()));
    }
    match name.strip_prefix(WHITEOUT_PREFIX) {
        None => Ok(Mark::None),
        Some(hidden)
            if hidden.is_empty() || matches!(hidden, "." | "..") || hidden.starts_with(WHITEOUT_PREFIX) =>
        {
            Err("names that start with \".wh.\" are reserved for whiteouts, and this is none".into())
        }
        Some(hidden) => Ok(Mark::Whiteout(join(folder, hidden))),
    }
}

/// Whether layers carry this extended attribute: file capabilities and the user's own. Labels of the host that built
/// the layer, access lists and overlay's own marks stay out.
pub(crate) fn carries_xattr(name: &str) -> bool {
    name == "security.capability"
        || name
            .strip_prefix("user.")
            .is_some_and(|rest| !rest.is_empty() && !rest.starts_with("overlay."))
}

/// Whether these extended attributes are within bounds.
///
/// # Errors
/// What is wrong, in words.
pub(crate) fn check_xattrs(xattrs: &[(String, Vec<u8>)]) -> Result<(), Cow<'static, str>> {
    if xattrs.len() > MAX_XATTRS {
        return Err(format!(
            "it has {} extended attributes, at most {MAX_XATTRS} are allowed",
            xattrs.len()
        )
        .into());
    }
    for (name, value) in xattrs {
        if name.len() > MAX_XATTR_NAME_LEN || name.contains('\0') {
            return Err("an extended attribute has a name the kernel does not allow".into());
        }
        if value.len() > MAX_XATTR_LEN {
            return Err(
                format!("its extended attribute {name:?} is longer than {MAX_XATTR_LEN} bytes").into(),
            );
        }
    }
    Ok(())
}

/// `text` short enough for a message.
pub(crate) fn readable(text: &str) -> String {
    const MOST: usize = 160;
    if text.chars().count() <= MOST {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(MOST).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_are_kept_and_the_root_is_empty() {
        for (name, path) in [
            ("a/b", "a/b"),
            ("./a/b/", "a/b"),
            ("./", ""),
            ("/", ""),
            (".", ""),
            ("", ""),
            ("a..b", "a..b"),
        ] {
            assert_eq!(normalise(name).unwrap(), path, "{name}");
        }
    }

    #[test]
    fn names_that_lead_out_or_are_too_long_are_refused() {
        let long = "x/".repeat(2500);
        let wide = "y".repeat(256);
        let deep = "d/".repeat(300);
        for name in [
            "/etc/passwd",
            "..",
            "a/../b",
            "a//b",
            "a/./b",
            "a\0b",
            &long,
            &wide,
            &deep,
        ] {
            assert!(normalise(name).is_err(), "{name:.20}");
        }
        assert!(
            normalise(&long).unwrap_err().contains("5000 bytes"),
            "says how long it is"
        );
    }

    #[test]
    fn whiteouts_are_told_from_files() {
        assert_eq!(mark("a/b").unwrap(), Mark::None);
        assert_eq!(mark("a/.wh.b").unwrap(), Mark::Whiteout("a/b".into()));
        assert_eq!(mark(".wh..wh..opq").unwrap(), Mark::Opaque(String::new()));
        for name in ["a/.wh.", "a/.wh...", "a/.wh..", ".wh..wh.plnk", ".wh.a/b"] {
            assert!(mark(name).is_err(), "{name}");
        }
    }

    #[test]
    fn only_capabilities_and_the_users_own_attributes_are_carried() {
        assert!(carries_xattr("security.capability") && carries_xattr("user.note"));
        for name in [
            "security.selinux",
            "trusted.overlay.opaque",
            "user.overlay.opaque",
            "system.posix_acl_access",
        ] {
            assert!(!carries_xattr(name), "{name}");
        }
    }
}
