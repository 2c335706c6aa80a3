//! Is an unpacked layer still what was verified? What was not touched since is not read again.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use gantry_model::Digest;
use gantry_system::files;

use crate::check_layer::{Check, LayerDamage, MAX_FINDINGS, stranger};
use crate::toc::{EntryKind, Toc};
use crate::verified::Verified;
use crate::{LayerError, Store};

/// Most threads that read: a host that serves pods has other work, too, and few disks are faster.
const MAX_THREADS: usize = 4;
/// Chunks of one file that a thread reads at a time: of one large file all threads have their part.
const CHUNKS_AT_ONCE: u32 = 16;

/// What is not as the table of contents says.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Entries, by their place in the table of contents, each with what is wrong.
    pub(crate) entries: BTreeMap<u32, String>,
    /// Paths that it does not list.
    pub(crate) strangers: Vec<String>,
}

impl Store {
    /// Makes sure that everything in a layer on this host is what its table of contents says. What looks as it did when it was
    /// verified is believed; everything else is read, by at most four threads with 1 MiB of memory each. What is wrong comes back, and is
    /// remembered: the next [`LayerReceiver::begin`](crate::LayerReceiver::begin) puts it right. `stop` ends it early.
    ///
    /// # Errors
    /// When the layer is not here or cannot be read at all, or it was stopped.
    pub fn verify_layer(&self, layer: &Digest, stop: &AtomicBool) -> Result<Vec<LayerDamage>, LayerError> {
        if self.is_layer_unchanged(layer) {
            return Ok(Vec::new());
        }
        let record = self
            .layer_descriptor(layer)
            .and_then(|descriptor| Ok((self.layer_toc(layer)?, descriptor.toc.digest)));
        let damage = match record {
            Ok((toc, toc_digest)) => {
                let dir = self.layer_dir(layer);
                let path = self.verified_path(layer);
                let mut verified = Verified::read(&path, &toc, &toc_digest);
                let findings = examine(&toc, &dir, &mut verified, stop)?;
                let findings = findings.described(&toc);
                if findings.is_empty() {
                    // The mark first: without it, and with what was verified, the layer is whole.
                    self.remove_damage_mark(layer)?;
                    verified.write(&path, &toc_digest)?;
                }
                LayerDamage::all(*layer, findings)
            }
            Err(error @ LayerError::Missing { .. }) => return Err(error),
            Err(_) => LayerDamage::all(
                *layer,
                [("its table of contents".to_owned(), "it is damaged".to_owned())],
            ),
        };
        if !damage.is_empty() {
            let mark = self.damage_mark(layer);
            files::write_atomically(&mark, b"", 0o600).map_err(LayerError::io("write", &mark))?;
        }
        Ok(damage)
    }

    /// Damage that was found in a layer is no more.
    pub(crate) fn remove_damage_mark(&self, layer: &Digest) -> Result<(), LayerError> {
        let mark = self.damage_mark(layer);
        match fs::remove_file(&mark).and_then(|()| files::sync_dir(&self.record_dir(layer))) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(LayerError::io("remove", &mark)(error))
            }
            _ => Ok(()),
        }
    }
}

impl Findings {
    /// Everything with its path, at most a thousand.
    fn described(self, toc: &Toc) -> Vec<(String, String)> {
        let path = |entry: u32| toc.entries()[entry as usize].path.clone();
        let entries = self
            .entries
            .into_iter()
            .map(|(entry, reason)| (path(entry), reason));
        entries
            .chain(self.strangers.into_iter().map(stranger))
            .take(MAX_FINDINGS)
            .collect()
    }
}

/// Part of the work: an entry, and which chunks of it.
struct Piece {
    entry: u32,
    chunks: Range<u32>,
    /// The first one looks at the rest of the entry, too.
    first: bool,
}

/// Compares what `verified` does not know of the layer in `dir` with its table of contents, and notes there what is right.
pub(crate) fn examine(
    toc: &Toc,
    dir: &std::path::Path,
    verified: &mut Verified,
    stop: &AtomicBool,
) -> Result<Findings, LayerError> {
    let check = Check::open(toc, dir)?;
    let mut findings = Findings::default();
    let folder = fs::symlink_metadata(dir).map_err(LayerError::io("look at", dir))?;
    // How each looked before it was read: whoever changes it meanwhile changes that, too.
    let mut looks = BTreeMap::new();
    let mut pieces = Vec::new();
    for (index, entry) in toc.entries().iter().enumerate() {
        let index = index as u32;
        if verified.holds(toc, dir, index) {
            continue;
        }
        if let Ok(look) = fs::symlink_metadata(dir.join(&entry.path)) {
            looks.insert(index, look);
        }
        let all = match &entry.kind {
            EntryKind::File { chunks, .. } => chunks.clone(),
            _ => 0..0,
        };
        let mut from = all.start;
        loop {
            let to = all.end.min(from + CHUNKS_AT_ONCE);
            pieces.push(Piece {
                entry: index,
                chunks: from..to,
                first: from == all.start,
            });
            from = to;
            if from >= all.end {
                break;
            }
        }
    }
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let work = || {
        let mut buffer = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let Some(piece) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) else {
                return;
            };
            if let Err(reason) = look_at(&check, toc, piece, &mut buffer) {
                let mut wrong = wrong.lock().unwrap_or_else(PoisonError::into_inner);
                if piece.first {
                    // It knows best: to the others a file that is missing cannot be read.
                    wrong.insert(piece.entry, reason);
                } else {
                    wrong.entry(piece.entry).or_insert(reason);
                }
            }
        }
    };
    let threads = thread::available_parallelism()
        .map_or(1, usize::from)
        .min(MAX_THREADS)
        .min(pieces.len());
    thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    if stop.load(Ordering::Relaxed) {
        let stopped = std::io::Error::from(std::io::ErrorKind::Interrupted);
        return Err(LayerError::io("read all of", dir)(stopped));
    }
    findings.entries = wrong.into_inner().unwrap_or_else(PoisonError::into_inner);
    findings.strangers = check.strangers(MAX_FINDINGS);
    for (entry, look) in looks
        .iter()
        .filter(|(entry, _)| !findings.entries.contains_key(entry))
    {
        verified.set(*entry, look);
    }
    verified.set_folder(&folder);
    Ok(findings)
}

fn look_at(check: &Check<'_>, toc: &Toc, piece: &Piece, buffer: &mut Vec<u8>) -> Result<(), String> {
    let entry = &toc.entries()[piece.entry as usize];
    if piece.first {
        check.beginning(entry, piece.chunks.clone(), buffer)
    } else {
        check.chunks(entry, piece.chunks.clone(), buffer)
    }
}
