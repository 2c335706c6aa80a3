//! Layers that are here: are they still what was verified? Nothing may build on one that is not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gantry_model::LayerDescriptor;
use gantry_store::{LayerError, Store};
use tokio::task::spawn_blocking;

use super::StagingError;

/// Makes sure that `layers`, which are here, are what their tables of contents say. What nobody touched since it was verified is
/// not read again.
///
/// # Errors
/// [`StagingError::Damaged`] with everything that is wrong; it is put right by the next stage.
pub(super) async fn verify(store: &Store, layers: Vec<LayerDescriptor>) -> Result<(), StagingError> {
    let stop = StopOnDrop::default();
    let (store, told) = (store.clone(), Arc::clone(&stop.0));
    let verified = spawn_blocking(move || {
        let mut damage = Vec::new();
        for layer in &layers {
            damage.extend(store.verify_layer(&layer.digest, &told)?);
        }
        Ok::<_, LayerError>(damage)
    });
    let damage = verified
        .await
        .map_err(StagingError::internal)?
        .map_err(|error| StagingError::Unreadable(Box::new(error)))?;
    if damage.is_empty() {
        Ok(())
    } else {
        Err(StagingError::Damaged { damage })
    }
}

/// Ends the work on another thread when nobody waits for it any more.
#[derive(Default)]
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
