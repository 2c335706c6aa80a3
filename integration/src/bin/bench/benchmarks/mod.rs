//! All benchmarks, in the order they run.

mod apply_unchanged;
mod archives;
mod build;
mod create_cluster;
mod footprint;
mod hand_made;
mod image;
mod image_memory;
mod registries;
mod stage;
mod unpack;

use anyhow::Result;

use crate::report::Report;
use crate::settings::Settings;

/// One benchmark.
pub(crate) struct Benchmark {
    /// What `bench NAME` calls it.
    pub(crate) name: &'static str,
    /// What it measures.
    pub(crate) about: &'static str,
    /// Fills the report.
    pub(crate) run: fn(&Settings, &mut Report) -> Result<()>,
}

/// Every benchmark there is.
pub(crate) const BENCHMARKS: &[Benchmark] = &[
    Benchmark {
        name: "stage-tree",
        about: "a Kubernetes-shaped tree of 1 GB to one host, MTU 1500",
        run: stage::kubernetes_tree,
    },
    Benchmark {
        name: "stage-file",
        about: "one incompressible file of 1 GiB to one host, MTU 1500",
        run: stage::incompressible_file,
    },
    Benchmark {
        name: "stage-file-jumbo",
        about: "one incompressible file of 1 GiB to one host, MTU 9000",
        run: stage::incompressible_file_in_jumbo_frames,
    },
    Benchmark {
        name: "footprint",
        about: "size and memory of the agent, idle and while a layer of 1 and 3 GiB arrives",
        run: footprint::run,
    },
    Benchmark {
        name: "apply-unchanged",
        about: "apply of an unchanged Clusterfile of three hosts",
        run: apply_unchanged::run,
    },
    Benchmark {
        name: "create-cluster",
        about: "a Kubernetes cluster of three hosts, from nothing to all nodes ready, and a second apply",
        run: create_cluster::run,
    },
    Benchmark {
        name: "build",
        about: "an image of the Kubernetes-shaped tree of 1 GB",
        run: build::run,
    },
    Benchmark {
        name: "build-again",
        about: "the same image once more, with one file of 100 kB changed",
        run: build::again,
    },
    Benchmark {
        name: "build-unchanged",
        about: "the same image once more, with nothing changed",
        run: build::unchanged,
    },
    Benchmark {
        name: "push",
        about: "that image to a registry of this machine",
        run: registries::push,
    },
    Benchmark {
        name: "pull",
        about: "that image from a registry of this machine",
        run: registries::pull,
    },
    Benchmark {
        name: "pull-gzip",
        about: "the same tree as docker has images, its layer gzip, from a registry of this machine",
        run: registries::pull_gzip,
    },
    Benchmark {
        name: "pull-unpack",
        about: "the image from a registry of this machine to a folder",
        run: registries::pull_unpack,
    },
    Benchmark {
        name: "pull-unpack-gzip",
        about: "the same tree as docker has images from a registry of this machine to a folder",
        run: registries::pull_unpack_gzip,
    },
    Benchmark {
        name: "save",
        about: "that image into an OCI archive",
        run: archives::save,
    },
    Benchmark {
        name: "load",
        about: "that image out of an OCI archive",
        run: archives::load,
    },
    Benchmark {
        name: "load-gzip",
        about: "the same tree as docker has images, its layer gzip, out of an OCI archive",
        run: archives::load_gzip,
    },
    Benchmark {
        name: "unpack",
        about: "that image as a folder",
        run: unpack::run,
    },
    Benchmark {
        name: "image-memory",
        about: "memory of gantry for images of 256 MiB and 1 GiB, from build to unpacking",
        run: image_memory::run,
    },
];
