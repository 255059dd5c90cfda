//! The unix socket of the admin API: where it is, and who may connect.
//!
//! INVARIANT: its file has its mode from the first instant, whatever the umask; nobody else's file is removed.

use rustix::fs::{Mode, fchmod};
use socket2::{Domain, SockAddr, Socket, Type};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::{fs, io};
use tokio::net::{UnixListener, UnixStream};

/// Who may ask is a matter of the socket's group.
const SOCKET_MODE: u32 = 0o660;
/// Clients that wait to be accepted.
const BACKLOG: i32 = 128;

/// Takes the socket's path.
pub(crate) async fn bind(path: &Path) -> io::Result<UnixListener> {
    if let Some(directory) = path.parent() {
        durable::make_directory(directory, durable::PUBLIC_DIRECTORY)?;
    }
    remove_left_over(path).await?;
    let socket = bound(path)?;
    // What the umask took away.
    fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE))?;
    socket.listen(BACKLOG)?;
    UnixListener::from_std(OwnedFd::from(socket).into())
}

/// The file of a socket takes the mode that the socket has when it is bound, less what the umask takes away.
fn bound(path: &Path) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.cloexec().nonblocking(), None)?;
    fchmod(&socket, Mode::from_raw_mode(SOCKET_MODE))?;
    socket.bind(&SockAddr::unix(path)?)?;
    Ok(socket)
}

/// A socket that nobody listens on is left over from a process that is gone. Everything else is somebody's.
async fn remove_left_over(path: &Path) -> io::Result<()> {
    let taken = |why| Err(io::Error::new(io::ErrorKind::AddrInUse, why));
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(entry) if !entry.file_type().is_socket() => return taken("there is something else than a socket"),
        Ok(_) => {}
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Ok(_) | Err(_) => taken("another sluiced answers there"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::thread::UnshareFlags;

    #[test]
    fn only_a_socket_that_nobody_listens_on_is_removed() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let path = std::env::temp_dir().join(format!("sluiced-admin-{}", std::process::id()));
            fs::write(&path, "somebody's").unwrap();
            assert_eq!(bind(&path).await.unwrap_err().kind(), io::ErrorKind::AddrInUse);
            assert_eq!(fs::read_to_string(&path).unwrap(), "somebody's");
            fs::remove_file(&path).unwrap();
            let first = bind(&path).await.unwrap();
            assert_eq!(bind(&path).await.unwrap_err().kind(), io::ErrorKind::AddrInUse);
            drop(first);
            let _second = bind(&path).await.unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, SOCKET_MODE);
            fs::remove_file(&path).unwrap();
        });
    }

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
    }

    /// A umask is the whole process's, unless a thread takes one of its own.
    #[expect(
        deprecated,
        reason = "what replaced it is unsafe, for the sake of descriptors, which stay shared here"
    )]
    fn under_umask<T: Send>(umask: u32, work: impl FnOnce() -> T + Send) -> T {
        let work = || {
            rustix::thread::unshare(UnshareFlags::FS).unwrap();
            let _before = rustix::process::umask(Mode::from_raw_mode(umask));
            work()
        };
        std::thread::scope(|scope| scope.spawn(work).join().unwrap())
    }

    #[test]
    fn the_socket_has_its_mode_from_its_first_instant_under_any_umask() {
        for umask in [0o000, 0o022, 0o077] {
            let directory =
                std::env::temp_dir().join(format!("sluiced-socket-{}-{umask}", std::process::id()));
            fs::create_dir(&directory).unwrap();
            under_umask(umask, || {
                let _socket = bound(&directory.join("bound")).unwrap();
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                let _listener = runtime.block_on(bind(&directory.join("run/socket"))).unwrap();
            });
            assert_eq!(mode(&directory.join("bound")), SOCKET_MODE & !umask);
            assert_eq!(mode(&directory.join("run/socket")), SOCKET_MODE, "umask {umask:o}");
            assert_eq!(mode(&directory.join("run")), durable::PUBLIC_DIRECTORY, "umask {umask:o}");
            fs::remove_dir_all(directory).unwrap();
        }
    }
}
