//! What sealer's command line has, in all its versions, that has no work to do here.

use super::Answer::{self, Anyway, AnywayIf, NotUsed, Refused};
use super::{Flag, Word};

const OVER_SSH: Answer = NotUsed("agents are enrolled (`gantry enroll`), nothing goes over ssh");
const OWN_WAY: Answer = NotUsed("agents know what they have, and fetch the rest");
const NO_LOG: Answer = NotUsed(
    "what happens is said on standard error, and GANTRY_LOG=debug says more (`gantry logs` for scripts)",
);
const NO_SPOOL: Answer =
    NotUsed("an archive is written and read without a second copy; what a store needs lies below --root");
const HOSTS_ARE_LISTED: Answer = Refused(
    "hosts stand in the Clusterfile",
    "write them into `spec.hosts`, or let `gantry join` and `gantry delete` do it",
);
const STAGE: &str = "`gantry stage -f Clusterfile` brings the image to the hosts and changes nothing else; `gantry run … --print` writes that file";
const ENV_IS_WRITTEN: Answer = Refused(
    "variables of a cluster stand in its Clusterfile",
    "write them into `spec.env` there, where the next command finds them, too",
);
const ONE_CLUSTER: Answer = Refused(
    "a cluster is named by its Clusterfile",
    "give that with -f; copies of those that were applied are in clusters/NAME/ below --root",
);

/// Flags, as sealer spells them.
pub(super) const FLAGS: &[Flag] = &[
    // Of every command.
    (
        "",
        "--config FILE",
        Refused(
            "there is no configuration file",
            "`gantry --help` names the flags and variables that take its place",
        ),
    ),
    ("", "--debug", NO_LOG),
    (".", "-d", NO_LOG),
    (".", "-q --quiet", Anyway),
    ("", "--hide-time", Anyway),
    ("", "--hide-path", Anyway),
    ("", "--log-to-file", NO_LOG),
    ("", "--remote-logger-url URL", NO_LOG),
    ("", "--task-name NAME", NO_LOG),
    // Images.
    (
        "build",
        "-m --mode MODE",
        AnywayIf(
            &["lite"],
            "a build needs no cluster, no cloud and no docker",
            "leave it out; container images are brought by the build itself, or not with --build-mode lite",
        ),
    ),
    (
        "build",
        "--base BOOL?",
        AnywayIf(
            &["", "true"],
            "an image has all layers that its Kubefile names",
            "begin with `FROM scratch` and say --type app-installer; `gantry merge` puts it on a base",
        ),
    ),
    ("images", "-a --all", Anyway),
    (
        "images",
        "--history",
        Refused(
            "a list of images has no room for what made them",
            "`gantry history IMAGE` shows it",
        ),
    ),
    (
        "inspect",
        "-t --type TYPE",
        AnywayIf(
            &["image"],
            "there are images, and no containers of builds",
            "leave it out",
        ),
    ),
    (
        "inspect",
        "-c --clusterfile",
        Refused(
            "the Clusterfile of an image is a file of it",
            "`gantry cat IMAGE etc/Clusterfile` prints it, `gantry run IMAGE -m IPS --print` fills it in",
        ),
    ),
    ("save", "--tmp-dir DIR", NO_SPOOL),
    ("save", "--compress", Anyway),
    ("load", "--tmp-dir DIR", NO_SPOOL),
    // Clusters.
    ("run", "-u --user NAME", OVER_SSH),
    ("run", "-p --passwd SECRET", OVER_SSH),
    ("run", "--port PORT", OVER_SSH),
    ("run", "--pk FILE", OVER_SSH),
    ("run", "--pk-passwd SECRET", OVER_SSH),
    (
        "run",
        "--provider NAME",
        AnywayIf(
            &["BAREMETAL", "baremetal"],
            "hosts are not created",
            "leave it out, and name hosts that are there and enrolled (`gantry enroll`)",
        ),
    ),
    (
        "run",
        "--mode MODE",
        AnywayIf(&["apply"], "`gantry run` makes clusters", STAGE),
    ),
    ("run", "--ignore-cache", OWN_WAY),
    ("run", "--distributor NAME", OWN_WAY),
    (
        "run",
        "--interface NAME",
        Refused(
            "the image brings the network",
            "change its manifest with a document of kind Config in a Clusterfile",
        ),
    ),
    (
        "run",
        "--cni NAME",
        Refused(
            "the image brings the network",
            "change its manifest with a document of kind Config in a Clusterfile",
        ),
    ),
    ("apply", "-u --user NAME", OVER_SSH),
    ("apply", "-p --passwd SECRET", OVER_SSH),
    ("apply", "--port PORT", OVER_SSH),
    ("apply", "--pk FILE", OVER_SSH),
    ("apply", "--pk-passwd SECRET", OVER_SSH),
    (
        "apply",
        "-m --applyMode MODE",
        AnywayIf(
            &["apply"],
            "`gantry apply` makes the hosts what the Clusterfile says",
            STAGE,
        ),
    ),
    ("apply", "--masters IPS", HOSTS_ARE_LISTED),
    ("apply", "-n --nodes IPS", HOSTS_ARE_LISTED),
    ("apply", "-e --env VARIABLE", ENV_IS_WRITTEN),
    ("apply", "--ignore-cache", OWN_WAY),
    ("join", "-u --user NAME", OVER_SSH),
    ("join", "-p --passwd SECRET", OVER_SSH),
    ("join", "--port PORT", OVER_SSH),
    ("join", "--pk FILE", OVER_SSH),
    ("join", "--pk-passwd SECRET", OVER_SSH),
    ("join", "-e --env VARIABLE", ENV_IS_WRITTEN),
    ("join", "-c --cluster-name NAME", ONE_CLUSTER),
    ("join", "--ignore-cache", OWN_WAY),
    ("delete", "-e --env VARIABLE", ENV_IS_WRITTEN),
    ("delete", "-c --cluster NAME", ONE_CLUSTER),
    ("delete", "-p --prune", Anyway),
    (
        "rollback",
        "--apps NAMES",
        Refused(
            "applications are those that the Clusterfile names",
            "write them into `spec.appNames` there",
        ),
    ),
    ("rollback", "--ignore-cache", OWN_WAY),
    (
        "check",
        "--pre",
        Refused(
            "hosts are looked at before every change",
            "`gantry plan -f Clusterfile` does it and changes nothing",
        ),
    ),
    (
        "check",
        "--post",
        Refused(
            "a cluster is looked at by another command",
            "`gantry status` shows its nodes, etcd, certificates and what differs on the hosts",
        ),
    ),
];

/// Commands, as sealer spells them.
pub(super) const COMMANDS: &[Word] = &[
    (
        "upgrade",
        "an upgrade is an apply",
        "name the new image in the Clusterfile, then `gantry plan` and `gantry apply`",
    ),
    ("cert", CERT.0, CERT.1),
    ("gen", GEN.0, GEN.1),
    ("debug", DEBUG.0, DEBUG.1),
    ("exec", EXEC.0, EXEC.1),
    (
        "gen-doc",
        "there is one page for each command",
        "`gantry man DIR` writes them",
    ),
    (
        "manifest delete",
        "a name that leads to several images is removed like any other",
        "`gantry rmi NAME` does it",
    ),
    ("alpha cert", CERT.0, CERT.1),
    ("alpha gen", GEN.0, GEN.1),
    ("alpha debug", DEBUG.0, DEBUG.1),
    ("alpha exec", EXEC.0, EXEC.1),
    (
        "alpha check",
        "a cluster is looked at by other commands",
        "`gantry plan` looks at hosts before a change, `gantry status` after it",
    ),
    (
        "alpha host-alias",
        "names of addresses stand in the Clusterfile",
        "write them into `spec.hostAliases` there, then `gantry apply`",
    ),
];
const CERT: (&str, &str) = (
    "certificates are looked after by another command",
    "`gantry certs` lists them, `gantry certs renew` renews them; further names of the API server are in `spec.env`: CertSANs=NAME,ADDRESS",
);
const GEN: (&str, &str) = (
    "a cluster that others made is not taken over",
    "write a Clusterfile for hosts that have no cluster, and `gantry apply` it",
);
const DEBUG: (&str, &str) = (
    "Kubernetes has its own way to look into pods and nodes",
    "`kubectl debug POD` or `kubectl debug node/NAME`; `gantry logs` shows what scripts wrote on a host",
);
const EXEC: (&str, &str) = (
    "agents run what images and Clusterfiles bring, at its moment",
    "write a document of kind Plugin and type SHELL, or use ssh",
);

/// Command lines of sealer's that do here what they do there.
#[cfg(test)]
pub(super) const SAME: &[&str] = &[
    "build -t x:v1",
    "build -f Kubefile -t x:v1 .",
    "build --kubefile Kubefile --imageName x:v1 --no-cache .",
    "build -m lite -t x:v1 --base .",
    "build -t x:v1 --base=true --build-arg a=b --platform linux/amd64,linux/arm64 .",
    "build -t x:v1 --image-list A --image-list-with-auth B --ignored-image-list C .",
    "build -t x:v1 --pull=ifnewer .",
    "build -t x:v1 --pull=always .",
    "build -t x:v1 --pull=never .",
    "build -t x:v1 --pull=missing .",
    "build -t x:v1 --pull=true .",
    "build -t x:v1 --pull=false .",
    "build -t x:v1 --pull .",
    "build -t x:v1 --type kube-installer --build-mode all .",
    "build -t x:v1 --type app-installer --build-mode lite .",
    "build -t x:v1 --annotation a=b --label c=d .",
    "pull x:v1 --platform linux/arm64 --policy ifnewer -q --skip-tls-verify",
    "push x:v1 --authfile F --skip-tls-verify -q --all",
    "images",
    "images -a --digests --no-trunc",
    "images --json",
    "images -n",
    "images --noheading -q",
    "inspect -f {{.Digest}} x:v1",
    "inspect -t image x:v1",
    "inspect --platform linux/arm64 x:v1",
    "save x:v1 -o F --format oci-archive -q",
    "save x:v1 -o F --format oci-dir --compress",
    "save x:v1 -o F --format docker-archive --platform linux/amd64",
    "save x:v1 -o F --format docker-dir",
    "load -i F -q",
    "tag x:v1 y:v1 z:v1",
    "rmi x:v1 y:v1 -f",
    "rmi -p",
    "rmi x:v1 --platform linux/arm64",
    "login hub.lab -u me -p secret --skip-tls-verify",
    "login hub.lab -u me --passwd secret",
    "logout hub.lab",
    "merge x:v1 y:v1 -t z:v1 --platform linux/amd64",
    "alpha merge x:v1 y:v1 -t z:v1",
    "search x",
    "alpha search x",
    "prune",
    "alpha manifest create x:v1 y:v1",
    "alpha manifest inspect x:v1",
    "alpha manifest push x:v1",
    "alpha mount x:v1",
    "alpha umount -a",
    "run x:v1 -m 10.0.0.2 -n 10.0.0.3 --cluster-name c --cmd-args a=b -e A=b",
    "run x:v1 -m 10.0.0.2 --podcidr 10.0.0.0/8 --svccidr 10.0.0.0/8 --provider BAREMETAL",
    "run -f Clusterfile --apps a,b --mode apply",
    "apply -f Clusterfile --force -m apply",
    "scale-up -n 10.0.0.3",
    "join -m 10.0.0.3",
    "delete -n 10.0.0.3 --force -p",
    "delete -a",
    "rollback x:v1",
    "version",
    "version -s",
    "completion bash",
];
