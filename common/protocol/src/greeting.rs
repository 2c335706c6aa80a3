//! The greeting: both sides' first exchange on a session, as two small state machines.
//!
//! ```text
//! orchestrator:  start() ─▶ HelloSent ─ Agreed ─────────▶ Ready
//!                               └────── NoCommonVersion ▶ Refused
//! agent:         start() ─▶ Waiting ─── Hello, common ──▶ Ready
//!                               └────── Hello, none ────▶ Refused   (the reply names the agent's versions)
//! ```
//!
//! A second message in `Ready` or `Refused` is out of order and changes nothing.

use std::fmt;

use crate::{Hello, HelloReply, ProtocolVersion};

/// The versions one program speaks, oldest and newest, and how it names itself to people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Speaker {
    /// Oldest protocol version.
    pub oldest: ProtocolVersion,
    /// Newest protocol version.
    pub newest: ProtocolVersion,
    /// Program version, e.g. `0.1.0`.
    pub program: String,
}

impl Speaker {
    /// This program.
    #[must_use]
    pub fn this(program: &str) -> Self {
        Self {
            oldest: ProtocolVersion::OLDEST,
            newest: ProtocolVersion::CURRENT,
            program: program.to_owned(),
        }
    }
}

impl fmt::Display for Speaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.oldest == self.newest {
            write!(f, "version {} (protocol {})", self.program, self.newest)
        } else {
            write!(
                f,
                "version {} (protocol {} to {})",
                self.program, self.oldest, self.newest
            )
        }
    }
}

/// Two programs that share no protocol version. `Display` names both and which one to upgrade.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionMismatch {
    /// The orchestrator.
    pub orchestrator: Speaker,
    /// The agent.
    pub agent: Speaker,
}

impl fmt::Display for VersionMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let older = if self.agent.newest < self.orchestrator.newest {
            "gantry-agent"
        } else {
            "gantry"
        };
        write!(
            f,
            "gantry {} and gantry-agent {} share no protocol version: upgrade {older}",
            self.orchestrator, self.agent
        )
    }
}

impl std::error::Error for VersionMismatch {}

/// A message that is not due in the present state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a greeting came twice")]
pub struct OutOfOrder;

/// Where a side's greeting stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GreetingState {
    /// The peer's message is due.
    Waiting,
    /// The session goes on in this version.
    Ready(ProtocolVersion),
    /// The session ends.
    Refused(VersionMismatch),
}

/// The orchestrator's side.
#[derive(Debug, Clone)]
pub struct OrchestratorGreeting {
    us: Speaker,
    state: GreetingState,
}

impl OrchestratorGreeting {
    /// Begins; the message goes out first. `clock_ms` is this machine's clock.
    #[must_use]
    pub fn start(us: Speaker, clock_ms: i64) -> (Self, Hello) {
        let hello = Hello {
            oldest: us.oldest,
            newest: us.newest,
            program: us.program.clone(),
            clock_ms,
        };
        (
            Self {
                us,
                state: GreetingState::Waiting,
            },
            hello,
        )
    }

    /// Takes the agent's answer. An agreed version outside what was offered counts as no common version.
    ///
    /// # Errors
    /// When an answer was taken before.
    pub fn on_reply(&mut self, reply: &HelloReply) -> Result<&GreetingState, OutOfOrder> {
        if self.state != GreetingState::Waiting {
            return Err(OutOfOrder);
        }
        let mismatch = |oldest, newest, program: &String| {
            GreetingState::Refused(VersionMismatch {
                orchestrator: self.us.clone(),
                agent: Speaker {
                    oldest,
                    newest,
                    program: program.clone(),
                },
            })
        };
        self.state = match reply {
            HelloReply::Agreed { version, .. } if (self.us.oldest..=self.us.newest).contains(version) => {
                GreetingState::Ready(*version)
            }
            HelloReply::Agreed { version, program, .. } => mismatch(*version, *version, program),
            HelloReply::NoCommonVersion {
                oldest,
                newest,
                program,
            } => mismatch(*oldest, *newest, program),
        };
        Ok(&self.state)
    }

    /// Where it stands.
    #[must_use]
    pub const fn state(&self) -> &GreetingState {
        &self.state
    }
}

/// The agent's side.
#[derive(Debug, Clone)]
pub struct AgentGreeting {
    us: Speaker,
    state: GreetingState,
}

impl AgentGreeting {
    /// Begins; the orchestrator speaks first.
    #[must_use]
    pub const fn start(us: Speaker) -> Self {
        Self {
            us,
            state: GreetingState::Waiting,
        }
    }

    /// Takes the orchestrator's hello and gives the answer to send. `clock_ms` is this machine's clock.
    ///
    /// # Errors
    /// When a hello was taken before.
    pub fn on_hello(&mut self, hello: &Hello, clock_ms: i64) -> Result<HelloReply, OutOfOrder> {
        if self.state != GreetingState::Waiting {
            return Err(OutOfOrder);
        }
        let us = &self.us;
        let agreed = ProtocolVersion::agree((us.oldest, us.newest), (hello.oldest, hello.newest));
        let (state, reply) = match agreed {
            Some(version) => (
                GreetingState::Ready(version),
                HelloReply::Agreed {
                    version,
                    program: us.program.clone(),
                    clock_ms,
                },
            ),
            None => (
                GreetingState::Refused(VersionMismatch {
                    orchestrator: Speaker {
                        oldest: hello.oldest,
                        newest: hello.newest,
                        program: hello.program.clone(),
                    },
                    agent: us.clone(),
                }),
                HelloReply::NoCommonVersion {
                    oldest: us.oldest,
                    newest: us.newest,
                    program: us.program.clone(),
                },
            ),
        };
        self.state = state;
        Ok(reply)
    }

    /// Where it stands.
    #[must_use]
    pub const fn state(&self) -> &GreetingState {
        &self.state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn speaker(oldest: u16, newest: u16) -> Speaker {
        Speaker {
            oldest: ProtocolVersion(oldest),
            newest: ProtocolVersion(newest),
            program: "0.1.0".into(),
        }
    }

    #[test]
    fn both_sides_come_to_the_same_end() {
        for (orchestrator, agent, agreed) in [
            ((1, 1), (1, 1), Some(1)),
            ((1, 3), (2, 5), Some(3)),
            ((4, 6), (1, 4), Some(4)),
            ((1, 2), (3, 4), None),
            ((3, 4), (1, 2), None),
        ] {
            let (mut dialled, hello) =
                OrchestratorGreeting::start(speaker(orchestrator.0, orchestrator.1), 1);
            let mut accepted = AgentGreeting::start(speaker(agent.0, agent.1));
            let reply = accepted.on_hello(&hello, 2).unwrap();
            dialled.on_reply(&reply).unwrap();
            assert_eq!(dialled.state(), accepted.state());
            let expected = agreed.map(ProtocolVersion);
            match dialled.state() {
                GreetingState::Ready(version) => assert_eq!(Some(*version), expected),
                GreetingState::Refused(_) => assert_eq!(None, expected),
                GreetingState::Waiting => panic!("still waiting"),
            }
            assert_eq!(accepted.on_hello(&hello, 3), Err(OutOfOrder));
            assert_eq!(dialled.on_reply(&reply).err(), Some(OutOfOrder));
        }
    }

    #[test]
    fn an_agent_cannot_agree_to_a_version_that_was_not_offered() {
        let (mut dialled, _) = OrchestratorGreeting::start(speaker(1, 2), 0);
        let reply = HelloReply::Agreed {
            version: ProtocolVersion(9),
            program: "9.0.0".into(),
            clock_ms: 0,
        };
        assert!(matches!(dialled.on_reply(&reply), Ok(GreetingState::Refused(_))));
    }

    #[test]
    fn a_mismatch_names_both_programs_and_the_older_one() {
        let mismatch = VersionMismatch {
            orchestrator: speaker(3, 4),
            agent: speaker(1, 1),
        };
        assert_eq!(
            mismatch.to_string(),
            "gantry version 0.1.0 (protocol 3 to 4) and gantry-agent version 0.1.0 (protocol 1) share no protocol \
             version: upgrade gantry-agent"
        );
    }
}
