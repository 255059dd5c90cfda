//! The whole daemon as a process in mode `none`: no root, no kernel side, real sockets on addresses of 127/8.

#[cfg(test)]
mod common;
#[cfg(test)]
mod life;
#[cfg(test)]
mod policy;
#[cfg(test)]
mod shares;
#[cfg(test)]
mod streams;
#[cfg(test)]
mod tenants;
#[cfg(test)]
mod totals;
