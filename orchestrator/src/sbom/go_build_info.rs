//! This module owns [`GoBuildInfo`]: what Go programs, since Go 1.18, say they were made of (Go's `debug/buildinfo`).
//!
//! ```text
//! "\xff Go buildinf:" ptrSize flags 16 bytes | length, Go's version | length, 16 bytes, lines, 16 bytes
//! ```
//!
//! Lengths are variable (LEB128). The lines are `path`, `mod`, `dep`, `=>` and `build`, with tabs between their fields.

/// What the block starts with; it lies at a multiple of its own length.
const MAGIC: &[u8; 14] = b"\xff Go buildinf:";
const ALIGNMENT: u64 = 16;
const HEADER_LEN: usize = 32;
/// What programs start with.
const ELF: &[u8; 4] = b"\x7fELF";
/// The flag that says that the texts follow the header; programs of before point to them.
const FLAG_INLINE: u8 = 2;
/// What stands before and behind the lines.
const SENTINEL_LEN: usize = 16;
/// Most bytes of a block: programs with a thousand dependencies have a tenth of it.
const MAX_BLOCK_LEN: usize = 1 << 20;
/// Most blocks that are tried: Go's own tools have the beginning of one among their constants.
const MAX_BLOCKS: usize = 8;

/// A module of Go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct GoModule {
    pub(super) path: String,
    /// `v1.2.3`; `(devel)` for one that was built where it was written.
    pub(super) version: String,
}

/// What a Go program was made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GoBuildInfo {
    /// Of Go: `1.22.3`.
    pub(super) go: String,
    /// The package of its `main`.
    pub(super) path: String,
    /// The module of its own.
    pub(super) module: Option<GoModule>,
    /// The modules it was made with, as they were replaced.
    pub(super) dependencies: Vec<GoModule>,
    /// What it was built with: `-ldflags`, `vcs.revision`, ….
    settings: Vec<(String, String)>,
}

impl GoBuildInfo {
    /// Its version: that of its module, else what was linked in as one, else the commit it was built from.
    pub(super) fn version(&self) -> Option<String> {
        let of_module = self.module.as_ref().map(|module| module.version.as_str());
        if let Some(version) = of_module.filter(|version| !matches!(*version, "" | "(devel)")) {
            return Some(version.to_owned());
        }
        let setting = |key: &str| {
            let found = self.settings.iter().find(|(name, _)| name == key);
            found.map(|(_, value)| value.as_str())
        };
        let linked = setting("-ldflags").and_then(linked_version);
        linked.or_else(|| setting("vcs.revision").map(str::to_owned))
    }

    fn parse(go: &str, lines: &str) -> Option<Self> {
        let mut info = Self {
            go: go.strip_prefix("go").unwrap_or(go).to_owned(),
            path: String::new(),
            module: None,
            dependencies: Vec::new(),
            settings: Vec::new(),
        };
        for line in lines.lines() {
            let mut fields = line.split('\t');
            let kind = fields.next()?;
            let mut module = || {
                Some(GoModule {
                    path: fields.next()?.to_owned(),
                    version: fields.next().unwrap_or_default().to_owned(),
                })
            };
            match kind {
                "path" => info.path = line.split_once('\t')?.1.to_owned(),
                "mod" => info.module = module(),
                "dep" => info.dependencies.extend(module()),
                "=>" => {
                    if let (Some(last), Some(by)) = (info.dependencies.last_mut(), module()) {
                        *last = by;
                    }
                }
                "build" => {
                    let setting = line.split_once('\t')?.1.split_once('=');
                    info.settings
                        .extend(setting.map(|(name, value)| (name.to_owned(), unquoted(value))));
                }
                _ => {}
            }
        }
        (!info.path.is_empty()).then_some(info)
    }
}

/// The version in `-X k8s.io/component-base/version.gitVersion=v1.31.4` and its like.
fn linked_version(flags: &str) -> Option<String> {
    let words = flags
        .split([' ', '\t', '\n'])
        .map(|word| word.trim_matches(['\'', '"']));
    let assigned = words.filter_map(|word| word.split_once('='));
    let versions = assigned.filter(|(name, value)| {
        let name = name.rsplit(['.', '/']).next().unwrap_or_default().to_lowercase();
        let is_one = ["version", "gitversion", "buildversion"].contains(&name.as_str());
        let digits = value.strip_prefix('v').unwrap_or(value);
        is_one && digits.starts_with(|c: char| c.is_ascii_digit())
    });
    versions.map(|(_, value)| value.to_owned()).next()
}

/// A value as Go quotes it where it has blanks or quotes.
fn unquoted(value: &str) -> String {
    match value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(inner) => inner.replace("\\\"", "\"").replace("\\\\", "\\"),
        None => value.trim_matches('`').to_owned(),
    }
}

/// Looks for the block in a file that comes piece by piece.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    /// Bytes that went by.
    at: u64,
    /// The first of them.
    head: Vec<u8>,
    /// The last of them, fewer than the magic.
    tail: Vec<u8>,
    /// Blocks in the making.
    blocks: Vec<Vec<u8>>,
}

impl Scanner {
    /// Takes the next piece.
    pub(super) fn take(&mut self, piece: &[u8]) {
        let missing = ELF.len() - self.head.len();
        self.head.extend_from_slice(&piece[..missing.min(piece.len())]);
        if !ELF.starts_with(&self.head) {
            return;
        }
        for block in &mut self.blocks {
            let room = MAX_BLOCK_LEN.saturating_sub(block.len());
            block.extend_from_slice(&piece[..room.min(piece.len())]);
        }
        // It may begin in one piece and go on in the next.
        let window = [&self.tail[..], piece].concat();
        let start = self.at - self.tail.len() as u64;
        for place in places(&window) {
            self.begin(start + place as u64, &window[place + MAGIC.len()..]);
        }
        self.at += piece.len() as u64;
        self.tail = window[window.len().saturating_sub(MAGIC.len() - 1)..].to_vec();
    }

    fn begin(&mut self, at: u64, rest: &[u8]) {
        if at.is_multiple_of(ALIGNMENT) && self.blocks.len() < MAX_BLOCKS {
            let mut block = MAGIC.to_vec();
            block.extend_from_slice(&rest[..rest.len().min(MAX_BLOCK_LEN)]);
            self.blocks.push(block);
        }
    }

    /// What was found.
    pub(super) fn finish(self) -> Option<GoBuildInfo> {
        self.blocks.iter().find_map(|block| read_block(block))
    }
}

fn places(bytes: &[u8]) -> impl Iterator<Item = usize> {
    let windows = bytes.windows(MAGIC.len()).enumerate();
    windows
        .filter(|(_, window)| window[0] == MAGIC[0] && *window == MAGIC)
        .map(|(place, _)| place)
}

fn read_block(block: &[u8]) -> Option<GoBuildInfo> {
    if block.get(15)? & FLAG_INLINE == 0 {
        return None;
    }
    let (go, rest) = text(block.get(HEADER_LEN..)?)?;
    let (lines, _) = text(rest)?;
    let lines = lines.get(SENTINEL_LEN..lines.len().checked_sub(SENTINEL_LEN)?)?;
    GoBuildInfo::parse(std::str::from_utf8(go).ok()?, std::str::from_utf8(lines).ok()?)
}

/// A text with its length before it, and what comes behind it.
fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (mut len, mut shift, mut at) = (0_u64, 0_u32, 0);
    loop {
        let byte = *bytes.get(at)?;
        at += 1;
        len |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            break;
        }
        shift += 7;
        if shift > 28 {
            return None;
        }
    }
    let rest = bytes.get(at..)?;
    rest.split_at_checked(usize::try_from(len).ok()?)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A program with a block as Go's linker writes it.
    pub(crate) fn program(lines: &str) -> Vec<u8> {
        let mut file = b"\x7fELF".to_vec();
        file.resize(4096, 0);
        // A constant that begins like it, elsewhere and with the older flag.
        file.extend_from_slice(MAGIC);
        file.resize(file.len().next_multiple_of(16), 0);
        file.resize(file.len() + 48, 1);
        file.extend_from_slice(MAGIC);
        file.extend_from_slice(&[8, FLAG_INLINE]);
        file.resize(file.len() + 16, 0);
        let mut text = |bytes: &[u8]| {
            let mut len = bytes.len();
            while len >= 0x80 {
                file.push(len as u8 | 0x80);
                len >>= 7;
            }
            file.push(len as u8);
            file.extend_from_slice(bytes);
        };
        text(b"go1.22.3");
        let sentinel = [7; SENTINEL_LEN];
        text(&[&sentinel[..], lines.as_bytes(), &sentinel[..]].concat());
        file.resize(file.len() + 5000, 2);
        file
    }

    const LINES: &str = "path\tk8s.io/kubernetes/cmd/kubeadm\nmod\tk8s.io/kubernetes\t(devel)\t\ndep\tgithub.com/spf13/cobra\tv1.8.0\th1:x=\n\
                         dep\tk8s.io/api\tv0.0.0\n=>\t./staging/src/k8s.io/api\t(devel)\n\
                         build\t-ldflags=\"-X 'k8s.io/component-base/version.gitVersion=v1.31.4' -s\"\nbuild\tvcs.revision=abc\n";

    fn scan(file: &[u8], piece: usize) -> Option<GoBuildInfo> {
        let mut scanner = Scanner::default();
        file.chunks(piece).for_each(|piece| scanner.take(piece));
        scanner.finish()
    }

    #[test]
    fn a_program_says_what_it_was_made_of_however_it_is_cut() {
        let file = program(LINES);
        let whole = scan(&file, file.len()).unwrap();
        assert_eq!(
            (whole.go.as_str(), whole.path.as_str()),
            ("1.22.3", "k8s.io/kubernetes/cmd/kubeadm")
        );
        assert_eq!(whole.version().as_deref(), Some("v1.31.4"));
        let paths: Vec<&str> = whole.dependencies.iter().map(|one| one.path.as_str()).collect();
        assert_eq!(paths, ["github.com/spf13/cobra", "./staging/src/k8s.io/api"]);
        for piece in [1, 7, 13, 16, 100, 4097] {
            assert_eq!(scan(&file, piece), Some(whole.clone()), "{piece}");
        }
    }

    #[test]
    fn versions_are_those_of_modules_before_commits() {
        let version = |lines: &str| scan(&program(lines), 1 << 20).unwrap().version();
        assert_eq!(
            version("path\ta\nmod\ta\tv2.0.1\nbuild\tvcs.revision=abc\n").as_deref(),
            Some("v2.0.1")
        );
        assert_eq!(
            version("path\ta\nmod\ta\t(devel)\nbuild\tvcs.revision=abc\n").as_deref(),
            Some("abc")
        );
        assert_eq!(version("path\ta\n"), None);
    }

    #[test]
    fn damage_and_other_files_are_no_go_programs() {
        let file = program(LINES);
        assert_eq!(scan(b"#!/bin/sh\n", 4), None);
        for len in (0..file.len()).step_by(61) {
            let _ = scan(&file[..len], 64);
        }
        let mut no_elf = file.clone();
        no_elf[0] = 0;
        assert_eq!(scan(&no_elf, 1024), None);
        let at = file
            .windows(MAGIC.len())
            .rposition(|window| window == MAGIC)
            .unwrap();
        for byte in at..at + 80 {
            let mut damaged = file.clone();
            damaged[byte] = 0xff;
            let _ = scan(&damaged, 1024);
        }
    }
}
