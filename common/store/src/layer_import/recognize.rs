//! Whether a file is a tar archive, and one that can be read here.

use std::io::{self, BufReader, Read};

use flate2::bufread::MultiGzDecoder;

use super::decode::{Format, format};

/// Bytes of a header in a tar stream.
const HEADER_LEN: usize = 512;
/// Where a header has the sum of its bytes, in octal digits.
const CHECKSUM: std::ops::Range<usize> = 148..156;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TarForm {
    /// No tar archive.
    None,
    /// A tar archive: plain, gzip or zstd.
    Readable,
    /// Compressed in this way, which is not read here; perhaps an archive.
    Unreadable(&'static str),
}

/// What `file` is, by its first bytes.
///
/// # Errors
/// When it cannot be read.
pub fn tar_form(file: impl Read) -> io::Result<TarForm> {
    let mut file = BufReader::new(file);
    let mut header = Vec::with_capacity(HEADER_LEN);
    let limit = HEADER_LEN as u64;
    let read = match format(&mut file)? {
        Format::Gzip => MultiGzDecoder::new(file).take(limit).read_to_end(&mut header),
        Format::Zstd => zstd::Decoder::with_buffer(file)?
            .take(limit)
            .read_to_end(&mut header),
        Format::Tar => file.take(limit).read_to_end(&mut header),
        Format::Unreadable(name) => return Ok(TarForm::Unreadable(name)),
    };
    // What does not decompress is just a file whose first bytes look like something else.
    Ok(match read {
        Ok(_) if is_header(&header) => TarForm::Readable,
        Err(error) if error.raw_os_error().is_some() => return Err(error),
        _ => TarForm::None,
    })
}

/// Whether the sum of the bytes is what the header says it is (POSIX.1, ustar).
fn is_header(header: &[u8]) -> bool {
    if header.len() != HEADER_LEN || header[0] == 0 {
        return false;
    }
    let digits = String::from_utf8_lossy(&header[CHECKSUM]);
    let said = u32::from_str_radix(digits.trim_matches([' ', '\0']), 8).ok();
    let sum: u32 = header
        .iter()
        .enumerate()
        .map(|(at, byte)| if CHECKSUM.contains(&at) { b' ' } else { *byte })
        .map(u32::from)
        .sum();
    said == Some(sum)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn archives_are_known_by_their_first_header() {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(1);
        tar.append_data(&mut header, "a", &b"x"[..]).unwrap();
        let tar = tar.into_inner().unwrap();
        let gzip = |bytes: &[u8]| {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(bytes).unwrap();
            gzip.finish().unwrap()
        };
        for (bytes, form) in [
            (tar.clone(), TarForm::Readable),
            (gzip(&tar), TarForm::Readable),
            (zstd::encode_all(&tar[..], 1).unwrap(), TarForm::Readable),
            (gzip(b"no tar"), TarForm::None),
            (gzip(&tar)[..20].to_vec(), TarForm::None),
            (vec![0; 1024], TarForm::None),
            (vec![b'a'; 1024], TarForm::None),
            (Vec::new(), TarForm::None),
            (b"\xfd7zXZ\0".to_vec(), TarForm::Unreadable("xz")),
        ] {
            assert_eq!(tar_form(&bytes[..]).unwrap(), form);
        }
    }
}
