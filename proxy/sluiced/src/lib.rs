//! The daemon: the shell around the pure crates. Only here are sockets, clocks, tasks and files.
//!
//! One thread per core runs connections (`event_loop`, `worker`, `listener`, `pump`); the main thread runs everything that happens seldom:
//! the publisher, the admin API, the metrics, the flow collector, the signals. They meet in `shared`.
//!
//! INVARIANT: no byte is written to a peer that a session did not ask for; nothing is decided here.
//! INVARIANT: a snapshot is stored only after the kernel was made safe for it, and reported only after every live connection met it.

mod clock;
mod directories;
mod log;
mod connections;
mod turns;
mod timers;
mod budget;
mod inbox;
mod door;
mod findings;
mod addresses;
mod repairs;
mod flows;
mod settings;
mod state;
mod transport;
mod upstream;
mod live;
mod shared;
mod collector;
mod history;
mod metrics;
mod api_socket;
mod admin;
mod kernel;
mod interfaces;
mod memory;
mod publisher;
mod worker;
mod pump;
mod listener;
mod event_loop;
mod sockets;
pub mod daemon;
