//! This module owns what is said about directives that are unknown, not supported, or in the wrong order.

use crate::clusterfile::spelling::closest;
use crate::clusterfile::{Mistake, tree::Span};

/// What can be written.
pub(super) const KNOWN: [&str; 17] = [
    "FROM",
    "COPY",
    "ADD",
    "RUN",
    "ENV",
    "ARG",
    "LABEL",
    "MAINTAINER",
    "KUBEVERSION",
    "APP",
    "CNI",
    "CSI",
    "APPENV",
    "APPCMDS",
    "LAUNCH",
    "CMDS",
    "CMD",
];
/// A Dockerfile's directives about how a container runs.
const DOCKER_ONLY: [&str; 9] = [
    "ENTRYPOINT",
    "EXPOSE",
    "HEALTHCHECK",
    "ONBUILD",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

pub(super) fn unknown(name: &str, span: Span) -> Mistake {
    if name == "MERGE" {
        return Mistake::new(span, "images are not merged in a Kubefile")
            .help("run `gantry merge -t NAME IMAGE IMAGE…`");
    }
    if DOCKER_ONLY.contains(&name) {
        return Mistake::new(
            span,
            format!("{name} means nothing in a Kubefile: a ClusterImage is no container"),
        )
        .help("leave it out");
    }
    let shown: String = name.chars().take(40).collect();
    let mistake = Mistake::new(span, format!("unknown directive {shown:?}"));
    match closest(name, KNOWN) {
        Some(near) => mistake.help(format!("did you mean {near}?")),
        None => mistake.help(format!(
            "a line starts with one of {}; a long line goes on after \\",
            KNOWN.join(", ")
        )),
    }
}

pub(super) fn usage(name: &str) -> &'static str {
    match name {
        "FROM" => "write `FROM scratch` or `FROM IMAGE`",
        "COPY" => "write `COPY SRC… DST`; SRC below the build context or an address, DST below the rootfs",
        "ADD" => "write `ADD SRC… DST`; tar archives among SRC are unpacked",
        "LABEL" => "write `LABEL NAME=VALUE…`",
        "ENV" => "write `ENV NAME=VALUE…`",
        "ARG" => "write `ARG NAME` or `ARG NAME=DEFAULT`",
        "RUN" => "write `RUN COMMAND`",
        "MAINTAINER" => "write `MAINTAINER NAME`",
        "KUBEVERSION" => "write `KUBEVERSION CONSTRAINT`, e.g. `KUBEVERSION \">=1.28\"`",
        "APP" => "write `APP NAME local://PATH…`",
        "CNI" => "write `CNI NAME local://PATH…`",
        "CSI" => "write `CSI NAME local://PATH…`",
        "APPENV" => "write `APPENV APP NAME=VALUE…`",
        "APPCMDS" => "write `APPCMDS APP [\"COMMAND\", …]`",
        "LAUNCH" => "write `LAUNCH [\"APP\", …]`",
        "CMDS" => "write `CMDS [\"COMMAND\", …]`",
        _ => "write `CMD COMMAND`",
    }
}
