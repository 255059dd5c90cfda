//! The listening sockets of all workers, and how many connections the process has descriptors for.

use crate::listener::Target;
use crate::settings;
use anyhow::{Context as _, anyhow};
use config_node::{Config, Mode};
use proxy_core::record::{OrigDst, Upstream};
use redirect::Redirector;
use redirect::sockets::{plain_listener, redirect_listeners};
use std::net::TcpListener;

/// Descriptors beside those of connections.
const DESCRIPTORS_OWN: u64 = 256;

/// Every worker's sockets, and the kernel side where there is one.
pub(crate) type Sockets = Vec<Vec<(TcpListener, Target)>>;

pub(crate) fn open(config: &Config, workers: usize) -> anyhow::Result<(Sockets, Option<Redirector>)> {
    match config.redirect.mode {
        Mode::Ebpf => {
            let mut redirector =
                Redirector::start(settings::redirect(config)).context("the kernel side can't start")?;
            let open = |v6| {
                redirect_listeners(v6, workers)
                    .context("the sockets for redirected connections can't be opened")
            };
            let (v4, v6) = (open(false)?, open(true)?);
            if let (Some(v4), Some(v6)) = (v4.first(), v6.first()) {
                redirector.set_listeners(v4, v6)?;
            }
            let pairs = v4.into_iter().zip(v6);
            let sockets = pairs.map(|(v4, v6)| vec![(v4, Target::Original), (v6, Target::Original)]);
            Ok((sockets.collect(), Some(redirector)))
        }
        Mode::None => {
            let sockets = (0..workers).map(|_worker| plain_listeners(config)).collect::<Result<_, _>>()?;
            Ok((sockets, None))
        }
    }
}

fn plain_listeners(config: &Config) -> anyhow::Result<Vec<(TcpListener, Target)>> {
    let open = |listener: &config_node::Listener| {
        let socket = plain_listener(listener.bind)
            .with_context(|| format!("[[listener]] bind `{}` can't be opened", listener.bind))?;
        Ok((socket, target(config, listener)?))
    };
    config.listeners.iter().map(open).collect()
}

/// What policy takes a connection to this listener for: one to the endpoint's own address, of the listener's family if it has one.
fn target(config: &Config, listener: &config_node::Listener) -> anyhow::Result<Target> {
    let named = |endpoint: &&config_node::Endpoint| {
        listener.endpoint == endpoint.name
            || listener.endpoint == format!("{}/{}", endpoint.namespace, endpoint.name)
    };
    let addresses = config.endpoints.iter().find(named).map(|endpoint| endpoint.addresses.as_slice());
    let same_family = |address: &&std::net::IpAddr| address.is_ipv4() == listener.bind.is_ipv4();
    let address = addresses
        .and_then(|addresses| addresses.iter().find(same_family).or(addresses.first()))
        .ok_or_else(|| anyhow!("[[listener]] endpoint `{}` has no address", listener.endpoint))?;
    Ok(Target::Fixed {
        destination: OrigDst((*address, listener.port).into()),
        upstream: Upstream(listener.upstream),
    })
}

/// Two descriptors a connection: as many connections as those allow, at most those that are configured.
pub(crate) fn raise_descriptor_limit(connections: usize) -> anyhow::Result<usize> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let wanted =
        u64::try_from(connections).unwrap_or(u64::MAX).saturating_mul(2).saturating_add(DESCRIPTORS_OWN);
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let enough = |limit: Option<u64>| limit.is_none_or(|limit| limit >= wanted);
    if enough(current) {
        return Ok(connections);
    }
    let raised = maximum.map_or(wanted, |maximum| maximum.min(wanted));
    let set = setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum });
    let has = if set.is_ok() { Some(raised) } else { current };
    if enough(has) {
        return Ok(connections);
    }
    let has = has.unwrap_or(wanted);
    let possible = has.saturating_sub(DESCRIPTORS_OWN) / 2;
    if possible == 0 {
        anyhow::bail!(
            "an RLIMIT_NOFILE of {has} leaves no descriptors for connections: it takes {DESCRIPTORS_OWN}, and 2 for each"
        );
    }
    tracing::warn!(
        configured = connections,
        possible,
        "[limits] connections is more than the process has descriptors for: raise its RLIMIT_NOFILE"
    );
    Ok(usize::try_from(possible).unwrap_or(connections))
}
