//! This module owns how the output of a RUN command reaches people: line by line, whatever it prints.

use std::io::{BufRead, BufReader, Read};
use std::sync::mpsc::{SyncSender, sync_channel};

use crate::report::printable;

/// Longest line that is kept together; the rest comes as the next line.
const MAX_LINE: usize = 4096;
/// Lines that wait for a slow terminal before the command has to.
const QUEUE: usize = 256;

/// Gives every line of both streams to `line` until both have ended.
pub(super) fn forward(out: impl Read + Send, err: impl Read + Send, line: &mut dyn FnMut(&str)) {
    let (sender, lines) = sync_channel(QUEUE);
    std::thread::scope(|scope| {
        let second = sender.clone();
        scope.spawn(move || read_lines(out, &sender));
        scope.spawn(move || read_lines(err, &second));
        lines.iter().for_each(|text: String| line(&text));
    });
}

fn read_lines(stream: impl Read, lines: &SyncSender<String>) {
    let mut stream = BufReader::with_capacity(MAX_LINE, stream);
    let mut line = Vec::new();
    loop {
        let (used, complete) = match stream.fill_buf() {
            Ok([]) => break,
            Ok(bytes) => match bytes.iter().position(|b| matches!(b, b'\n' | b'\r')) {
                Some(end) => {
                    line.extend_from_slice(&bytes[..end]);
                    (end + 1, true)
                }
                None => {
                    line.extend_from_slice(bytes);
                    (bytes.len(), line.len() >= MAX_LINE)
                }
            },
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        stream.consume(used);
        if complete && !line.is_empty() && lines.send(printable(&line)).is_err() {
            return;
        }
        if complete {
            line.clear();
        }
    }
    if !line.is_empty() {
        let _ = lines.send(printable(&line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_output_becomes_lines() {
        let long = vec![b'x'; 3 * MAX_LINE];
        let mut input = b"one\ntwo\r\n\x1b[2Jthree\n".to_vec();
        input.extend(&long);
        let mut lines = Vec::new();
        forward(&input[..], std::io::empty(), &mut |line| {
            lines.push(line.to_owned());
        });
        assert_eq!(lines[..3], ["one", "two", "three"]);
        assert!(lines[3..].iter().all(|line| line.len() <= 2 * MAX_LINE));
        assert_eq!(lines[3..].iter().map(String::len).sum::<usize>(), long.len());
    }
}
