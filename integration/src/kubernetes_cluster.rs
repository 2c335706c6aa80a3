//! Situations with a Kubernetes cluster in them, and how tests look into it.

use std::os::unix::fs::symlink;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::kubernetes_host::CHECKS_OF_THE_MACHINE;
use crate::kubernetes_image::{Runtime, kubernetes_image, next_kubernetes_image};
use crate::{Applied, Host, Options, Snapshot, Testbed};

/// For a master that is the only host: kubeadm keeps workloads away from masters.
const RUNS_WORKLOADS: &str = "taints: ['node-role.kubernetes.io/master:NoSchedule-']";

impl Testbed {
    /// Boots enrolled hosts that can be hosts of Kubernetes; the operator has the image `kubernetes:v1.20.2`, and a
    /// Clusterfile in which the first `masters` hosts run the control plane and the others workloads.
    ///
    /// # Errors
    /// As [`Testbed::enrolled`], or when the image cannot be made.
    pub fn for_kubernetes(masters: u8, nodes: u8) -> Result<Self> {
        Self::for_kubernetes_on(Runtime::Docker, masters, nodes)
    }

    /// As [`Testbed::for_kubernetes`], with the image for this container runtime. A host that is alone runs workloads too.
    ///
    /// # Errors
    /// As [`Testbed::for_kubernetes`].
    pub fn for_kubernetes_on(runtime: Runtime, masters: u8, nodes: u8) -> Result<Self> {
        let options = Options {
            hosts: masters + nodes,
            ..Options::default()
        };
        Self::for_kubernetes_with(runtime, masters, &options)
    }

    /// As [`Testbed::for_kubernetes_on`], with hosts as `options` say, of which the first `masters` run the control plane.
    ///
    /// # Errors
    /// As [`Testbed::for_kubernetes`].
    pub fn for_kubernetes_with(runtime: Runtime, masters: u8, options: &Options) -> Result<Self> {
        let nodes = options.hosts - masters;
        let image = kubernetes_image(runtime)?;
        let bed = Self::enrolled_with(options)?;
        for host in bed.hosts() {
            host.prepare_for_kubernetes()?;
        }
        symlink(image, bed.operator().desk().join("rootfs"))?;
        let name = format!("{}:v1.20.2", runtime.image());
        bed.operator().must(&format!("build -t {name} rootfs"))?;
        let fields = if masters + nodes == 1 { RUNS_WORKLOADS } else { "" };
        bed.write_clusterfile_for(&name, masters, nodes, fields)?;
        Ok(bed)
    }

    /// Writes a Clusterfile for the image `kubernetes:v1.20.2`: the first `masters` hosts run the control plane, the
    /// next `nodes` workloads.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_clusterfile(&self, masters: u8, nodes: u8) -> Result<()> {
        self.write_marked_clusterfile(masters, nodes, "")
    }

    /// Like [`Self::write_clusterfile`], with more fields for the group of the nodes: lines of YAML.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_marked_clusterfile(&self, masters: u8, nodes: u8, fields: &str) -> Result<()> {
        self.write_clusterfile_for("kubernetes:v1.20.2", masters, nodes, fields)
    }

    /// Builds the image that a cluster of [`Testbed::for_kubernetes`] can be upgraded to, and writes a Clusterfile with it.
    /// Gives the image's name.
    ///
    /// # Errors
    /// When the image cannot be made, or the file not written.
    pub fn wish_for_next_kubernetes(&self, masters: u8, nodes: u8) -> Result<&'static str> {
        let name = "kubernetes:v1.20.3";
        let folder = self.operator().desk().join("next");
        if !folder.is_symlink() {
            symlink(next_kubernetes_image()?, folder)?;
        }
        self.operator().must(&format!("build -t {name} next"))?;
        self.write_clusterfile_for(name, masters, nodes, "")?;
        Ok(name)
    }

    fn write_clusterfile_for(&self, image: &str, masters: u8, nodes: u8, fields: &str) -> Result<()> {
        let addresses = |hosts: &[Host]| {
            let addresses: Vec<String> = hosts.iter().map(|host| host.address().to_string()).collect();
            addresses.join(", ")
        };
        let (masters, others) = self.hosts().split_at(masters.into());
        let nodes = &others[..nodes.into()];
        let fields: String = fields.lines().map(|line| format!("      {line}\n")).collect();
        let groups = if nodes.is_empty() {
            fields
        } else {
            format!("    - ips: [{}]\n      roles: [node]\n{fields}", addresses(nodes))
        };
        let checks = format!("nodeRegistration:\n  ignorePreflightErrors: [{CHECKS_OF_THE_MACHINE}]");
        let text = format!(
            "apiVersion: sealer.io/v2\nkind: Cluster\nmetadata:\n  name: demo\nspec:\n  image: {image}\n  \
             hosts:\n    - ips: [{}]\n      roles: [master]\n{groups}\
             ---\n# These hosts have no kernel modules to look at.\nkind: InitConfiguration\n{checks}\n---\n\
             kind: JoinConfiguration\n{checks}\n---\n# Their disk is this machine's, which may be fuller than kubelet likes.\n\
             kind: KubeletConfiguration\nevictionHard: {{ imagefs.available: 1Gi, nodefs.available: 1Gi }}\n",
            addresses(masters)
        );
        self.operator().put("Clusterfile", text).map(drop)
    }

    /// Applies the Clusterfile.
    ///
    /// # Errors
    /// When it does not end well; the message holds what containers and kubelets say.
    pub fn apply_kubernetes(&self) -> Result<Applied> {
        let applied = self.operator().apply()?.ok();
        applied.with_context(|| self.kubernetes_logs())
    }

    /// How many members of etcd `gantry status` finds.
    ///
    /// # Errors
    /// When it does not succeed, or says something else.
    pub fn etcd_members(&self) -> Result<usize> {
        let status: Value = serde_json::from_str(&self.operator().must("status -o json")?)?;
        let members = status["health"]["etcd"].as_array().map(Vec::len);
        members.with_context(|| format!("no members of etcd in {status:#}"))
    }

    /// What containers and kubelets of all hosts say, for messages.
    #[must_use]
    pub fn kubernetes_logs(&self) -> String {
        self.hosts().iter().map(Host::kubernetes_log).collect()
    }
}

impl Host {
    /// Runs kubectl as the cluster's administrator, on a control plane.
    ///
    /// # Errors
    /// When it fails; the message holds what the host's containers say.
    pub fn kubectl(&self, words: &str) -> Result<String> {
        self.must(&format!(
            "kubectl --kubeconfig /etc/kubernetes/admin.conf --cache-dir /run/kubectl {words}"
        ))
        .with_context(|| self.kubernetes_log())
    }

    /// The cluster's nodes, by the API server of this control plane: name, version of kubelet, readiness (`True`, `False`,
    /// `Unknown`), and whether pods are kept away; `host1 v1.20.2 True;host2 v1.20.2 True cordoned;`.
    ///
    /// # Errors
    /// As [`Host::kubectl`].
    pub fn nodes(&self) -> Result<String> {
        let nodes: Value = serde_json::from_str(&self.kubectl("get nodes -o json")?)?;
        let nodes = nodes["items"].as_array().context("a list of nodes has items")?;
        Ok(nodes.iter().map(line_of_node).collect())
    }

    /// That no process, chain, link or unit of Kubernetes is left on the host, which is as it was at the moment `before`.
    ///
    /// # Errors
    /// What is left.
    pub fn ensure_without_cluster(&self, before: &Snapshot) -> Result<()> {
        let processes = self.run("pgrep --list-full 'kube|etcd|dockerd|containerd|pause|busybox'")?;
        ensure!(
            processes.stdout.is_empty(),
            "processes on {}: {processes}",
            self.name()
        );
        let traces = self.run(
            "iptables-save | grep -E 'KUBE|CNI'; ip -brief link show type bridge; ip route show protocol 77; \
             ls -d /sys/fs/cgroup/*/kubepods; systemctl list-units --no-legend 'gantry-balancer*' 'gantry-registry*' 'pod-network*'",
        )?;
        ensure!(traces.stdout.is_empty(), "traces on {}: {traces}", self.name());
        self.ensure_as_before(before)
    }

    /// The page that answers at port 8080 of `address`, if one does.
    ///
    /// # Errors
    /// When nothing can be run on the host.
    pub fn fetch_page(&self, address: &str) -> Result<Option<String>> {
        let page = self.run(&format!(
            "timeout 2 bash -c \"exec 3<>/dev/tcp/{address}/8080; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3\""
        ))?;
        Ok(page.succeeded().then_some(page.stdout))
    }
}

fn line_of_node(node: &Value) -> String {
    let conditions = node["status"]["conditions"].as_array();
    let ready = conditions
        .into_iter()
        .flatten()
        .find(|condition| condition["type"] == "Ready");
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let cordoned = node["spec"]["unschedulable"] == true;
    format!(
        "{} {} {}{};",
        word(&node["metadata"]["name"]),
        word(&node["status"]["nodeInfo"]["kubeletVersion"]),
        ready.map(|ready| word(&ready["status"])).unwrap_or_default(),
        if cordoned { " cordoned" } else { "" }
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_is_told_in_one_line() {
        let node = |unschedulable: Value| {
            json!({
                "metadata": { "name": "host1" },
                "spec": { "unschedulable": unschedulable },
                "status": {
                    "conditions": [{ "type": "DiskPressure", "status": "False" }, { "type": "Ready", "status": "True" }],
                    "nodeInfo": { "kubeletVersion": "v1.20.2" },
                },
            })
        };
        assert_eq!(line_of_node(&node(Value::Null)), "host1 v1.20.2 True;");
        assert_eq!(line_of_node(&node(json!(true))), "host1 v1.20.2 True cordoned;");
        assert_eq!(
            line_of_node(&json!({ "metadata": { "name": "host1" } })),
            "host1  ;"
        );
    }
}
