//! One entry's tar header: ustar, with a PAX header before it where ustar has no room. Same entry, same bytes.

use super::Metadata;

/// Tar counts in blocks of this size.
pub(crate) const BLOCK_LEN: u64 = 512;
/// Zero bytes that end a tar stream.
pub(super) const END: [u8; 1024] = [0; 1024];

/// Type of a ustar entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File = b'0' as isize,
    HardLink = b'1' as isize,
    Symlink = b'2' as isize,
    Directory = b'5' as isize,
}

const PAX_HEADER: u8 = b'x';
/// What 11 octal digits hold: sizes and times.
const MAX_OCTAL_11: u64 = (1 << 33) - 1;
/// What 7 octal digits hold: owners.
const MAX_OCTAL_7: u64 = (1 << 21) - 1;

/// Zero bytes between `len` bytes of content and the next header.
pub(crate) const fn padding(len: u64) -> usize {
    (len.next_multiple_of(BLOCK_LEN) - len) as usize
}

/// The header of one entry, and the PAX header before it if it needs one.
pub(super) fn header(name: &str, kind: Kind, link: &str, size: u64, metadata: &Metadata) -> Vec<u8> {
    let mut pax = Vec::new();
    let split = split_name(name);
    if split.is_none() {
        record(&mut pax, "path", name.as_bytes());
    }
    if link.len() > 100 || !link.is_ascii() {
        record(&mut pax, "linkpath", link.as_bytes());
    }
    if size > MAX_OCTAL_11 {
        record(&mut pax, "size", size.to_string().as_bytes());
    }
    for (key, id) in [("uid", metadata.uid), ("gid", metadata.gid)] {
        if u64::from(id) > MAX_OCTAL_7 {
            record(&mut pax, key, id.to_string().as_bytes());
        }
    }
    if !u64::try_from(metadata.mtime).is_ok_and(|mtime| mtime <= MAX_OCTAL_11) {
        record(&mut pax, "mtime", metadata.mtime.to_string().as_bytes());
    }
    for (key, value) in &metadata.xattrs {
        record(&mut pax, &format!("SCHILY.xattr.{key}"), value);
    }
    let mut bytes = Vec::with_capacity(512);
    if !pax.is_empty() {
        let plain = Metadata {
            mode: 0o644,
            ..Metadata::default()
        };
        bytes.extend(block(
            "PaxHeaders.0/entry",
            "",
            PAX_HEADER,
            "",
            pax.len() as u64,
            &plain,
        ));
        let padding = padding(pax.len() as u64);
        bytes.extend(pax);
        bytes.resize(bytes.len() + padding, 0);
    }
    let (prefix, name) = split.unwrap_or(("", "path-in-pax-header"));
    bytes.extend(block(name, prefix, kind as u8, link, size, metadata));
    bytes
}

/// `name` as ustar's prefix and name, if it fits.
fn split_name(name: &str) -> Option<(&str, &str)> {
    if !name.is_ascii() {
        return None;
    }
    if name.len() <= 100 {
        return Some(("", name));
    }
    // The slash between them is not stored, and neither part may be empty. A folder's last slash stays in the name.
    let body = name.strip_suffix('/').unwrap_or(name);
    body.match_indices('/')
        .map(|(at, _)| (&name[..at], &name[at + 1..]))
        .find(|(prefix, rest)| !prefix.is_empty() && prefix.len() <= 155 && rest.len() <= 100)
}

/// Appends `LEN KEY=VALUE\n`, where LEN counts itself.
fn record(pax: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while len != rest + len.to_string().len() {
        len = rest + len.to_string().len();
    }
    pax.extend(format!("{len} {key}=").as_bytes());
    pax.extend(value);
    pax.push(b'\n');
}

fn block(name: &str, prefix: &str, kind: u8, link: &str, size: u64, metadata: &Metadata) -> [u8; 512] {
    let mut block = [0; 512];
    let mut text = |at: usize, room: usize, text: &str| {
        let len = text.len().min(room);
        block[at..at + len].copy_from_slice(&text.as_bytes()[..len]);
    };
    let fits = |number: u64, most: u64| if number <= most { number } else { 0 };
    let mtime = u64::try_from(metadata.mtime).unwrap_or(0);
    text(0, 100, name);
    text(100, 8, &format!("{:07o}", metadata.mode & 0o7777));
    text(108, 8, &format!("{:07o}", fits(metadata.uid.into(), MAX_OCTAL_7)));
    text(116, 8, &format!("{:07o}", fits(metadata.gid.into(), MAX_OCTAL_7)));
    text(124, 12, &format!("{:011o}", fits(size, MAX_OCTAL_11)));
    text(136, 12, &format!("{:011o}", fits(mtime, MAX_OCTAL_11)));
    text(148, 8, "        ");
    text(157, 100, if link.is_ascii() { link } else { "" });
    text(257, 8, "ustar\x0000");
    text(345, 155, prefix);
    block[156] = kind;
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn another_reader_understands_every_field() {
        let long = format!("{}/{}", "d".repeat(200), "f".repeat(90));
        let split = format!("{}/{}", "d".repeat(120), "f".repeat(90));
        let target = "t".repeat(300);
        for name in ["etc/hosts", "ünïcode", &long, &split] {
            let metadata = Metadata {
                mode: 0o4755,
                uid: 3_000_000,
                gid: 7,
                mtime: -5,
                xattrs: vec![("user.note".into(), b"a=b\0c".to_vec())],
            };
            let mut tar = header(name, Kind::Symlink, &target, 0, &metadata);
            tar.extend(END);
            let mut archive = tar::Archive::new(&tar[..]);
            let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
            assert_eq!(entry.path_bytes(), name.as_bytes());
            assert_eq!(entry.link_name_bytes().unwrap(), target.as_bytes());
            assert_eq!(entry.header().mode().unwrap(), 0o4755);
            let records: Vec<_> = entry
                .pax_extensions()
                .unwrap()
                .unwrap()
                .map(Result::unwrap)
                .collect();
            let value = |key: &[u8]| {
                records
                    .iter()
                    .find(|r| r.key_bytes() == key)
                    .map(tar::PaxExtension::value_bytes)
            };
            assert_eq!(value(b"uid"), Some(&b"3000000"[..]));
            assert_eq!(value(b"mtime"), Some(&b"-5"[..]));
            assert_eq!(value(b"SCHILY.xattr.user.note"), Some(&b"a=b\0c"[..]));
        }
    }

    #[test]
    fn an_ordinary_file_needs_one_block() {
        let metadata = Metadata {
            mode: 0o644,
            ..Metadata::default()
        };
        let mut tar = header("a/b", Kind::File, "", 3, &metadata);
        assert_eq!(tar.len(), 512);
        tar.extend(b"abc");
        tar.resize(tar.len() + padding(3), 0);
        tar.extend(END);
        let mut archive = tar::Archive::new(&tar[..]);
        let mut text = String::new();
        archive
            .entries()
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "abc");
    }
}
