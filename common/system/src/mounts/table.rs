//! The text of `/proc/self/mountinfo` (proc(5)).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

/// One line of the mount table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountPoint {
    /// Where it is mounted.
    pub target: PathBuf,
    /// File system type, e.g. `overlay`.
    pub kind: String,
    /// The file system's own options, e.g. `rw,lowerdir=…`.
    pub options: String,
}

/// The mounts in the text of a mountinfo file. Lines of another shape are left out.
#[must_use]
pub fn parse_mountinfo(text: &[u8]) -> Vec<MountPoint> {
    text.split(|&byte| byte == b'\n').filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<MountPoint> {
    // 36 35 98:0 /root /target rw,noatime shared:1 - ext4 /dev/root rw,errors=continue
    let mut fields = line.split(|&byte| byte == b' ');
    let target = fields.nth(4)?;
    let mut after = fields.skip_while(|field| *field != b"-").skip(1);
    let kind = String::from_utf8_lossy(after.next()?).into_owned();
    let options = after
        .nth(1)
        .map(|options| String::from_utf8_lossy(options).into_owned())
        .unwrap_or_default();
    Some(MountPoint {
        target: PathBuf::from(OsString::from_vec(unescape(target))),
        kind,
        options,
    })
}

/// Blank, tab, newline and backslash are written as three octal digits.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = |digit: &u8| digit.checked_sub(b'0').filter(|value| *value < 8);
        if byte == b'\\'
            && let [a, b, c, after @ ..] = tail
            && let (Some(a), Some(b), Some(c)) = (octal(a), octal(b), octal(c))
        {
            plain.push(a << 6 | b << 3 | c);
            rest = after;
        } else {
            plain.push(byte);
            rest = tail;
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_types_and_options_are_found_with_and_without_optional_fields() {
        let text = b"21 1 8:1 / / rw,relatime shared:1 master:2 - ext4 /dev/vda rw\n\
            66 43 0:39 / /var/lib/a\\040b\\134c rw - overlay overlay rw,lowerdir=/a:/b\n\
            garbage\n";
        let mounts = parse_mountinfo(text);
        assert_eq!(mounts.len(), 2);
        assert_eq!((mounts[0].target.to_str(), &*mounts[0].kind), (Some("/"), "ext4"));
        assert_eq!(mounts[1].target.to_str(), Some("/var/lib/a b\\c"));
        assert_eq!(mounts[1].options, "rw,lowerdir=/a:/b");
    }
}
