//! What a step wrote: two files, read as lines while they grow.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use gantry_protocol::limits::MAX_OUTPUT_LINE;

use super::kept::{self, OUTPUTS};

/// How much of a file is read at a time.
const PIECE: usize = 16 << 10;

/// Cuts bytes into lines of at most [`MAX_OUTPUT_LINE`]; longer ones are split.
#[derive(Debug, Default)]
pub struct LineSplitter {
    /// The beginning of a line whose end has not come.
    begun: Vec<u8>,
}

impl LineSplitter {
    /// Takes the next bytes and hands every line that is whole now to `line`, without its newline.
    pub fn push(&mut self, mut bytes: &[u8], mut line: impl FnMut(Vec<u8>)) {
        while !bytes.is_empty() {
            let room = MAX_OUTPUT_LINE - self.begun.len();
            let end = bytes.iter().take(room + 1).position(|&byte| byte == b'\n');
            let (piece, rest) = match end {
                Some(end) => (&bytes[..end], &bytes[end + 1..]),
                None if bytes.len() <= room => {
                    self.begun.extend_from_slice(bytes);
                    return;
                }
                None => bytes.split_at(room),
            };
            self.begun.extend_from_slice(piece);
            line(std::mem::take(&mut self.begun));
            bytes = rest;
        }
    }

    /// What came after the last newline, if anything.
    pub fn finish(&mut self) -> Option<Vec<u8>> {
        (!self.begun.is_empty()).then(|| std::mem::take(&mut self.begun))
    }
}

/// The outputs of one step, from their beginning. Cheap to make; files are opened when they are there.
#[derive(Debug)]
pub struct StepOutput {
    streams: [Stream; 2],
}

#[derive(Debug)]
struct Stream {
    path: PathBuf,
    file: Option<File>,
    /// How far it was read.
    at: u64,
    lines: LineSplitter,
}

/// One line of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputLine {
    /// From standard error.
    pub stderr: bool,
    /// Without its newline.
    pub line: Vec<u8>,
}

impl StepOutput {
    pub(super) fn new(folder: &Path) -> Self {
        let stream = |name: &str| Stream {
            path: folder.join(name),
            file: None,
            at: 0,
            lines: LineSplitter::default(),
        };
        Self {
            streams: OUTPUTS.map(stream),
        }
    }

    /// Lines that came since the last call, up to a bound; empty when nothing new is there.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn next_lines(&mut self) -> io::Result<Vec<OutputLine>> {
        let mut found = Vec::new();
        // A piece without a newline may be shorter than a line: read on until there is a line or nothing more.
        loop {
            let mut read = 0;
            for (number, stream) in self.streams.iter_mut().enumerate() {
                read += stream.read(|line| {
                    found.push(OutputLine {
                        stderr: number == 1,
                        line,
                    });
                })?;
            }
            if read == 0 || !found.is_empty() {
                return Ok(found);
            }
        }
    }

    /// What is left without a newline, when the step has ended and [`Self::next_lines`] gave nothing more.
    pub fn last_lines(&mut self) -> Vec<OutputLine> {
        let rest = |(number, stream): (usize, &mut Stream)| {
            stream.lines.finish().map(|line| OutputLine {
                stderr: number == 1,
                line,
            })
        };
        self.streams.iter_mut().enumerate().filter_map(rest).collect()
    }
}

impl Stream {
    fn read(&mut self, mut line: impl FnMut(Vec<u8>)) -> io::Result<usize> {
        if self.file.is_none() {
            self.file = match File::open(&self.path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
                opened => Some(opened?),
            };
        }
        let Some(file) = &self.file else { return Ok(0) };
        let mut piece = vec![0; PIECE];
        loop {
            let Some(next) = kept::next_kept(file, self.at)? else {
                return Ok(0);
            };
            if next > self.at {
                self.lines.finish().into_iter().for_each(&mut line);
                line(kept::gap(next - self.at));
                self.at = next;
            }
            let room = kept::before_gap(self.at).map_or(PIECE, |len| PIECE.min(len));
            let read = file.read_at(&mut piece[..room], self.at)?;
            // Given back in this moment: what was read may be the hole.
            if kept::next_kept(file, self.at)?.is_some_and(|next| next > self.at) {
                continue;
            }
            self.at += read as u64;
            self.lines.push(&piece[..read], line);
            return Ok(read);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::super::kept::{KEPT_HEAD, KEPT_TAIL};
    use super::*;

    fn split(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let (mut splitter, mut lines) = (LineSplitter::default(), Vec::new());
        for piece in pieces {
            splitter.push(piece, |line| lines.push(line));
        }
        lines.extend(splitter.finish());
        lines
    }

    #[test]
    fn lines_come_whole_whatever_the_pieces() {
        assert_eq!(split(&[b"a\nb", b"c\n\n", b"d"]), [&b"a"[..], b"bc", b"", b"d"]);
        assert_eq!(split(&[b"\xff\0\n"]), [b"\xff\0"]);
        assert!(split(&[b""]).is_empty());
    }

    #[test]
    fn a_line_of_just_the_bound_is_not_split_and_a_longer_one_is() {
        let mut line = vec![b'x'; MAX_OUTPUT_LINE];
        line.push(b'\n');
        assert_eq!(split(&[&line]).len(), 1);
        let long = vec![b'x'; 3 * MAX_OUTPUT_LINE + 1];
        let lines = split(&[&long]);
        assert_eq!(
            lines.iter().map(Vec::len).collect::<Vec<_>>(),
            [MAX_OUTPUT_LINE; 3].into_iter().chain([1]).collect::<Vec<_>>()
        );
    }

    proptest! {
        #[test]
        fn no_byte_is_lost(text in prop::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..500), cut in 0_usize..500) {
            let cut = cut.min(text.len());
            prop_assert_eq!(split(&[&text[..cut], &text[cut..]]), split(&[&text]));
            let mut joined = split(&[&text]).join(&b'\n');
            if text.last() == Some(&b'\n') {
                joined.push(b'\n');
            }
            prop_assert_eq!(joined, text);
        }
    }

    #[test]
    fn of_an_endless_output_the_beginning_and_the_end_are_kept() {
        use std::os::unix::fs::MetadataExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stdout");
        let mut stdout = File::options().append(true).create(true).open(&path).unwrap();
        let bound = KEPT_HEAD + 2 * KEPT_TAIL;
        stdout.write_all(b"first\n").unwrap();
        let line = [b'x'; 999];
        let mut written = 0;
        while written < 4 * bound {
            for _ in 0..1000 {
                stdout.write_all(&line).unwrap();
                stdout.write_all(b"\n").unwrap();
            }
            written += 1_000_000;
            kept::trim(folder.path());
            let kept = fs::metadata(&path).unwrap().blocks() * 512;
            assert!(kept <= bound + (1 << 20), "{kept} bytes are kept");
        }
        stdout.write_all(b"last\n").unwrap();

        let (mut output, mut lines) = (StepOutput::new(folder.path()), Vec::new());
        loop {
            let more = output.next_lines().unwrap();
            if more.is_empty() {
                break;
            }
            lines.extend(more.into_iter().map(|line| line.line));
        }
        assert_eq!(lines.first().unwrap(), b"first");
        assert_eq!(lines.last().unwrap(), b"last");
        let gaps = lines
            .iter()
            .filter(|line| line.starts_with(b"[gantry-agent kept"));
        assert_eq!(gaps.count(), 1);
        assert!(
            lines.iter().all(|line| !line.contains(&0)),
            "the hole is not shown as zeros"
        );
    }

    /// Whoever follows reads what is there, so pieces end anywhere.
    #[test]
    fn a_gap_is_seen_wherever_the_reader_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stdout");
        let mut stdout = File::options().append(true).create(true).open(&path).unwrap();
        let mut output = StepOutput::new(folder.path());
        stdout.write_all(b"first\n").unwrap();
        assert_eq!(output.next_lines().unwrap().len(), 1);
        let rest = b"some words\n".repeat((4 * KEPT_TAIL / 11) as usize);
        stdout.write_all(&rest).unwrap();
        kept::trim(folder.path());
        let mut gaps = 0;
        loop {
            let lines = output.next_lines().unwrap();
            if lines.is_empty() {
                break;
            }
            assert!(lines.iter().all(|line| !line.line.contains(&0)));
            gaps += lines
                .iter()
                .filter(|line| line.line.starts_with(b"[gantry-agent kept"))
                .count();
        }
        assert_eq!(gaps, 1);
    }

    #[test]
    fn files_are_followed_while_they_grow() {
        let folder = tempfile::tempdir().unwrap();
        let mut output = StepOutput::new(folder.path());
        assert!(output.next_lines().unwrap().is_empty());
        let mut stdout = File::create(folder.path().join("stdout")).unwrap();
        fs::write(folder.path().join("stderr"), "oh\n").unwrap();
        stdout.write_all(b"one\ntw").unwrap();
        let line = |stderr, line: &str| OutputLine {
            stderr,
            line: line.into(),
        };
        assert_eq!(
            output.next_lines().unwrap(),
            [line(false, "one"), line(true, "oh")]
        );
        stdout.write_all(b"o\nthree").unwrap();
        assert_eq!(output.next_lines().unwrap(), [line(false, "two")]);
        assert!(output.next_lines().unwrap().is_empty());
        assert_eq!(output.last_lines(), [line(false, "three")]);
    }
}
