//! This module owns [`HandMade`]: what a plan does, as a shell script of scp and ssh, so that both do the same work.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context as _, Result};
use gantry_integration::Host;
use gantry_model::{KubeadmAct, KubeadmSpec, ScriptSpec, Step, StepAction};
use serde::Deserialize;

use crate::ssh_peer::SshKey;

/// Where the rootfs is copied to.
const ROOTFS: &str = "/srv/rootfs";
/// Where kubeadm's configuration is written to.
const CONFIG: &str = "/root/kubeadm.yaml";
/// What lets a host in, as `kubeadm token create --print-join-command` prints it.
const PASS: &str = "token=$(sed 's/.*--token \\([^ ]*\\).*/\\1/' pass); hash=$(sed 's/.*\\(sha256:[0-9a-f]*\\).*/\\1/' pass)";

/// The part of a plan that matters here.
#[derive(Deserialize)]
struct Plan {
    waves: Vec<Wave>,
}

#[derive(Deserialize)]
struct Wave {
    steps: Vec<Planned>,
}

#[derive(Deserialize)]
struct Planned {
    host: IpAddr,
    step: Step,
}

/// What is to be done on each host.
#[derive(Default)]
pub(crate) struct HandMade {
    entries: BTreeMap<IpAddr, Vec<String>>,
    scripts: BTreeMap<IpAddr, Vec<ScriptSpec>>,
    kubeadm: BTreeMap<IpAddr, KubeadmSpec>,
    first: Option<IpAddr>,
}

impl HandMade {
    /// The work of a plan in its JSON form.
    pub(crate) fn of(plan: &[u8]) -> Result<Self> {
        let plan: Plan = serde_json::from_slice(plan).context("the plan cannot be read")?;
        let mut work = Self::default();
        for Planned { host, step } in plan.waves.into_iter().flat_map(|wave| wave.steps) {
            match step.action {
                StepAction::WriteHostsEntries { entries, .. } => {
                    let lines = entries
                        .into_iter()
                        .map(|entry| format!("{} {}", entry.address, entry.names.join(" ")));
                    work.entries.entry(host).or_default().extend(lines);
                }
                StepAction::RunScript(script) => work.scripts.entry(host).or_default().push(script),
                StepAction::Kubeadm(kubeadm) => {
                    if kubeadm.act == KubeadmAct::Init {
                        work.first = Some(host);
                    }
                    work.kubeadm.insert(host, kubeadm);
                }
                _ => {}
            }
        }
        Ok(work)
    }

    /// The shell script, to be run where the folder `rootfs` is.
    pub(crate) fn script(&self, key: &SshKey, hosts: &[&Host]) -> Result<String> {
        let first = self.first.context("the plan begins a cluster")?;
        let on = |host: &Host| key.ssh(&key.to(host));
        let is_first = |host: &&&Host| IpAddr::from(host.address()) == first;
        let master = *hosts
            .iter()
            .find(is_first)
            .context("the first host is one of them")?;
        let workers: Vec<&Host> = hosts.iter().filter(|host| !is_first(host)).copied().collect();
        let mut text = String::from("set -e\nall() { for job in $jobs; do wait $job; done; jobs=; }\n");
        for host in hosts {
            text.push_str(&format!(
                "{} & jobs=\"$jobs $!\"\n",
                key.copy("rootfs", host, ROOTFS)
            ));
        }
        text.push_str("all\n");
        for host in hosts {
            let words = self.set_up(host.address().into(), first);
            text.push_str(&format!(
                "{} bash -s <<'END' & jobs=\"$jobs $!\"\n{words}END\n",
                on(host)
            ));
        }
        text.push_str("all\n");
        let begin = self.join(first, "init --upload-certs")?;
        text.push_str(&format!(
            "{} bash -s <<'END' >pass\n{begin}{ROOTFS}/bin/kubeadm token create --print-join-command\nEND\n{PASS}\n",
            on(master)
        ));
        for host in &workers {
            let words = self.join(host.address().into(), "join")?;
            text.push_str(&format!(
                "{} \"TOKEN=$token HASH=$hash bash -s\" <<'END' & jobs=\"$jobs $!\"\n{words}END\n",
                on(host)
            ));
        }
        text.push_str("all\n");
        text.push_str(&format!(
            "{} '{ROOTFS}/bin/kubectl --kubeconfig /etc/kubernetes/admin.conf wait --for=condition=Ready node --all --timeout=300s'\n",
            on(master)
        ));
        Ok(text)
    }

    /// Names, scripts, and what a control plane reads.
    fn set_up(&self, host: IpAddr, first: IpAddr) -> String {
        let mut text = String::from("set -e\n");
        for line in self.entries.get(&host).into_iter().flatten() {
            // Without a balancer workers ask the control plane itself.
            let line = line.replace("127.0.0.1 apiserver", &format!("{first} apiserver"));
            text.push_str(&format!("echo '{line}' >>/etc/hosts\n"));
        }
        for script in self.scripts.get(&host).into_iter().flatten() {
            let env: String = script
                .env
                .iter()
                .map(|(name, value)| format!(" {}", quoted(&format!("{name}={value}"))))
                .collect();
            let args: String = script
                .args
                .iter()
                .map(|word| format!(" {}", quoted(&word.replace("{rootfs}", ROOTFS))))
                .collect();
            let (folder, name) = script.path.rsplit_once('/').unwrap_or((".", &script.path));
            text.push_str(&format!(
                "cd {ROOTFS}/{folder}\nenv{env} bash {name}{args} </dev/null >/dev/null\n"
            ));
        }
        if host == first {
            text.push_str(&format!(
                "cd {ROOTFS}\nif [ -e statics/audit-policy.yml ]; then install -D -m 600 statics/audit-policy.yml /etc/kubernetes/audit-policy.yml; fi\n"
            ));
        }
        text
    }

    /// kubeadm with its configuration.
    fn join(&self, host: IpAddr, command: &str) -> Result<String> {
        let kubeadm = self.kubeadm.get(&host).context("every host is a member")?;
        let list = |flag: &str, words: &[String]| {
            if words.is_empty() {
                String::new()
            } else {
                format!(" --{flag}={}", words.join(","))
            }
        };
        Ok(format!(
            "set -e\ncat >{CONFIG} <<'CONFIG'\n{}\nCONFIG\nsed -i \"s/{{token}}/$TOKEN/; s/{{ca-hash}}/$HASH/\" {CONFIG}\n\
             {ROOTFS}/bin/kubeadm {command} --config {CONFIG}{}{} </dev/null >&2\n",
            kubeadm.config,
            list("ignore-preflight-errors", &kubeadm.ignored_checks),
            list("skip-phases", &kubeadm.skipped_phases),
        ))
    }
}

/// A word of the shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}
