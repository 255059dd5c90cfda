//! Asks the kernel's rtnetlink and waits for the answer.

use rtnetlink::Handle;
use rtnetlink::sys::AsyncSocket;
use std::io;

/// Talks to the kernel from a thread of its own: the caller may be inside an async runtime, which can't be entered twice. The
/// thread is in the network namespace of the caller. Filters of dumps are applied by the kernel (`NETLINK_GET_STRICT_CHK`).
pub(crate) fn ask<T: Send, E: Send>(
    failed: impl Fn(io::Error) -> E + Sync,
    talk: impl AsyncFnOnce(Handle) -> Result<T, E> + Send,
) -> Result<T, E> {
    let talking = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(&failed)?;
        runtime.block_on(async {
            let (mut connection, netlink, _unasked) = rtnetlink::new_connection().map_err(&failed)?;
            connection.socket_mut().socket_mut().set_netlink_get_strict_chk(true).map_err(&failed)?;
            let connection = tokio::spawn(connection);
            let answer = talk(netlink).await;
            connection.abort();
            answer
        })
    };
    let joined = std::thread::scope(|scope| scope.spawn(talking).join());
    joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// As the system says it.
pub(crate) fn io_error(error: rtnetlink::Error) -> io::Error {
    if let rtnetlink::Error::NetlinkError(message) = error {
        message.to_io()
    } else {
        io::Error::other(error)
    }
}

/// `false`: one of these errors, which say that there was nothing to do.
pub(crate) fn ignoring(errors: &[i32], answer: Result<(), rtnetlink::Error>) -> io::Result<bool> {
    match answer.map_err(io_error) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error().is_some_and(|code| errors.contains(&code)) => Ok(false),
        Err(error) => Err(error),
    }
}
