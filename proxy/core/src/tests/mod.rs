//! Sessions driven by scripts, at every split point of what the peers send.

mod api;
mod cases;
mod ends;
mod explain;
mod handover;
mod line;
mod opaque;
mod policy;
mod properties;
mod reasons;
mod requests;
mod response_properties;
mod responses;
mod script;
mod shell;
