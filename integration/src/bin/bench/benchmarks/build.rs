//! Making an OCI image of a tree beside umoci and buildah.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use gantry_integration::{Operator, Options, Testbed, cache, command};

use crate::contender::Contender;
use crate::measure::{Meter, compare};
use crate::memory_folder::MemoryFolder;
use crate::report::{Bound, Report, speed_ratio};
use crate::settings::Settings;
use crate::{content, kubernetes_tree};

pub(crate) fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    let bed = Testbed::with(&Options {
        hosts: 0,
        ..Options::default()
    })?;
    let operator = bed.operator();
    let tree = operator.desk().join("tree");
    let bytes = kubernetes_tree::write(&tree, settings)?;
    operator.put("Kubefile", "FROM scratch\nCOPY . .\n")?;
    let memory = MemoryFolder::create()?;
    let (tree, memory) = (tree.as_path(), memory.path());
    let builder = operator.with_state_in(&memory.join("gantry"));
    let script = |name, folder: &str, script| Script {
        name,
        operator,
        output: memory.join(folder),
        smallest: bytes / 10,
        script,
    };
    let mut contenders: Vec<Box<dyn Contender + '_>> = vec![
        Box::new(GantryBuild {
            operator: &builder,
            tree,
        }),
        Box::new(script("umoci insert (gzip)", "umoci", umoci(tree))),
        Box::new(script(
            "buildah copy, commit (gzip)",
            "buildah",
            buildah(tree, true),
        )),
        Box::new(script(
            "buildah copy, commit (uncompressed)",
            "buildah-plain",
            buildah(tree, false),
        )),
    ];
    let all = compare(&Meter::of([operator.cgroup()]), settings.rounds, &mut contenders)?;

    report.note(format!(
        "{:.1} MB from cache into an OCI image of one layer in memory. Nobody finds anything of an earlier round.",
        bytes as f64 / 1e6
    ));
    report.note("Gantry compresses with zstd in chunks of 1 MiB, each with its digest; the peers with gzip at their default");
    report.note("level. An uncompressed image is another job: its row is for information.");
    let (gantry, peers) = (&all[0], &all[1..]);
    report.rates(bytes, gantry, peers);
    let speed = speed_ratio(gantry, &peers[..2]);
    report.goal(
        "speed / the faster of umoci and buildah with gzip",
        speed,
        Bound::AtLeast(1.0),
        "x",
    );
    Ok(())
}

struct GantryBuild<'a> {
    operator: &'a Operator,
    tree: &'a Path,
}

impl Contender for GantryBuild<'_> {
    fn name(&self) -> &str {
        "gantry build (zstd:chunked)"
    }

    fn prepare(&mut self) -> Result<()> {
        cache::remove_tree(self.operator.root())
    }

    fn run(&mut self) -> Result<()> {
        self.operator
            .must(&format!(
                "build -t bench/built:v1 -f Kubefile {}",
                self.tree.display()
            ))
            .map(drop)
    }

    fn check(&mut self) -> Result<()> {
        self.operator.must("store check").map(drop)
    }
}

/// A tool of others, as a script that leaves an OCI layout in `$OUT/image`.
struct Script<'a> {
    name: &'static str,
    operator: &'a Operator,
    output: PathBuf,
    /// An image of fewer bytes cannot hold the tree.
    smallest: u64,
    script: String,
}

/// Without unpack and repack, which would read and write the tree a second time.
fn umoci(tree: &Path) -> String {
    format!(
        "umoci init --layout $OUT/image && umoci new --image $OUT/image:v1 && umoci insert --image $OUT/image:v1 {} /",
        tree.display()
    )
}

/// Overlay rather than vfs storage: vfs copies the tree once more per layer.
fn buildah(tree: &Path, compress: bool) -> String {
    format!(
        "export BUILDAH_ISOLATION=chroot
         b() {{ buildah --root $OUT/storage --runroot $OUT/run --storage-driver overlay \"$@\"; }}
         container=$(b from scratch)
         b copy --quiet $container {} / >/dev/null
         b commit --quiet --disable-compression={} $container oci:$OUT/image:v1",
        tree.display(),
        !compress
    )
}

impl Contender for Script<'_> {
    fn name(&self) -> &str {
        self.name
    }

    fn prepare(&mut self) -> Result<()> {
        cache::remove_tree(&self.output)?;
        fs::create_dir_all(&self.output).context("cannot create a folder for the image")
    }

    fn run(&mut self) -> Result<()> {
        let mut shell = self.operator.shell(&format!("set -e; {}", self.script));
        command::run(shell.env("OUT", &self.output))?.ok().map(drop)
    }

    fn check(&mut self) -> Result<()> {
        let size = content::size_of_tree(&self.output.join("image"))?;
        if size < self.smallest {
            bail!("its image has {size} bytes: the tree is not in it");
        }
        Ok(())
    }
}
