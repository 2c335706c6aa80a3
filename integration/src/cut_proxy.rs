//! A way to a registry that breaks: connections through it end after so many bytes, as often as a test wants.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Context as _, Result};

/// Bytes passed on at a time.
const PIECE_LEN: usize = 16 << 10;

/// Where bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// What is pushed.
    ToRegistry,
    /// What is pulled.
    ToClient,
}

/// Called before a connection ends.
type AtCut = Box<dyn FnOnce() + Send>;

/// The proxy; it ends with the program.
#[derive(Debug)]
pub struct CutProxy {
    host: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    cut: Option<Cut>,
    to_registry: u64,
    to_client: u64,
}

struct Cut {
    direction: Direction,
    after: u64,
    left: u32,
    at_first: Option<AtCut>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").finish_non_exhaustive()
    }
}

impl CutProxy {
    /// Starts one that leads to `registry`, an address with its port, and cuts nothing yet.
    ///
    /// # Errors
    /// When no port is free.
    pub fn start(registry: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("no port is free")?;
        let host = listener.local_addr()?.to_string();
        let state = Arc::<Mutex<State>>::default();
        let (registry, shared) = (registry.to_owned(), state.clone());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // Whoever is not let through finds its connection ended.
                let _ = pass(client, &registry, &shared);
            }
        });
        Ok(Self { host, state })
    }

    /// `127.0.0.1:PORT`: what clients take for the registry's address.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// From now on each connection over which more than `after` bytes go in this direction ends behind the last of them: the next
    /// `times` of them, and no more. `at_first` runs before the first of these ends; meanwhile others go on.
    pub fn cut(
        &self,
        direction: Direction,
        after: u64,
        times: u32,
        at_first: impl FnOnce() + Send + 'static,
    ) {
        lock(&self.state).cut = Some(Cut {
            direction,
            after,
            left: times,
            at_first: Some(Box::new(at_first)),
        });
    }

    /// How many cuts are still to come.
    #[must_use]
    pub fn cuts_left(&self) -> u32 {
        lock(&self.state).cut.as_ref().map_or(0, |cut| cut.left)
    }

    /// Bytes that went in this direction so far, of all connections.
    #[must_use]
    pub fn passed(&self, direction: Direction) -> u64 {
        *lock(&self.state).passed(direction)
    }
}

impl State {
    const fn passed(&mut self, direction: Direction) -> &mut u64 {
        match direction {
            Direction::ToRegistry => &mut self.to_registry,
            Direction::ToClient => &mut self.to_client,
        }
    }

    /// Whether a connection over which `before` bytes went in this direction ends within the next `len`: how many of these still
    /// go, and what runs then.
    fn cut_within(&mut self, direction: Direction, before: u64, len: u64) -> Option<(u64, Option<AtCut>)> {
        let cut = self.cut.as_mut()?;
        let here = cut.direction == direction && cut.left > 0 && before + len > cut.after;
        here.then(|| {
            cut.left -= 1;
            (cut.after.saturating_sub(before), cut.at_first.take())
        })
    }
}

fn pass(client: TcpStream, registry: &str, state: &Arc<Mutex<State>>) -> Result<()> {
    let server = TcpStream::connect(registry)?;
    for (from, to, direction) in [
        (client.try_clone()?, server.try_clone()?, Direction::ToRegistry),
        (server, client, Direction::ToClient),
    ] {
        let state = state.clone();
        thread::spawn(move || {
            // An end of either side is the end of both.
            let _ = pump(&from, &to, direction, &state);
            let _ = from.shutdown(Shutdown::Both);
            let _ = to.shutdown(Shutdown::Both);
        });
    }
    Ok(())
}

fn pump(
    mut from: &TcpStream,
    mut to: &TcpStream,
    direction: Direction,
    state: &Mutex<State>,
) -> std::io::Result<()> {
    let (mut piece, mut before) = (vec![0; PIECE_LEN], 0);
    loop {
        let len = from.read(&mut piece)?;
        if len == 0 {
            return Ok(());
        }
        let cut = lock(state).cut_within(direction, before, len as u64);
        let goes = cut
            .as_ref()
            .map_or(len, |(goes, _)| usize::try_from(*goes).unwrap_or(len));
        to.write_all(&piece[..goes])?;
        before += goes as u64;
        *lock(state).passed(direction) += goes as u64;
        if let Some((_, at_first)) = cut {
            if let Some(at_first) = at_first {
                at_first();
            }
            return Ok(());
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
