//! The deathstar alone, for the walk on a laptop: `deathstar 127.0.0.1:9080`.

use anyhow::{Context, Result};
use e2e::deathstar::Deathstar;
use std::net::TcpListener;

fn main() -> Result<()> {
    let address = std::env::args().nth(1).context("usage: deathstar ADDRESS:PORT")?;
    let listener = TcpListener::bind(&address).with_context(|| format!("listen on {address}"))?;
    Deathstar::default().accept(&listener);
    Ok(())
}
