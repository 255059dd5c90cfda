//! Sessions driven by scripts, at every split point of what the peers send.

mod api;
mod ends;
mod explain;
mod line;
mod opaque;
mod policy;
mod properties;
mod reasons;
mod requests;
mod responses;
mod script;
mod shell;
