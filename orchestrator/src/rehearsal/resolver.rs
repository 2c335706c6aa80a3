//! This module owns the resolver of a rehearsal: who asks it over UDP, or over TCP (RFC 1035, section 4.2), and gets which answer.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd as _, BorrowedFd};

use super::filter::MAX_PACKET_LEN;
use super::names::Question;
use super::process::Way;

/// Where scripts find it.
pub(super) const RESOLVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 53);
/// The port of every resolver.
pub(super) const DNS: u16 = 53;
/// The port that nobody listens at: what is sent there is seen, and nothing more.
const DISCARD: u16 = 9;

/// Questions that are answered in a row.
const MAX_QUESTIONS: usize = 1024;
/// Connections that are open at once; the oldest one makes place for a new one.
const MAX_CONNECTIONS: usize = 64;
/// Over TCP a message's length stands before it.
const LENGTH_LEN: usize = 2;

/// What answers questions for names.
pub(super) struct Resolver {
    datagrams: UdpSocket,
    listener: TcpListener,
    connections: Vec<Connection>,
    /// Connections so far.
    accepted: u64,
}

struct Connection {
    number: u64,
    stream: TcpStream,
    peer: SocketAddr,
    /// What has come of the next message.
    bytes: Vec<u8>,
}

/// A question and who asks it.
pub(super) struct Asked {
    pub(super) question: Question,
    pub(super) way: Way,
    /// The port of whoever asks.
    pub(super) port: u16,
    to: To,
}

/// Where the answer goes.
enum To {
    Datagram(SocketAddr),
    Connection(u64),
}

impl Resolver {
    /// Begins to listen, in this process's own network namespace.
    ///
    /// # Errors
    /// When the kernel refuses a socket.
    pub(super) fn begin() -> io::Result<Self> {
        let datagrams = UdpSocket::bind((RESOLVER, DNS))?;
        datagrams.set_nonblocking(true)?;
        let listener = TcpListener::bind((RESOLVER, DNS))?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            datagrams,
            listener,
            connections: Vec::new(),
            accepted: 0,
        })
    }

    /// What becomes readable when there is a question.
    pub(super) fn handles(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let connections = self
            .connections
            .iter()
            .map(|connection| connection.stream.as_fd());
        [self.datagrams.as_fd(), self.listener.as_fd()]
            .into_iter()
            .chain(connections)
    }

    /// Sends a packet that is seen like any other, and is nobody's.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn send_mark(&self) -> io::Result<()> {
        self.datagrams.send_to(&[], (RESOLVER, DISCARD)).map(|_| ())
    }

    /// Questions that have come since the last time.
    ///
    /// # Errors
    /// When the sockets that all use are out of order.
    pub(super) fn questions(&mut self) -> io::Result<Vec<Asked>> {
        let mut questions = Vec::new();
        while questions.len() < MAX_QUESTIONS {
            let mut message = [0; MAX_PACKET_LEN];
            let (len, from) = match self.datagrams.recv_from(&mut message) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // Somebody who asked went away without waiting for the answer.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                Err(error) => return Err(error),
            };
            questions.extend(Question::read(&message[..len]).map(|question| Asked {
                question,
                way: Way::Udp,
                port: from.port(),
                to: To::Datagram(from),
            }));
        }
        self.accept()?;
        self.connections
            .retain_mut(|connection| connection.read(&mut questions));
        Ok(questions)
    }

    fn accept(&mut self) -> io::Result<()> {
        for _ in 0..MAX_CONNECTIONS {
            let (stream, peer) = match self.listener.accept() {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            stream.set_nonblocking(true)?;
            if self.connections.len() == MAX_CONNECTIONS {
                self.connections.remove(0);
            }
            self.accepted += 1;
            self.connections.push(Connection {
                number: self.accepted,
                stream,
                peer,
                bytes: Vec::new(),
            });
        }
        Ok(())
    }

    /// Answers `asked`, with `address` or with none. Whoever asked may be gone, or not take it.
    pub(super) fn answer(&mut self, asked: &Asked, address: Option<Ipv4Addr>) {
        let message = asked.question.answer(address);
        match asked.to {
            To::Datagram(peer) => {
                let _ = self.datagrams.send_to(&message, peer);
            }
            To::Connection(number) => self
                .connections
                .retain_mut(|connection| connection.number != number || connection.write(&message).is_ok()),
        }
    }
}

impl Connection {
    /// Adds the questions that have come whole; says whether there may be more.
    fn read(&mut self, questions: &mut Vec<Asked>) -> bool {
        let before = questions.len();
        loop {
            let mut bytes = [0; MAX_PACKET_LEN];
            match self.stream.read(&mut bytes) {
                // Whoever says no more may wait for answers.
                Ok(0) => return questions.len() > before,
                Ok(len) => self.bytes.extend(&bytes[..len]),
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
            while let Some(length) = self.bytes.first_chunk::<LENGTH_LEN>() {
                let end = LENGTH_LEN + usize::from(u16::from_be_bytes(*length));
                if end > LENGTH_LEN + MAX_PACKET_LEN || questions.len() >= MAX_QUESTIONS {
                    return false;
                }
                let Some(message) = self.bytes.get(LENGTH_LEN..end) else {
                    break;
                };
                let Some(question) = Question::read(message) else {
                    return false;
                };
                questions.push(Asked {
                    question,
                    way: Way::Tcp,
                    port: self.peer.port(),
                    to: To::Connection(self.number),
                });
                self.bytes.drain(..end);
            }
        }
    }

    /// An answer finds place in what the kernel keeps for whoever reads.
    fn write(&mut self, message: &[u8]) -> io::Result<()> {
        let length = u16::try_from(message.len()).map_err(io::Error::other)?;
        let whole = [&length.to_be_bytes(), message].concat();
        self.stream.write_all(&whole)
    }
}
