//! This module owns [`Marks`]: which chunks were written since the host started, whether synced or not.
//!
//! A killed program loses nothing of what it wrote: the kernel has it. Only a host that goes down does. So every chunk
//! gets a mark as soon as it is written, and the marks count as long as the host has not restarted; after that, only
//! what the last checkpoint synced does.
//!
//! The file is the digest of the table of contents and the boot, then one byte a chunk: 1 where it is written.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use gantry_model::Digest;

use super::received::Received;

/// Made anew by the kernel at each start (random(4)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const HEADER_LEN: usize = 32;
const WRITTEN: u8 = 1;
const FILE_MODE: u32 = 0o600;

/// The marks of one transfer, open for more.
#[derive(Debug)]
pub(super) struct Marks {
    file: Option<File>,
}

impl Marks {
    /// Opens the marks at `path` for the layer whose table of contents is `toc`. Gives the chunks marked since the host
    /// started; with none of those, the file starts anew.
    pub(super) fn open(path: &Path, toc: &Digest, chunks: u32) -> io::Result<(Self, Vec<u32>)> {
        let Ok(boot) = fs::read_to_string(BOOT_ID) else {
            return Ok((Self { file: None }, Vec::new()));
        };
        Self::open_in_boot(path, toc, chunks, &boot)
    }

    fn open_in_boot(path: &Path, toc: &Digest, chunks: u32, boot: &str) -> io::Result<(Self, Vec<u32>)> {
        let header = Digest::of(format!("{toc} {boot}").as_bytes());
        let found = fs::read(path).unwrap_or_default();
        let marked = match found.strip_prefix(header.as_bytes()) {
            Some(marks) if marks.len() == chunks as usize => (0..chunks)
                .filter(|chunk| marks[*chunk as usize] == WRITTEN)
                .collect(),
            _ => {
                // Gone before the new one is there: a file cut short has the wrong length and counts for nothing.
                match fs::remove_file(path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
                Vec::new()
            }
        };
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .open(path)?;
        file.write_all_at(header.as_bytes(), 0)?;
        file.set_len(HEADER_LEN as u64 + u64::from(chunks))?;
        Ok((Self { file: Some(file) }, marked))
    }

    /// Makes the marks say what `received` says. Has to be done before a file is made anew: a mark of the file that was
    /// there before would speak for the new one.
    pub(super) fn replace(&self, received: &Received, chunks: u32) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let marks: Vec<u8> = (0..chunks).map(|chunk| u8::from(received.has(chunk))).collect();
        file.write_all_at(&marks, HEADER_LEN as u64)
    }

    /// Says that `chunk` is written. A mark that cannot be made costs that chunk's way over the network once more,
    /// and only if the program is killed: no reason to fail.
    pub(super) fn set(&self, chunk: u32) {
        if let Some(file) = &self.file {
            let at = HEADER_LEN as u64 + u64::from(chunk);
            if let Err(error) = file.write_all_at(&[WRITTEN], at) {
                tracing::debug!(chunk, %error, "a written chunk could not be marked");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_count_until_the_host_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("marks");
        let toc = Digest::of(b"toc");
        let open = |toc, boot| Marks::open_in_boot(&path, toc, 5, boot).unwrap();
        let (marks, before) = open(&toc, "first");
        assert!(before.is_empty());
        marks.set(1);
        marks.set(4);
        drop(marks);
        assert_eq!(open(&toc, "first").1, [1, 4]);
        assert_eq!(open(&toc, "second").1, [] as [u32; 0]);
        assert_eq!(
            open(&toc, "first").1,
            [] as [u32; 0],
            "the second boot began anew"
        );
        open(&toc, "first").0.set(2);
        assert_eq!(open(&Digest::of(b"other"), "first").1, [] as [u32; 0]);
    }

    #[test]
    fn a_file_of_the_wrong_length_counts_for_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("marks");
        let toc = Digest::of(b"toc");
        Marks::open_in_boot(&path, &toc, 5, "boot").unwrap().0.set(1);
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(34)
            .unwrap();
        assert_eq!(
            Marks::open_in_boot(&path, &toc, 5, "boot").unwrap().1,
            [] as [u32; 0]
        );
    }
}
