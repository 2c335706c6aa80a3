//! The texts of the kernel and of `/etc/os-release`, and what they mean.

use gantry_model::ListeningPort;

/// `ID` and `VERSION_ID` of an os-release file (os-release(5)), e.g. `debian 12`.
pub(super) fn os(text: &str) -> String {
    let value = |key: &str| {
        let line = text
            .lines()
            .rev()
            .find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='));
        line.map(|value| value.trim_matches(['"', '\'']).to_owned())
            .unwrap_or_default()
    };
    format!("{} {}", value("ID"), value("VERSION_ID"))
        .trim()
        .to_owned()
}

/// A machine name of the compiler in the words of OCI images.
pub(super) fn oci_arch(machine: &str) -> &str {
    match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

/// The ports something listens on, in a table like `/proc/net/tcp` (proc_net(5)).
pub(super) fn listening(table: &str, udp: bool) -> Vec<ListeningPort> {
    // TCP_LISTEN; for UDP, TCP_CLOSE: a socket that is bound and not connected.
    let wanted = if udp { "07" } else { "0A" };
    let port = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let (local, state) = (words.nth(1)?, words.nth(1)?);
        let port = u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()?;
        (state == wanted && port != 0).then_some(ListeningPort { port, udp })
    };
    table.lines().skip(1).filter_map(port).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operating_system_is_named_with_its_version() {
        let debian =
            "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=\"12\"\nID=debian\nID_LIKE=x\n";
        assert_eq!(os(debian), "debian 12");
        assert_eq!(os("ID='arch'\n"), "arch");
        assert_eq!(os(""), "");
    }

    #[test]
    fn only_listening_sockets_count() {
        let tcp = "  sl  local_address rem_address   st tx_queue\n\
             0: 00000000:1D13 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1\n\
             1: 0100007F:9C40 0100007F:1D13 01 00000000:00000000 00:00000000 00000000     0        0 2 1\n";
        assert_eq!(
            listening(tcp, false),
            [ListeningPort {
                port: 7443,
                udp: false
            }]
        );
        let udp = "  sl  local_address                         remote_address                        st\n\
             9: 00000000000000000000000000000000:1D13 00000000000000000000000000000000:0000 07 0:0\n\
             cut";
        assert_eq!(
            listening(udp, true),
            [ListeningPort {
                port: 7443,
                udp: true
            }]
        );
    }
}
