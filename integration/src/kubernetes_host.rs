//! What a test host needs to become a host of Kubernetes, beyond what container engines need.
//!
//! All of it is because the host is a container of this machine and not a machine: images know nothing of it. What
//! every test host has already: `/dev/kmsg`, cgroups that can be written, and a `runc` that does without `CAP_SYS_RESOURCE`
//! (`base_tree.rs`).

use anyhow::Result;

use crate::Host;

/// Checks of `kubeadm init` that tell about the machine below the test host: its kernel has no modules to look at.
pub const CHECKS_OF_THE_MACHINE: &str = "SystemVerification";

/// Kernel settings that kubelet wants, and that belong to the whole machine.
const KERNEL_SETTINGS: &[(&str, &str)] = &[
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

impl Host {
    /// Makes the host fit for kubelet; to be called after every boot.
    ///
    /// Kernel settings that kubelet would change for the whole machine, such as to reboot after an oops, are covered
    /// by files of the host that say what it wants to read.
    ///
    /// # Errors
    /// When the host is not running, or its kernel settings cannot be covered.
    pub fn prepare_for_kubernetes(&self) -> Result<()> {
        for (setting, value) in KERNEL_SETTINGS {
            let file = format!("/run/kernel-settings/{}", setting.replace('/', "."));
            self.must(&format!(
                "mkdir -p /run/kernel-settings && echo {value} >{file} && mount --bind {file} /proc/sys/{setting}"
            ))?;
        }
        Ok(())
    }

    /// What kubelet said and which containers there are, for messages.
    #[must_use]
    pub fn kubernetes_log(&self) -> String {
        let log = self.run(
            "docker ps --all --format '{{.Names}} {{.Status}}' || ctr --namespace k8s.io tasks list; ip route; iptables-save | grep -E 'FORWARD|KUBE-(SVC|SEP)-'; \
             kubectl --kubeconfig /etc/kubernetes/admin.conf --cache-dir /run/kubectl get pods,endpoints --all-namespaces --output wide; \
             for proxy in $(docker ps --quiet --filter name=k8s_kube-proxy); do docker logs --tail 40 $proxy 2>&1; done; \
             journalctl --no-pager --output=cat --unit=pod-network; \
             journalctl --no-pager --output=cat --unit=kubelet --lines=100",
        );
        format!(
            "containers and kubelet on {}:\n{}",
            self.name(),
            log.map(|log| log.stdout).unwrap_or_default()
        )
    }
}
