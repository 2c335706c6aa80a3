//! This module owns taking in an archive part by part, over several commands, in any order.
//!
//! ```text
//! ROOT/store/parts/<identity>/parts.json   the index, with every digest that was heard of
//! ROOT/store/parts/<identity>/<hex>        a blob in the making: what came of it, at its place
//! ROOT/store/parts/<identity>/part-0003    this part came whole and verified
//! ```
//!
//! When all parts came, the blobs are verified and become the store's by one more link, without a copy.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use gantry_model::{Digest, ImageReference};
use gantry_system::files::{FileLock, remove_tree, sync_dir};
use sha2::{Digest as _, Sha256};

use super::PartsIndex;
use super::index::{Extent, overlap};
use crate::archive::entries::unreadable;
use crate::manifest::MAX_MANIFEST_LEN;
use crate::{LoadEvent, LoadedImage, Store, StoreError, documents};

const BUFFER_LEN: usize = 1 << 18;

/// What an archive in parts has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartsState {
    /// All parts came; these are its images.
    Loaded(Vec<LoadedImage>),
    /// Parts of these numbers have not come.
    Missing(Vec<u32>),
}

impl Store {
    /// The index that an earlier part of the archive of this name came with; none when there was none, or there are
    /// several archives of the name.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn parts_index(&self, archive: &str) -> Result<Option<PartsIndex>, StoreError> {
        let mut found = None;
        for dir in self.archives_in_parts()? {
            let path = dir.join(INDEX);
            if path.exists() {
                let index = PartsIndex::read(&path)?;
                if index.archive() == archive && found.replace(index).is_some() {
                    return Ok(None);
                }
            }
        }
        Ok(found)
    }

    /// Takes in the part of this number, which `stream` gives, unless it came before; false then.
    ///
    /// # Errors
    /// When it is not what its digest says, or there is no room for it. It counts as not having come then.
    pub fn load_part(
        &self,
        index: &PartsIndex,
        number: u32,
        stream: impl Read,
        what: &str,
    ) -> Result<bool, StoreError> {
        let _nothing_vanishes = self.share()?;
        let arriving = ArrivingParts::open(self, index)?;
        if arriving.came(number) {
            return Ok(false);
        }
        let Some(expected) = arriving.index.digest(number) else {
            let reason = "its index does not say its digest: take the index that was written when it was, or a later one";
            return Err(StoreError::malformed(what, reason));
        };
        arriving.take(number, stream, &expected, what)?;
        Ok(true)
    }

    /// Brings in the images when all parts came. `name` is as in [`Store::load`].
    ///
    /// # Errors
    /// When the parts do not make up images. A blob that is damaged is named, and its parts are missing again.
    pub fn complete_parts(
        &self,
        index: &PartsIndex,
        name: Option<&ImageReference>,
        event: &mut dyn FnMut(LoadEvent),
    ) -> Result<PartsState, StoreError> {
        let shared = self.share()?;
        let arriving = ArrivingParts::open(self, index)?;
        let mut missing = arriving.missing();
        if missing.is_empty() {
            missing = arriving.link_blobs()?;
        }
        if !missing.is_empty() {
            return Ok(PartsState::Missing(missing));
        }
        let bytes = arriving.image_index()?;
        drop(shared);
        let loaded = self.load_index(&bytes, index.archive(), name, event)?;
        arriving.remove()?;
        Ok(PartsState::Loaded(loaded))
    }

    /// Removes the parts of archives that are not complete. Gives the bytes that were freed.
    ///
    /// # Errors
    /// When they cannot be removed.
    pub fn remove_parts(&self) -> Result<u64, StoreError> {
        let mut freed = 0;
        for dir in self.archives_in_parts()? {
            // Somebody loads a part of it now.
            let Ok(Some(_alone)) = FileLock::try_exclusive(&dir.join(LOCK)) else {
                continue;
            };
            for entry in fs::read_dir(&dir)
                .map_err(StoreError::io("list", &dir))?
                .flatten()
            {
                freed += entry.metadata().map_or(0, |found| found.blocks() * 512);
            }
            remove_tree(&dir).map_err(StoreError::io("remove", &dir))?;
        }
        Ok(freed)
    }

    fn archives_in_parts(&self) -> Result<Vec<PathBuf>, StoreError> {
        let dir = self.parts_dir();
        match fs::read_dir(&dir) {
            Ok(entries) => Ok(entries.flatten().map(|entry| entry.path()).collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(source) => Err(StoreError::io("list", dir)(source)),
        }
    }

    fn parts_dir(&self) -> PathBuf {
        self.store_dir().join("parts")
    }
}

const INDEX: &str = "parts.json";
const LOCK: &str = "lock";

/// An archive whose parts come, held alone.
struct ArrivingParts<'a> {
    store: &'a Store,
    dir: PathBuf,
    index: PartsIndex,
    _alone: FileLock,
}

impl<'a> ArrivingParts<'a> {
    fn open(store: &'a Store, index: &PartsIndex) -> Result<Self, StoreError> {
        let dir = store.parts_dir().join(index.identity().hex());
        fs::create_dir_all(&dir).map_err(StoreError::io("create", &dir))?;
        let lock = dir.join(LOCK);
        let alone = FileLock::exclusive(&lock).map_err(StoreError::io("lock", lock))?;
        let mut arriving = Self {
            store,
            index: index.clone(),
            _alone: alone,
            dir,
        };
        arriving.hear_of_digests()?;
        Ok(arriving)
    }

    /// An archive that is saved onto one medium after another has an index on each, which knows what was written until
    /// then.
    fn hear_of_digests(&mut self) -> Result<(), StoreError> {
        let path = self.dir.join(INDEX);
        if path.exists() {
            let before = PartsIndex::read(&path)?;
            if before.is_like(&self.index) {
                self.index.hear_of_digests(&before);
            } else {
                // Cut otherwise: which bytes came is known by the old numbers alone.
                (1..=before.count()).try_for_each(|number| self.forget(number))?;
            }
            if before == self.index {
                return Ok(());
            }
        }
        documents::write(&path, &self.index)
    }

    fn take(&self, number: u32, stream: impl Read, expected: &Digest, what: &str) -> Result<(), StoreError> {
        let range = self.index.range(number);
        let size = range.end - range.start;
        self.store.check_room(size, what)?;
        let mut places = Places {
            arriving: self,
            extents: self
                .index
                .extents()
                .filter(|extent| overlap(&extent.range(), &range).is_some())
                .collect(),
            open: None,
        };
        let mut stream = stream.take(size + 1);
        let (mut hasher, mut at, mut buffer) = (Sha256::new(), range.start, vec![0; BUFFER_LEN]);
        loop {
            let read = match stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(unreadable(what, error)),
            };
            if at + read as u64 > range.end {
                return Err(wrong_size(what, size, "there is more".to_owned()));
            }
            hasher.update(&buffer[..read]);
            places.write(at, &buffer[..read])?;
            at += read as u64;
        }
        places.close()?;
        if at < range.end {
            return Err(wrong_size(what, size, format!("{} bytes", at - range.start)));
        }
        let found = Digest::from_bytes(hasher.finalize().into());
        if found != *expected {
            return Err(StoreError::WrongDigest {
                what: what.to_owned(),
                expected: *expected,
                found,
            });
        }
        let mark = self.mark(number);
        File::create(&mark).map_err(StoreError::io("create", &mark))?;
        sync_dir(&self.dir).map_err(StoreError::io("sync", &self.dir))
    }

    /// Where bytes of the blob go; none when the store has it whole, so that they need not go anywhere.
    fn place(&self, extent: &Extent) -> Result<Option<Place>, StoreError> {
        let path = self.dir.join(extent.digest.hex());
        match fs::metadata(&path) {
            // It was whole, and is a blob of the store by now: nothing unverified may be written into it.
            Ok(found) if found.nlink() > 1 => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.has_blob(extent) => {
                return Ok(None);
            }
            _ => {}
        }
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path);
        let file = file.map_err(StoreError::io("open", &path))?;
        file.set_len(extent.size)
            .map_err(StoreError::io("lengthen", &path))?;
        Ok(Some(Place { file, path }))
    }

    fn has_blob(&self, extent: &Extent) -> bool {
        let blobs = self.store.blobs();
        let found = blobs.size(&extent.digest).ok().flatten() == Some(extent.size);
        found && blobs.verify(&extent.digest, "blob").is_ok()
    }

    /// Makes every blob one of the store's. What is damaged, or gone meanwhile, has to come again: gives its parts.
    fn link_blobs(&self) -> Result<Vec<u32>, StoreError> {
        let mut again = Vec::new();
        for extent in self.index.extents() {
            let path = self.dir.join(extent.digest.hex());
            if path.exists() {
                if digest_of(&path)? == extent.digest {
                    self.store.blobs().adopt(&path, &extent.digest)?;
                    continue;
                }
                fs::remove_file(&path).map_err(StoreError::io("remove", &path))?;
            } else if self.has_blob(extent) {
                continue;
            }
            again.extend(self.index.parts_of(extent.range()));
        }
        again.sort_unstable();
        again.dedup();
        for number in &again {
            self.forget(*number)?;
        }
        Ok(again)
    }

    fn image_index(&self) -> Result<Vec<u8>, StoreError> {
        let digest = self.index.image_index().digest;
        let what = format!("index.json of {}", self.index.archive());
        self.store.blobs().read(&digest, &what, MAX_MANIFEST_LEN)
    }

    fn missing(&self) -> Vec<u32> {
        (1..=self.index.count())
            .filter(|number| !self.came(*number))
            .collect()
    }

    fn came(&self, number: u32) -> bool {
        self.mark(number).exists()
    }

    fn forget(&self, number: u32) -> Result<(), StoreError> {
        let mark = self.mark(number);
        match fs::remove_file(&mark) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::io("remove", mark)(error))
            }
            _ => Ok(()),
        }
    }

    fn mark(&self, number: u32) -> PathBuf {
        self.dir.join(format!("part-{number:04}"))
    }

    fn remove(self) -> Result<(), StoreError> {
        remove_tree(&self.dir).map_err(StoreError::io("remove", &self.dir))
    }
}

/// The blobs that a part has bytes of, one after the other.
struct Places<'a> {
    arriving: &'a ArrivingParts<'a>,
    /// Those that are not done, in order.
    extents: VecDeque<&'a Extent>,
    /// The first of them, once its bytes have begun.
    open: Option<Option<Place>>,
}

/// A blob in the making.
struct Place {
    file: File,
    path: PathBuf,
}

impl Places<'_> {
    /// Writes what blobs have of these bytes, which are at `at` in the archive.
    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let range = at..at + bytes.len() as u64;
        while let Some(extent) = self.extents.front().filter(|extent| extent.offset < range.end) {
            let place = match &self.open {
                Some(place) => place,
                None => self.open.insert(self.arriving.place(extent)?),
            };
            if let (Some(place), Some(common)) = (place, overlap(&range, &extent.range())) {
                let content = &bytes[(common.start - at) as usize..(common.end - at) as usize];
                place
                    .file
                    .write_all_at(content, common.start - extent.offset)
                    .map_err(StoreError::io("write", &place.path))?;
            }
            if extent.range().end > range.end {
                break;
            }
            self.extents.pop_front();
            self.close()?;
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), StoreError> {
        match self.open.take().flatten() {
            Some(place) => place.file.sync_data().map_err(StoreError::io("sync", place.path)),
            None => Ok(()),
        }
    }
}

fn digest_of(path: &Path) -> Result<Digest, StoreError> {
    let cannot = || StoreError::io("read", path);
    let mut file = File::open(path).map_err(cannot())?;
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; BUFFER_LEN]);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(Digest::from_bytes(hasher.finalize().into())),
            Ok(read) => hasher.update(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(cannot()(source)),
        }
    }
}

fn wrong_size(what: &str, expected: u64, found: String) -> StoreError {
    StoreError::WrongSize {
        what: what.to_owned(),
        expected,
        found,
    }
}
