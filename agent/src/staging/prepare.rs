//! What happens before the first chunk travels: which layers are missing, whether the others are still what they were, tables of
//! contents, what of the missing ones is here already, and whether the rest fits.

use std::collections::HashSet;
use std::path::Path;

use bytes::Bytes;
use gantry_model::LayerDescriptor;
use gantry_store::{LayerReceiver, ReceiveError, Store};
use gantry_system::files;
use gantry_transport::Connection;
use tokio::task::{JoinSet, spawn_blocking};

use super::limits::{BUSY_RETRY, TOCS_AT_ONCE};
use super::verify::verify;
use super::{StagingError, fetch};

/// What a stage begins with.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    /// Layers that are here.
    pub(super) present: Vec<LayerDescriptor>,
    /// Layers that are not, each with what receives it.
    pub(super) missing: Vec<(LayerDescriptor, LayerReceiver)>,
}

/// Begins every missing layer, then checks that all of them fit together.
///
/// A layer that another stage receives now is waited for, holding no other layer meanwhile: two stages of the same
/// layers cannot wait for each other.
pub(super) async fn prepare(
    store: &Store,
    peer: &Connection,
    layers: &[LayerDescriptor],
) -> Result<Prepared, StagingError> {
    loop {
        match begin_all(store, peer, layers).await {
            Err(StagingError::Receive(ReceiveError::Busy { layer })) => {
                tracing::info!(%layer, "waiting for another transfer of this layer to end");
                tokio::select! {
                    () = tokio::time::sleep(BUSY_RETRY) => {}
                    closed = peer.closed() => {
                        return Err(StagingError::Interrupted { reason: format!("the connection ended: {closed}") });
                    }
                }
            }
            Err(error) => return Err(error),
            Ok(prepared) => {
                check_room(store.root(), &prepared.missing)?;
                return Ok(prepared);
            }
        }
    }
}

async fn begin_all(
    store: &Store,
    peer: &Connection,
    layers: &[LayerDescriptor],
) -> Result<Prepared, StagingError> {
    let (present, missing) = sort(store.clone(), layers.to_vec()).await?;
    verify(store, present.clone()).await?;
    let mut prepared = Prepared {
        present,
        missing: Vec::with_capacity(missing.len()),
    };
    let mut waiting = missing.into_iter();
    let mut beginning = JoinSet::new();
    loop {
        while beginning.len() < TOCS_AT_ONCE {
            let Some(layer) = waiting.next() else { break };
            beginning.spawn(begin(store.clone(), peer.clone(), layer));
        }
        match beginning.join_next().await {
            None => break,
            Some(result) => match result.map_err(StagingError::internal)? {
                (layer, Ok(receiver)) => prepared.missing.push((layer, receiver)),
                // Somebody else finished it in between.
                (layer, Err(StagingError::Receive(ReceiveError::AlreadyPresent { .. }))) => {
                    prepared.present.push(layer);
                }
                (_, Err(error)) => return Err(error),
            },
        }
    }
    // They came in the order in which they were ready; a rootfs is read bottom first, so that is how they travel.
    let place = |layer: &LayerDescriptor| layers.iter().position(|other| other.digest == layer.digest);
    prepared.missing.sort_by_key(|(layer, _)| place(layer));
    Ok(prepared)
}

/// The layers that are here and those that are not, or of which something is known to be damaged, each once.
async fn sort(
    store: Store,
    layers: Vec<LayerDescriptor>,
) -> Result<(Vec<LayerDescriptor>, Vec<LayerDescriptor>), StagingError> {
    let sorted = spawn_blocking(move || {
        let mut seen = HashSet::new();
        layers
            .into_iter()
            .filter(|layer| seen.insert(layer.digest))
            .partition(|layer| store.has_layer(&layer.digest) && !store.is_layer_damaged(&layer.digest))
    });
    sorted.await.map_err(StagingError::internal)
}

async fn begin(
    store: Store,
    peer: Connection,
    layer: LayerDescriptor,
) -> (LayerDescriptor, Result<LayerReceiver, StagingError>) {
    let toc = match fetch::toc(&peer, &layer).await {
        Ok(toc) => toc,
        Err(error) => return (layer, Err(error)),
    };
    let begun = {
        let layer = layer.clone();
        spawn_blocking(move || begin_blocking(&store, &layer, &toc))
    };
    let receiver = begun
        .await
        .map_err(StagingError::internal)
        .and_then(|begun| begun.map_err(StagingError::from));
    (layer, receiver)
}

fn begin_blocking(
    store: &Store,
    layer: &LayerDescriptor,
    toc: &Bytes,
) -> Result<LayerReceiver, ReceiveError> {
    LayerReceiver::begin(store, layer, toc)
}

/// Refuses when the missing layers together do not fit, before any chunk of them travels.
fn check_room(root: &Path, missing: &[(LayerDescriptor, LayerReceiver)]) -> Result<(), StagingError> {
    let needed = missing.iter().map(|(_, receiver)| receiver.needed()).sum();
    let free = files::space(root)
        .map_err(|error| {
            StagingError::Internal(format!(
                "cannot read the free space of {}: {error}",
                root.display()
            ))
        })?
        .free;
    if needed > free {
        return Err(StagingError::NoSpace {
            needed,
            free,
            path: root.to_owned(),
        });
    }
    Ok(())
}
