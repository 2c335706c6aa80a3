//! An image as a folder, beside umoci and podman.

use anyhow::Result;

use super::image::ImageSite;
use crate::contender::Contender;
use crate::measure::{Meter, compare};
use crate::report::{Bound, Report, speed_ratio};
use crate::scripted::Scripted;
use crate::settings::Settings;

pub(crate) fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    let site = ImageSite::create(settings)?;
    let operator = site.bed.operator();
    let (store, gzip) = (site.folder("store"), site.gzip_layout()?);
    let (store, gzip) = (store.display(), gzip.display());
    let mut contenders: Vec<Box<dyn Contender + '_>> = vec![
        Scripted::new(
            "gantry inspect (zstd:chunked)",
            operator,
            site.folder("gantry"),
            "$GANTRY --root $OUT/gantry inspect bench:v1 >/dev/null",
        )
        .before(format!(
            "mkdir -p $OUT/gantry && cp -a {store}/store $OUT/gantry/"
        ))
        .proof("find $OUT/gantry -path *bin/kubelet | grep --quiet .")
        .boxed(),
        Scripted::new(
            "umoci unpack (gzip)",
            operator,
            site.folder("umoci"),
            format!("umoci unpack --image {gzip}:v1 $OUT/bundle"),
        )
        .proof("[ -e $OUT/bundle/rootfs/bin/kubelet ]")
        .boxed(),
        Scripted::new(
            "podman pull (gzip)",
            operator,
            site.folder("podman"),
            format!(
                "TMPDIR=$OUT podman --root $OUT/storage --runroot $OUT/run --storage-driver overlay \
                 pull --quiet oci:{gzip}:v1 >/dev/null"
            ),
        )
        .proof("[ -e $OUT/storage/overlay/*/diff/bin/kubelet ]")
        .boxed(),
    ];
    let all = compare(&Meter::of([operator.cgroup()]), settings.rounds, &mut contenders)?;
    report.note("The same tree out of an image in memory, into memory; the peers' image is gzip, which umoci can read.");
    report.rates(site.bytes, &all[0], &all[1..]);
    let speed = speed_ratio(&all[0], &all[1..]);
    report.goal(
        "speed / the faster of umoci and podman",
        speed,
        Bound::AtLeast(2.0),
        "x",
    );
    Ok(())
}
