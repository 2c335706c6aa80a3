//! What nodes are called: kubelets register with the host's name in small letters (kubernetes/pkg/util/node).

/// Longest name of a node (RFC 1123, subdomain).
const MAX_LEN: usize = 253;

/// The name of the node that a host with this name becomes.
pub(in super::super) fn node_name(hostname: &str) -> String {
    hostname.trim().to_lowercase()
}

/// Whether a host with this name can become a node.
pub(crate) fn is_node_name(hostname: &str) -> bool {
    let name = node_name(hostname);
    let label = |label: &str| {
        let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        let bytes = label.as_bytes();
        edge(bytes.first())
            && edge(bytes.last())
            && bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
    };
    name.len() <= MAX_LEN && name.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_called_as_kubelet_calls_them() {
        assert_eq!(node_name("Node-1.Example.test\n"), "node-1.example.test");
        assert!(is_node_name("Node-1.example.test"));
        for odd in ["", "my_host", "-a", "a..b", "a b"] {
            assert!(!is_node_name(odd), "{odd}");
        }
    }
}
