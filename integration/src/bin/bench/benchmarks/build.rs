//! Making an OCI image of a tree beside umoci and buildah.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use gantry_integration::{Operator, Options, Testbed, cache, command};

use crate::contender::Contender;
use crate::measure::{Meter, compare};
use crate::report::{Bound, Report, against_peers};
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
    let (tree, desk) = (tree.as_path(), operator.desk());
    let mut contenders: Vec<Box<dyn Contender + '_>> = vec![
        Box::new(GantryBuild { operator, tree }),
        Box::new(Script {
            name: "umoci insert (gzip)",
            operator,
            output: desk.join("umoci"),
            smallest: bytes / 10,
            script: umoci(tree),
        }),
        Box::new(Script {
            name: "buildah copy, commit (gzip)",
            operator,
            output: desk.join("buildah"),
            smallest: bytes / 10,
            script: buildah(tree),
        }),
    ];
    let all = compare(&Meter::of([operator.cgroup()]), settings.rounds, &mut contenders)?;

    report.note(format!(
        "{:.1} MB from cache into an OCI image of one compressed layer, on the same filesystem.",
        bytes as f64 / 1e6
    ));
    report.note("Gantry compresses with zstd in chunks of 1 MiB, each with its digest; the peers with gzip, their default,");
    report.note("at their default level. Nobody finds anything of an earlier round.");
    report.rates(bytes, 0, &all);
    let (speed, _) = against_peers(0, &all);
    report.goal(
        "speed / the faster of umoci and buildah",
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
fn buildah(tree: &Path) -> String {
    format!(
        "export BUILDAH_ISOLATION=chroot && b() {{ buildah --root $OUT/storage --runroot $OUT/run --storage-driver overlay \"$@\"; }} && \
         container=$(b from scratch) && b copy --quiet $container {} / >/dev/null && b commit --quiet $container oci:$OUT/image:v1",
        tree.display()
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
