//! Signatures by which this machine's own hosts accept an image. They stay with the store: whoever gets the image elsewhere does not know
//! that key, and tools that read OCI archives take every manifest in there for an image.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gantry_model::{Digest, ImageSignature};
use serde::{Deserialize, Serialize};

use super::candidates::or_damaged;
use crate::{Store, StoreError, StoreLock, documents};

/// Most of one image: those of its latest names.
const MAX_OWN_SIGNATURES: usize = 16;

/// A signature as it is noted, in base64.
#[derive(Serialize, Deserialize)]
struct Noted {
    payload: String,
    signature: String,
}

impl Store {
    /// Adds a signature over the manifest or index with this digest, which is in the store, that goes to hosts and nowhere else.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub fn add_own_signature(&self, image: &Digest, signature: &ImageSignature) -> Result<(), StoreError> {
        let _nothing_vanishes = self.share()?;
        let _alone = StoreLock::exclusive(&self.store_dir().join("images.lock"))?;
        let mut all = self.own_signatures(image)?;
        all.push(signature.clone());
        let noted = all.iter().map(|one| Noted {
            payload: STANDARD.encode(&one.payload),
            signature: STANDARD.encode(&one.signature),
        });
        let too_many = all.len().saturating_sub(MAX_OWN_SIGNATURES);
        let noted: Vec<Noted> = noted.skip(too_many).collect();
        documents::write(&self.own_signatures_path(image), &noted)
    }

    /// Those over the manifest or index with this digest; none where they are damaged.
    pub(super) fn own_signatures(&self, image: &Digest) -> Result<Vec<ImageSignature>, StoreError> {
        let noted = or_damaged(documents::read::<Vec<Noted>>(&self.own_signatures_path(image)))?;
        let noted = noted.flatten().unwrap_or_default().into_iter();
        let read = |one: Noted| {
            Some(ImageSignature {
                payload: STANDARD.decode(one.payload).ok()?,
                signature: STANDARD.decode(one.signature).ok()?,
            })
        };
        Ok(noted.filter_map(read).collect())
    }

    /// `ROOT/store/own-signatures`: what was signed -> its signatures.
    pub(crate) fn own_signatures_dir(&self) -> PathBuf {
        self.store_dir().join("own-signatures")
    }

    fn own_signatures_path(&self, image: &Digest) -> PathBuf {
        self.own_signatures_dir().join(format!("{}.json", image.hex()))
    }
}
