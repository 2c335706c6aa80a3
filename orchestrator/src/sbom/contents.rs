//! What is in the files of an image. Each is read once, on all cores; chunks are verified on the way.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use gantry_store::{EntryKind, LayerError, Rootfs};
use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};

use super::go_build_info::{GoBuildInfo, Scanner};

/// Longest file that is read: holes cost an image nothing, and reading them takes as long as reading bytes.
const MAX_FILE_LEN: u64 = 64 << 30;

/// One regular file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileContents {
    /// SHA-1 of it, in hex: SPDX asks for it.
    pub(super) sha1: String,
    /// SHA-256 of it, in hex.
    pub(super) sha256: String,
    /// What it was made of, if it is a Go program that says so.
    pub(super) go: Option<GoBuildInfo>,
}

/// The regular files of an image, by path.
///
/// # Errors
/// When one is damaged, or too long.
pub(super) fn read(rootfs: &Rootfs) -> Result<BTreeMap<String, FileContents>, LayerError> {
    let files: Vec<&str> = rootfs
        .iter()
        .filter(|(_, entry)| matches!(entry.kind, EntryKind::File { .. }))
        .map(|(path, _)| path)
        .collect();
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let found = Mutex::new((BTreeMap::new(), None));
    let work = || {
        while !failed.load(Ordering::Relaxed) {
            let Some(&path) = files.get(next.fetch_add(1, Ordering::Relaxed)) else {
                return;
            };
            let contents = read_file(rootfs, path);
            let mut found = found.lock().expect("no thread panics with it");
            match contents {
                Ok(contents) => drop(found.0.insert(path.to_owned(), contents)),
                Err(error) => {
                    failed.store(true, Ordering::Relaxed);
                    found.1.get_or_insert(error);
                }
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    match found.into_inner().expect("no thread panics with it") {
        (_, Some(error)) => Err(error),
        (contents, None) => Ok(contents),
    }
}

fn read_file(rootfs: &Rootfs, path: &str) -> Result<FileContents, LayerError> {
    if let Some(EntryKind::File { size, .. }) = rootfs.get(path).map(|entry| &entry.kind)
        && *size > MAX_FILE_LEN
    {
        let reason = format!("it has {size} bytes, more than the {MAX_FILE_LEN} that are read");
        return Err(LayerError::io("read", path)(io::Error::other(reason)));
    }
    let mut reader = Reader {
        sha1: Context::new(&SHA1_FOR_LEGACY_USE_ONLY),
        sha256: Context::new(&SHA256),
        scanner: Scanner::default(),
    };
    rootfs.copy_file(path, &mut reader)?;
    Ok(FileContents {
        sha1: hex(reader.sha1.finish().as_ref()),
        sha256: hex(reader.sha256.finish().as_ref()),
        go: reader.scanner.finish(),
    })
}

/// Lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

struct Reader {
    sha1: Context,
    sha256: Context,
    scanner: Scanner,
}

impl Write for Reader {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.sha1.update(bytes);
        self.sha256.update(bytes);
        self.scanner.take(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
