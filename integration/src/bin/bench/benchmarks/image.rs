//! The image that the image benchmarks share: the Kubernetes-shaped tree, as Gantry builds it and as umoci does.

use std::path::PathBuf;

use anyhow::Result;
use gantry_integration::{Options, Testbed};

use crate::contender::Contender;
use crate::kubernetes_tree;
use crate::measure::{Meter, compare};
use crate::memory_folder::MemoryFolder;
use crate::report::{Bound, Report, speed_ratio};
use crate::scripted;
use crate::settings::Settings;

/// Somebody with an image, and memory to work in.
pub(crate) struct ImageSite {
    pub(crate) bed: Testbed,
    pub(crate) memory: MemoryFolder,
    /// Bytes of the tree.
    pub(crate) bytes: u64,
}

impl ImageSite {
    /// Builds the image `bench:v1` into the store `store` of the memory folder, and the OCI layout `layout` from it.
    pub(crate) fn create(settings: &Settings) -> Result<Self> {
        let bed = Testbed::with(&Options {
            hosts: 0,
            ..Options::default()
        })?;
        let tree = bed.operator().desk().join("tree");
        let bytes = kubernetes_tree::write(&tree, settings)?;
        bed.operator().put("Kubefile", "FROM scratch\nCOPY tree .\n")?;
        let memory = MemoryFolder::create()?;
        let site = Self { bed, memory, bytes };
        site.sh(
            "$GANTRY --root $OUT/store build -t bench:v1 --build-mode lite .\n\
             $GANTRY --root $OUT/store save --format oci-dir -o $OUT/layout bench:v1",
        )?;
        Ok(site)
    }

    /// The same tree as an image of one gzip layer, as docker has them: an OCI layout, made by umoci.
    pub(crate) fn gzip_layout(&self) -> Result<PathBuf> {
        self.sh(
            "umoci init --layout $OUT/gzip && umoci new --image $OUT/gzip:v1\n\
             umoci insert --image $OUT/gzip:v1 tree /",
        )?;
        Ok(self.folder("gzip"))
    }

    /// A folder in memory.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.memory.path().join(name)
    }

    /// Runs lines of shell with the memory folder as `$OUT`.
    pub(crate) fn sh(&self, script: &str) -> Result<()> {
        scripted::run(self.bed.operator(), self.memory.path(), script)
    }

    /// Lets Gantry and skopeo take turns; Gantry has to be as fast at least.
    pub(crate) fn beside_skopeo(
        &self,
        settings: &Settings,
        contenders: Vec<Box<dyn Contender + '_>>,
        note: &str,
        report: &mut Report,
    ) -> Result<()> {
        self.beside("skopeo", 1.0, settings, contenders, note, report)
    }

    /// Lets Gantry and the others take turns. Gantry comes first; next is `peer`, beside which it has to be `goal` times as fast.
    /// Whoever comes later does another job, and is there for information.
    pub(crate) fn beside(
        &self,
        peer: &str,
        goal: f64,
        settings: &Settings,
        mut contenders: Vec<Box<dyn Contender + '_>>,
        note: &str,
        report: &mut Report,
    ) -> Result<()> {
        let meter = Meter::of([self.bed.operator().cgroup()]);
        let all = compare(&meter, settings.rounds, &mut contenders)?;
        report.note(note);
        report.rates(self.bytes, &all[0], &all[1..]);
        let speed = speed_ratio(&all[0], &all[1..2]);
        report.goal(format!("speed / {peer}"), speed, Bound::AtLeast(goal), "x");
        Ok(())
    }
}
