//! Real machine code to fill generated programs with: its share of zeros, strings, tables and instructions decides
//! how compression behaves, and no generator imitates that.

use std::fs::{self, File};
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use gantry_integration::command;

/// Programs smaller than this are left out: their share of symbol tables is unlike that of Kubernetes's.
const SMALLEST: u64 = 4 << 20;

/// The bytes of this machine's large programs one after the other, from the first again after the last.
///
/// They are those every machine has that builds and measures Gantry: the Rust toolchain's, and the image tools'
/// (Go programs, as Kubernetes's are).
pub(crate) struct ProgramBytes {
    files: Vec<PathBuf>,
    next: usize,
    open: Option<File>,
}

impl ProgramBytes {
    pub(crate) fn of_this_machine() -> Result<Self> {
        let sysroot = PathBuf::from(command::must("rustc", ["--print", "sysroot"])?.trim());
        let image_tools =
            ["podman", "buildah", "skopeo", "umoci"].map(|name| Path::new("/usr/bin").join(name));
        let mut files: Vec<PathBuf> = image_tools.into();
        for folder in ["lib", "bin"] {
            let folder = sysroot.join(folder);
            for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
                files.push(entry?.path());
            }
        }
        files.retain(|path| is_large_program(path).unwrap_or(false));
        files.sort();
        if files.is_empty() {
            bail!(
                "found no large programs in {} or /usr/bin to make a tree of",
                sysroot.display()
            );
        }
        Ok(Self {
            files,
            next: 0,
            open: None,
        })
    }

    /// Writes the next `size` bytes.
    pub(crate) fn write(&mut self, mut size: u64, out: &mut impl Write) -> Result<()> {
        while size > 0 {
            let file = match self.open.as_mut() {
                Some(file) => file,
                None => {
                    let path = &self.files[self.next];
                    self.next = (self.next + 1) % self.files.len();
                    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
                    self.open.insert(file)
                }
            };
            let copied = io::copy(&mut file.take(size), out)?;
            size -= copied;
            if size > 0 {
                self.open = None;
            }
        }
        Ok(())
    }
}

fn is_large_program(path: &Path) -> io::Result<bool> {
    let mut file = File::open(path)?;
    let metadata = file.metadata()?;
    let mut magic = [0; 4];
    Ok(metadata.is_file()
        && metadata.len() >= SMALLEST
        && file.read_exact(&mut magic).is_ok()
        && &magic == b"\x7fELF")
}
