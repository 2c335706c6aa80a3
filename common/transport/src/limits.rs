//! Every bound and time limit of the transport, by name and with its reason.

use std::time::Duration;

use gantry_protocol::limits::{MAX_CONNECTIONS, MAX_OPEN_STREAMS};

/// A peer that is silent this long is gone.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// The dialling side says something this often, so that [`IDLE_TIMEOUT`] ends only dead connections.
pub const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// A peer has this long for its TLS handshake, and again for its hello.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// TCP joins the race when QUIC has been silent this long: a few round trips of a bad wide-area link.
pub const TCP_HEAD_START: Duration = Duration::from_millis(750);
/// When TCP wins the race, QUIC may still take its place for this long.
pub const QUIC_GRACE: Duration = Duration::from_millis(150);
/// When TCP is refused outright, QUIC gets this long: the host is up, and its port is not.
pub const QUIC_AFTER_REFUSAL: Duration = Duration::from_millis(1500);
/// Peers that have not proven themselves yet, at a time.
pub const MAX_HANDSHAKES: usize = 64;
/// The same from one address, so that one stranger cannot take all of [`MAX_HANDSHAKES`].
pub const MAX_HANDSHAKES_PER_ADDRESS: usize = 16;
/// From this many unproven peers on, QUIC asks a new one to show that its address is real.
pub const RETRY_FROM_HANDSHAKES: usize = 16;
/// Largest hello; everything before it is unproven.
pub const MAX_HELLO_LEN: usize = 4 << 10;
/// Sessions served at a time.
pub const MAX_SESSIONS: usize = MAX_CONNECTIONS;
/// Streams of both sides together on one TCP connection, one more for its own use.
pub const MAX_TCP_STREAMS: usize = 2 * MAX_OPEN_STREAMS as usize + 1;
/// In this time one address gets [`STRANGER_LOG_LINES`] in the log at most; the rest is counted.
pub const STRANGER_LOG_INTERVAL: Duration = Duration::from_secs(10);
/// See [`STRANGER_LOG_INTERVAL`].
pub const STRANGER_LOG_LINES: u32 = 5;
/// Addresses told apart for [`STRANGER_LOG_INTERVAL`].
pub const MAX_LOGGED_ADDRESSES: usize = 256;
/// Longest reason given or taken when a connection is closed.
pub const MAX_REASON_LEN: usize = 512;
/// Asked of the kernel for each UDP socket, both directions: its default of 208 KiB overflows when the program
/// is held up for a millisecond at 10 Gb/s.
pub const SOCKET_BUFFER: usize = 8 << 20;
/// Largest stream window. More does not help on a LAN and overruns the socket's buffer.
pub const MAX_STREAM_WINDOW: u64 = 4 << 20;
/// Congestion window at the start: one long round trip of a 1 Gb/s LAN, so that a layer does not begin slowly.
pub const INITIAL_WINDOW: u64 = 1 << 20;
/// Largest UDP payload looked for: jumbo frames of 9216 bytes. Memory for receiving grows with it.
pub const MAX_UDP_PAYLOAD: u16 = 9216 - 28;
/// Smallest UDP payload QUIC works with (RFC 9000, section 14).
pub const MIN_UDP_PAYLOAD: u16 = 1200;
/// When large datagrams seem to get lost, smaller ones are sent for this long (RFC 8899, section 4.3). On a busy
/// machine a few late acknowledgements look the same, and jumbo frames are worth finding again soon.
pub const BLACK_HOLE_COOLDOWN: Duration = Duration::from_secs(1);
/// Largest UDP datagram the kernel takes from one call, segmented or not.
pub const MAX_UDP_DATAGRAM: usize = 65507;
/// Datagrams the kernel cuts from one call (`UDP_MAX_SEGMENTS` of Linux 4.18; later ones take 128).
pub const MAX_SEGMENTS: usize = 64;
/// Packets after which the receiver acknowledges: fewer acknowledgements, less work on both sides.
pub const ACK_THRESHOLD: u32 = 10;
