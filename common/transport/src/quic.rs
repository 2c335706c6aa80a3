//! QUIC settings, each with its reason. `examples/throughput.rs` measures them.
//!
//! Over a veth on a busy two-core machine, both ends together: 3.3 CPU s/GB at MTU 1500 and 1.5 at MTU 9000, no
//! packet lost; without segmentation offload 8.0. Windows from 2 to 16 MiB, acknowledgements after 1 to 50
//! packets and unfair sending differ by less than the noise, so the plain values stay. Path discovery reaches
//! the interface's MTU within the first round trips, so that there is no reason to begin above 1200 bytes and
//! risk a black hole.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::CubicConfig;
use quinn::{
    AckFrequencyConfig, AsyncUdpSocket, ClientConfig, Endpoint, EndpointConfig, IdleTimeout,
    MtuDiscoveryConfig, ServerConfig, TokioRuntime, TransportConfig, VarInt,
};
use quinn_proto::HashedConnectionIdGenerator;
use ring::hmac;

use gantry_protocol::limits::MAX_OPEN_STREAMS;

use crate::limits::{
    ACK_THRESHOLD, BLACK_HOLE_COOLDOWN, IDLE_TIMEOUT, INITIAL_WINDOW, KEEP_ALIVE, MAX_HANDSHAKES,
    MAX_STREAM_WINDOW, MAX_UDP_PAYLOAD,
};
use crate::tls;

/// Round-trip time taken for granted until one is measured: hosts are near, and a lost first packet should be
/// sent again soon.
const INITIAL_RTT: Duration = Duration::from_millis(100);
/// Memory for packets of peers whose handshake has not begun.
const INCOMING_BUFFER: u64 = 1 << 20;

/// Which side keeps the connection alive: one is enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeepAlive {
    Us,
    Peer,
}

/// Transport settings for a socket whose kernel buffer has `receive_buffer` bytes, towards a peer on whose route
/// `payload` bytes fit.
pub(crate) fn transport(receive_buffer: usize, payload: u16, keep_alive: KeepAlive) -> TransportConfig {
    // All that may be on its way to this socket at once has to fit its buffer, or the kernel drops packets and
    // the congestion control takes it for a slow network.
    let connection_window = (receive_buffer as u64).clamp(64 << 10, 2 * MAX_STREAM_WINDOW);
    let stream_window = (connection_window / 2).min(MAX_STREAM_WINDOW);
    let mut cubic = CubicConfig::default();
    cubic.initial_window(INITIAL_WINDOW);
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(ACK_THRESHOLD));
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(payload).black_hole_cooldown(BLACK_HOLE_COOLDOWN);
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(Some(IdleTimeout::try_from(IDLE_TIMEOUT).expect("30 s fit")))
        .keep_alive_interval((keep_alive == KeepAlive::Us).then_some(KEEP_ALIVE))
        .max_concurrent_bidi_streams(VarInt::from_u32(MAX_OPEN_STREAMS))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(window(stream_window))
        .receive_window(window(connection_window))
        .send_window(2 * MAX_STREAM_WINDOW)
        .datagram_receive_buffer_size(None)
        .congestion_controller_factory(Arc::new(cubic))
        .ack_frequency_config(Some(acks))
        .mtu_discovery_config(Some(mtu))
        .initial_rtt(INITIAL_RTT);
    transport
}

fn window(bytes: u64) -> VarInt {
    VarInt::from_u64(bytes).unwrap_or(VarInt::MAX)
}

/// An endpoint on `socket`; with `server`, one that accepts.
///
/// `secret` is the same for every start of this program on this host. From it come the tokens by which a peer
/// of a former, killed process learns at once that its session is gone (RFC 9000, section 10.3), instead of
/// waiting for [`IDLE_TIMEOUT`].
pub(crate) fn endpoint(
    socket: Arc<dyn AsyncUdpSocket>,
    server: Option<ServerConfig>,
    secret: Option<[u8; 32]>,
) -> io::Result<Endpoint> {
    let mut config = EndpointConfig::default();
    if let Some(secret) = secret {
        let derive = |label: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), label);
        let reset = derive(b"gantry stateless reset");
        config.reset_key(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, reset.as_ref())));
        let mut seed = [0; 8];
        seed.copy_from_slice(&derive(b"gantry connection ids").as_ref()[..8]);
        let seed = u64::from_be_bytes(seed);
        // The endpoint answers only for connection ids it can have made itself.
        config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(seed)));
    }
    // Otherwise jumbo frames are never accepted, whatever path discovery would find.
    config
        .max_udp_payload_size(MAX_UDP_PAYLOAD)
        .map_err(io::Error::other)?;
    // A cleared fixed bit tells a stranger's datagram from QUIC.
    config.grease_quic_bit(false);
    Endpoint::new_with_abstract_socket(config, server, socket, Arc::new(TokioRuntime))
}

/// What a dialling endpoint needs.
pub(crate) fn client(tls: rustls::ClientConfig, transport: TransportConfig) -> Result<ClientConfig, String> {
    let mut config = ClientConfig::new(Arc::new(tls::quic_client(tls)?));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

/// What an accepting endpoint needs, for itself or for one connection.
pub(crate) fn server(tls: rustls::ServerConfig, transport: TransportConfig) -> Result<ServerConfig, String> {
    let mut config = ServerConfig::with_crypto(Arc::new(tls::quic_server(tls)?));
    config
        .transport_config(Arc::new(transport))
        .max_incoming(MAX_HANDSHAKES)
        .incoming_buffer_size_total(INCOMING_BUFFER)
        // Hosts and operators' machines do not change addresses in the middle of a session; strangers might try.
        .migration(false);
    Ok(config)
}
