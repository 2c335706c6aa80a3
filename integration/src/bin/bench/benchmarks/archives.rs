//! To and from OCI archives, beside skopeo.

use anyhow::Result;

use super::image::ImageSite;
use crate::contender::Contender;
use crate::measure::{Meter, compare};
use crate::report::{Bound, Report, speed_ratio};
use crate::scripted::Scripted;
use crate::settings::Settings;

pub(crate) fn save(settings: &Settings, report: &mut Report) -> Result<()> {
    let site = ImageSite::create(settings)?;
    let operator = site.bed.operator();
    let whole = "[ $(tar --list --file $OUT/image.tar | grep --count blobs/sha256/.) -gt 2 ]";
    let mut contenders: Vec<Box<dyn Contender + '_>> = vec![
        Scripted::new(
            "gantry save",
            operator,
            site.folder("gantry"),
            format!(
                "$GANTRY --root {} save -o $OUT/image.tar bench:v1",
                site.folder("store").display()
            ),
        )
        .proof(whole)
        .boxed(),
        Scripted::new(
            "skopeo copy",
            operator,
            site.folder("skopeo"),
            format!(
                "TMPDIR=$OUT skopeo copy --quiet oci:{}:bench:v1 oci-archive:$OUT/image.tar:v1",
                site.folder("layout").display()
            ),
        )
        .proof(whole)
        .boxed(),
    ];
    let all = compare(&Meter::of([operator.cgroup()]), settings.rounds, &mut contenders)?;
    report.note("The same image, from memory into memory.");
    report.rates(site.bytes, &all[0], &all[1..]);
    let speed = speed_ratio(&all[0], &all[1..]);
    report.goal("speed / skopeo", speed, Bound::AtLeast(1.0), "x");
    Ok(())
}

pub(crate) fn load(settings: &Settings, report: &mut Report) -> Result<()> {
    let site = ImageSite::create(settings)?;
    let operator = site.bed.operator();
    site.sh("$GANTRY --root $OUT/store save -o $OUT/image.tar bench:v1")?;
    let archive = site.folder("image.tar");
    let archive = archive.display();
    let mut contenders: Vec<Box<dyn Contender + '_>> = vec![
        Scripted::new(
            "gantry load",
            operator,
            site.folder("gantry"),
            format!("$GANTRY --root $OUT/gantry load {archive}"),
        )
        .proof("$GANTRY --root $OUT/gantry store check")
        .boxed(),
        Scripted::new(
            "skopeo copy",
            operator,
            site.folder("skopeo"),
            format!("TMPDIR=$OUT skopeo copy --quiet oci-archive:{archive} oci:$OUT/layout:v1"),
        )
        .proof("[ -e $OUT/layout/index.json ]")
        .boxed(),
    ];
    let all = compare(&Meter::of([operator.cgroup()]), settings.rounds, &mut contenders)?;
    report.note("The same archive, from memory into memory: a store, an OCI layout.");
    report.rates(site.bytes, &all[0], &all[1..]);
    let speed = speed_ratio(&all[0], &all[1..]);
    report.goal("speed / skopeo", speed, Bound::AtLeast(1.0), "x");
    Ok(())
}
