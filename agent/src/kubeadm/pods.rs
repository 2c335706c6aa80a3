//! Whether a pod serves, as kubelet or the API tells of it.

use serde_json::Value;

/// Whether every container of `pod` runs, has started as its startup probe wants it, and is ready as its readiness probe wants it.
/// The pod's own condition lags behind: kubelets forget it when they start anew, and without a readiness probe they set it only
/// when they next look at the pod, after a minute or more.
pub(super) fn is_up(pod: &Value) -> bool {
    let containers = pod["spec"]["containers"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let statuses = pod["status"]["containerStatuses"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let is_up = |container: &Value| {
        let status = statuses.iter().find(|status| status["name"] == container["name"]);
        status.is_some_and(|status| {
            let is_ready = status["ready"] == true || container["readinessProbe"].is_null();
            !status["state"]["running"].is_null() && status["started"] == true && is_ready
        })
    };
    !containers.is_empty() && containers.iter().all(is_up)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_container_without_a_readiness_probe_serves_once_it_has_started() {
        let pod = |container: Value, state: Value| {
            is_up(&json!({"spec": {"containers": [container]}, "status": {"containerStatuses": [state]}}))
        };
        let state = |started: bool| json!({"name": "a", "ready": false, "started": started, "state": {"running": {}}});
        assert!(pod(json!({"name": "a"}), state(true)));
        assert!(!pod(json!({"name": "a"}), state(false)));
        assert!(!pod(json!({"name": "a", "readinessProbe": {}}), state(true)));
        assert!(!pod(json!({"name": "b"}), state(true)));
        let ended = json!({"name": "a", "ready": false, "started": true, "state": {"terminated": {}}});
        assert!(!pod(json!({"name": "a"}), ended));
        assert!(!is_up(&json!({})));
    }
}
