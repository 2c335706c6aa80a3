//! Making an OCI image of a tree beside umoci and buildah, for the first time and again.

use std::path::Path;

use anyhow::Result;
use gantry_integration::{Options, Testbed};

use crate::contender::Contender;
use crate::kubernetes_tree;
use crate::measure::{Meter, compare};
use crate::memory_folder::MemoryFolder;
use crate::report::{Bound, Report, speed_ratio};
use crate::scripted::Scripted;
use crate::settings::Settings;

/// Overlay rather than vfs storage: vfs copies the tree once more per layer.
const BUILDAH: &str = "export BUILDAH_ISOLATION=chroot\n\
    b() { buildah --root $OUT/storage --runroot $OUT/run --storage-driver overlay \"$@\"; }\n";

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
    let (tree, memory) = (tree.display(), memory.path());
    // An image of fewer bytes cannot hold the tree.
    let holds_the_tree = format!(
        "[ $(du --bytes --summarize $OUT/image | cut -f1) -gt {} ]",
        bytes / 10
    );
    let buildah = |name, folder: &str, compress: bool| {
        let job = format!(
            "{BUILDAH}container=$(b from scratch)\nb copy --quiet $container {tree} / >/dev/null\n\
             b commit --quiet --disable-compression={} $container oci:$OUT/image:v1",
            !compress
        );
        Scripted::new(name, operator, memory.join(folder), job)
            .proof(&holds_the_tree)
            .boxed()
    };
    // umoci without unpack and repack, which would read and write the tree a second time.
    let umoci = format!(
        "umoci init --layout $OUT/image && umoci new --image $OUT/image:v1 && umoci insert --image $OUT/image:v1 {tree} /"
    );
    let gantry =
        format!("$GANTRY --root $OUT/gantry build -t bench/built:v1 --build-mode lite -f Kubefile {tree}");
    let mut contenders: Vec<Box<dyn Contender + '_>> = vec![
        Scripted::new(
            "gantry build (zstd:chunked)",
            operator,
            memory.join("gantry"),
            gantry,
        )
        .proof("$GANTRY --root $OUT/gantry store check")
        .boxed(),
        Scripted::new("umoci insert (gzip)", operator, memory.join("umoci"), umoci)
            .proof(&holds_the_tree)
            .boxed(),
        buildah("buildah copy, commit (gzip)", "buildah", true),
        buildah("buildah copy, commit (uncompressed)", "buildah-plain", false),
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
    report.goal(
        "speed / umoci",
        speed_ratio(gantry, &peers[..1]),
        Bound::AtLeast(1.0),
        "x",
    );
    report.goal(
        "speed / buildah with gzip",
        speed_ratio(gantry, &peers[1..2]),
        Bound::AtLeast(2.0),
        "x",
    );
    Ok(())
}

pub(crate) fn again(settings: &Settings, report: &mut Report) -> Result<()> {
    build_again(settings, report, true)
}

pub(crate) fn unchanged(settings: &Settings, report: &mut Report) -> Result<()> {
    build_again(settings, report, false)
}

/// A second build, with one file `changed` or nothing.
fn build_again(settings: &Settings, report: &mut Report, changed: bool) -> Result<()> {
    let bed = Testbed::with(&Options {
        hosts: 0,
        ..Options::default()
    })?;
    let operator = bed.operator();
    let tree = operator.desk().join("tree");
    let bytes = kubernetes_tree::write(&tree, settings)?;
    // What is changed comes last, as whoever builds often has it.
    operator.put(
        "Kubefile",
        "FROM scratch\nCOPY tree .\nCOPY changed etc/changed\n",
    )?;
    let memory = MemoryFolder::create()?;
    let memory = memory.path();
    let change = "head -c 100000 /dev/urandom > changed\n";
    let between = if changed { change } else { "" };
    let before = |build: &str| format!("{change}{build}\n{between}");
    let gantry = "$GANTRY --root $OUT/gantry build -t bench/built:v1 --build-mode lite .";
    let bud = format!("{BUILDAH}b bud --quiet --layers --file Kubefile --tag built . >/dev/null\n");
    // buildah compresses when the image leaves its storage; of what did not change nothing has to.
    let (name, buildah, proof) = if changed {
        let push = "b push --quiet --compression-format gzip built oci:$OUT/image:v1";
        ("buildah bud --layers, push", bud + push, "image")
    } else {
        ("buildah bud --layers", bud, "storage")
    };
    let mut contenders: Vec<Box<dyn Contender + '_>> = vec![
        Scripted::new("gantry build", operator, memory.join("gantry"), gantry)
            .before(before(gantry))
            .proof("$GANTRY --root $OUT/gantry store check")
            .boxed(),
        Scripted::new(name, operator, memory.join("buildah"), &buildah)
            .before(before(&buildah))
            .proof(is_there(&memory.join("buildah").join(proof)))
            .boxed(),
    ];
    let all = compare(&Meter::of([operator.cgroup()]), settings.rounds, &mut contenders)?;
    report.note(if changed {
        "Each built the image before; then one file of 100 kB was changed, which is copied last."
    } else {
        "Each built the image before, and nothing was changed."
    });
    report.rates(bytes, &all[0], &all[1..]);
    report.goal(
        "speed / buildah with its cache",
        speed_ratio(&all[0], &all[1..]),
        Bound::AtLeast(1.0),
        "x",
    );
    Ok(())
}

fn is_there(path: &Path) -> String {
    format!("[ -e {} ]", path.display())
}
