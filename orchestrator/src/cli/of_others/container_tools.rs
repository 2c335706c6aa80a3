//! What docker, podman, buildah and skopeo have in commands of the same name, or call otherwise.

use super::Answer::{self, Anyway, AnywayIf, NotUsed, Refused};
use super::{Flag, Word};

const LOGINS_ARE_KEPT: Answer = Refused(
    "other users of this machine see a password on a command line",
    "`gantry login REGISTRY -u NAME --password-stdin` keeps the login, with --authfile FILE for commands with that flag alone",
);
const ONE_PLATFORM: Answer = Refused("a platform is one word", "give --platform OS/ARCH[/VARIANT]");
const LIST_FORMS: Answer = Refused("a list is a table or JSON", "give -o json");
const DIGEST_IS_PRINTED: Answer = Refused(
    "standard output has the name and the digest, and nothing else",
    "write that into the file: `gantry … > FILE`",
);

/// Flags, as they are spelled there.
pub(super) const FLAGS: &[Flag] = &[
    ("build", "--creds LOGIN", LOGINS_ARE_KEPT),
    ("build", "--arch ARCH", ONE_PLATFORM),
    ("build", "--os OS", ONE_PLATFORM),
    ("build", "--variant VARIANT", ONE_PLATFORM),
    ("build", "--rm BOOL?", Anyway),
    ("build", "--force-rm BOOL?", Anyway),
    (
        "build",
        "--layers BOOL?",
        AnywayIf(
            &["", "true"],
            "what was built before is cached, and each directive has its layer",
            "give --no-cache to carry out every step",
        ),
    ),
    (
        "build",
        "--squash",
        Refused(
            "layers are what need not travel twice",
            "leave it out; files of one COPY or RUN are one layer",
        ),
    ),
    (
        "build",
        "--target STAGE",
        Refused(
            "a Kubefile has one stage",
            "write a Kubefile for each image, and choose one with -f",
        ),
    ),
    (
        "build",
        "-v --volume MOUNT",
        Refused(
            "RUN sees the image and the programs of this machine alone",
            "bring what it needs into the image with COPY",
        ),
    ),
    (
        "build",
        "--format FORM",
        AnywayIf(
            &["oci"],
            "an image is an OCI image",
            "leave it out; `gantry save --format docker-archive` writes docker's form",
        ),
    ),
    (
        "build",
        "--progress WAY",
        NotUsed("progress is shown on a terminal, and lines elsewhere"),
    ),
    (
        "build",
        "-q --quiet",
        NotUsed("standard output has nothing but the name and the digest"),
    ),
    ("build", "--iidfile FILE", DIGEST_IS_PRINTED),
    ("pull", "--creds LOGIN", LOGINS_ARE_KEPT),
    ("pull", "--arch ARCH", ONE_PLATFORM),
    ("pull", "--os OS", ONE_PLATFORM),
    ("pull", "--variant VARIANT", ONE_PLATFORM),
    (
        "pull",
        "-a --all-tags",
        Refused(
            "images are pulled by their names",
            "`gantry search REPOSITORY` lists the tags",
        ),
    ),
    ("push", "--creds LOGIN", LOGINS_ARE_KEPT),
    ("push", "--digestfile FILE", DIGEST_IS_PRINTED),
    (
        "push",
        "-a --all-tags",
        Refused(
            "images are pushed by their names",
            "`gantry images -o json REPOSITORY` lists the tags",
        ),
    ),
    (
        "push",
        "-f --format FORM",
        AnywayIf(
            &["oci"],
            "an image is pushed as it is, so that its digest stays",
            "leave it out",
        ),
    ),
    (
        "push",
        "--sign-by KEY",
        Refused(
            "an image is signed before it is pushed",
            "`gantry sign --key FILE IMAGE`, then push it: signatures go along",
        ),
    ),
    ("manifest push", "--creds LOGIN", LOGINS_ARE_KEPT),
    ("search", "--creds LOGIN", LOGINS_ARE_KEPT),
    ("search", "--list-tags", Anyway),
    (
        "login",
        "--get-login",
        Refused(
            "who is logged in is not shown",
            "`podman login --get-login REGISTRY` reads the same file",
        ),
    ),
    (
        "logout",
        "-a --all",
        Refused("logins are ended one by one", "name the registry"),
    ),
    (
        "images",
        "-f --filter FILTER",
        Refused(
            "a list is of all images, or of one name",
            "`gantry images NAME`, or choose from `gantry images -o json`",
        ),
    ),
    ("images", "--format FORM", LIST_FORMS),
    (
        "rmi",
        "-a --all",
        Refused(
            "images are removed by their names or ids",
            "`gantry rmi $(gantry images -q)` removes every one",
        ),
    ),
    (
        "history",
        "-q --quiet",
        Refused(
            "what made an image has no ids",
            "`gantry history -o json IMAGE` has the digests of layers",
        ),
    ),
    ("history", "-H --human BOOL?", Anyway),
    ("history", "--format FORM", LIST_FORMS),
    ("inspect", "-s --size", Anyway),
    ("save", "-m --multi-image-archive", Anyway),
];

/// Commands, as they are spelled there.
pub(super) const COMMANDS: &[Word] = &[
    (
        "manifest annotate",
        "an image says itself which platform it is for",
        "`gantry build --platform OS/ARCH` makes it for that, and `gantry manifest add` takes it",
    ),
    (
        "manifest rm",
        "a name that leads to several images is removed like any other",
        "`gantry rmi NAME` does it, `gantry manifest remove NAME PLATFORM` takes one platform out",
    ),
    (
        "copy",
        "an image is brought here first, and sent on from here",
        "`gantry pull` or `gantry load`, then `gantry push` or `gantry save`",
    ),
    (
        "list-tags",
        "tags are what a search lists",
        "`gantry search REPOSITORY`",
    ),
    ("bud", "there is one word for it", "`gantry build`"),
    (
        "image",
        "commands for images have no word before them",
        "`gantry images`, `gantry inspect`, `gantry history`, `gantry rmi`, `gantry prune`",
    ),
    (
        "untag",
        "a name is taken away like an image",
        "`gantry rmi NAME` leaves what has another name",
    ),
];

/// Command lines of theirs that do here what they do there.
#[cfg(test)]
pub(super) const SAME: &[&str] = &[
    "build -t x:v1 -t y:v1 -f - .",
    "build --rm --force-rm=true --layers -t x:v1 .",
    "pull --tls-verify=false docker://hub.lab/x:v1",
    "push x:v1 docker://hub.lab/x:v1",
    "manifest push x:v1 docker://hub.lab/x:v1",
    "search --list-tags hub.lab/x",
    "login hub.lab/team -u me --password-stdin",
    "images hub.lab/x",
    "images -q x",
    "history -H --no-trunc x:v1",
    "inspect -s -f {{.Id}} x:v1",
    "save -m -o F x:v1 y:v1",
];
