//! What the shell tells a session.

/// Which end of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    Client,
    Server,
}

impl Side {
    pub fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// How the shell saw a side end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// FIN: nothing more will be read.
    Fin,
    /// RST, or a read or write error.
    Reset,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialled {
    Connected,
    /// We had nothing left to dial with.
    Exhausted,
    Refused,
    TimedOut,
    Unreachable,
}

/// Why the shell ends a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The task was dropped, or the daemon's drain timed out.
    Draining,
    /// A bug of ours: what the session knows may not be whole.
    Failed,
    /// Its opener's connections hold as many bytes as they may.
    MemoryLimit,
    /// Another opener needs its place.
    Reclaimed,
}

/// Whether a session has a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Upstream {
    Connected,
    /// Never dialled, or the dial failed.
    None,
}
