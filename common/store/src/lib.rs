//! The image store: blobs, chunks, layers, overlay mounts.
