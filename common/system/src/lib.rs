//! The seam to the host: files, processes, mounts, clock.
