//! The listening sockets of all workers, and how many connections the process has descriptors for.

use crate::listener::Target;
use crate::live::LEAVING_MAX;
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

/// How many connections the process has descriptors for, and what to tell the user where that is fewer than are configured.
///
/// # Errors
/// Not even for one.
pub(crate) fn raise_descriptor_limit(
    config: &Config,
    workers: usize,
) -> anyhow::Result<(usize, Option<String>)> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let other = descriptors_beside_connections(config, workers);
    let wanted = wide(config.limits.connections).saturating_mul(2).saturating_add(other);
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let enough = |limit: Option<u64>| limit.is_none_or(|limit| limit >= wanted);
    let set = |current, maximum| setrlimit(Resource::Nofile, Rlimit { current, maximum }).is_ok();
    // Beyond the hard limit where the process may (CAP_SYS_RESOURCE), else up to it.
    let possible = maximum.map_or(wanted, |maximum| maximum.min(wanted));
    let raised = enough(current)
        || (!enough(maximum) && set(Some(wanted), Some(wanted)))
        || set(Some(possible), maximum);
    let has = if raised { getrlimit(Resource::Nofile).current } else { current };
    fit(config.limits.connections, has.unwrap_or(wanted), other)
}

/// As many connections as `has` descriptors allow, two for each, at most those that are configured.
fn fit(connections: usize, has: u64, other: u64) -> anyhow::Result<(usize, Option<String>)> {
    let possible = usize::try_from(has.saturating_sub(other) / 2).unwrap_or(usize::MAX);
    if possible == 0 {
        anyhow::bail!(
            "an RLIMIT_NOFILE of {has} leaves no descriptors for connections: it takes {other}, and 2 for each"
        );
    }
    let finding = || {
        format!(
            "[limits] connections is {connections}, and an RLIMIT_NOFILE of {has} has descriptors for {possible}: \
             raise it (LimitNOFILE= in the unit) or lower the limit"
        )
    };
    Ok((possible.min(connections), (possible < connections).then(finding)))
}

/// Beside those of connections that hold their places: what each worker polls and listens with, pipes, and connections that have
/// been told to give their places to others.
fn descriptors_beside_connections(config: &Config, workers: usize) -> u64 {
    const OF_A_WORKER: usize = 8;
    let listeners = config.listeners.len().max(2);
    let of_workers = workers.saturating_mul(OF_A_WORKER.saturating_add(listeners));
    let of_leaving = 2 * (LEAVING_MAX + workers.saturating_mul(listeners));
    DESCRIPTORS_OWN
        + wide(of_workers)
        + wide(of_leaving)
        + 2 * wide(config.limits.pipes.saturating_add(workers))
}

fn wide(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_fit_the_descriptors_at_max_and_max_plus_one() {
        assert_eq!(fit(100, 300, 100).unwrap(), (100, None));
        let (possible, finding) = fit(100, 299, 100).unwrap();
        assert_eq!(possible, 99);
        let said = "[limits] connections is 100, and an RLIMIT_NOFILE of 299 has descriptors for 99: \
                    raise it (LimitNOFILE= in the unit) or lower the limit";
        assert_eq!(finding.as_deref(), Some(said));
        assert_eq!(fit(100, 102, 100).unwrap().0, 1);
        assert!(fit(100, 101, 100).is_err());
    }
}
