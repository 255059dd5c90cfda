//! Modes under every umask, and what is there after a failure.

use super::*;
use rustix::thread::UnshareFlags;

fn directory(name: &str) -> PathBuf {
    let directory = std::env::temp_dir().join(format!("durable-{}-{name}", std::process::id()));
    drop(fs::remove_dir_all(&directory));
    fs::create_dir(&directory).unwrap();
    directory
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
        let _before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(umask));
        work()
    };
    std::thread::scope(|scope| scope.spawn(work).join().unwrap())
}

#[test]
fn modes_are_those_asked_for_under_any_umask() {
    for umask in [0o000, 0o022, 0o077, 0o277] {
        let directory = directory(&umask.to_string());
        under_umask(umask, || make_some(&directory));
        for (path, expect) in
            [("a", 0o700), ("a/b", 0o700), ("a/b/old", 0o600), ("a/b/new", 0o640), ("p/q", 0o755)]
        {
            assert_eq!(mode(&directory.join(path)), expect, "umask {umask:o}: {path}");
        }
        assert_eq!(fs::read(directory.join("a/b/old")).unwrap(), b"new");
        fs::remove_dir_all(directory).unwrap();
    }
}

fn make_some(directory: &Path) {
    let below = directory.join("a/b");
    make_directory(&below, PRIVATE_DIRECTORY).unwrap();
    make_directory(&directory.join("p/q"), PUBLIC_DIRECTORY).unwrap();
    let old = below.join("old");
    fs::write(&old, "old").unwrap();
    fs::write(beside(&old), "left over by a process that died").unwrap();
    fs::set_permissions(beside(&old), Permissions::from_mode(0o666)).unwrap();
    replace(&old, PRIVATE_FILE, b"new").unwrap();
    replace(&below.join("new"), 0o640, b"new").unwrap();
}

#[test]
fn directories_that_are_there_keep_their_mode() {
    let directory = directory("kept");
    fs::set_permissions(&directory, Permissions::from_mode(0o750)).unwrap();
    make_directory(&directory, PRIVATE_DIRECTORY).unwrap();
    assert_eq!(mode(&directory), 0o750);
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn something_else_in_the_way_is_an_error() {
    let directory = directory("taken");
    fs::write(directory.join("file"), "").unwrap();
    assert!(make_directory(&directory.join("file"), PRIVATE_DIRECTORY).is_err());
    assert!(make_directory(&directory.join("file/below"), PRIVATE_DIRECTORY).is_err());
    fs::create_dir(directory.join(".x.next")).unwrap();
    fs::write(directory.join("x"), "old").unwrap();
    assert!(replace(&directory.join("x"), PRIVATE_FILE, b"new").is_err());
    assert_eq!(fs::read(directory.join("x")).unwrap(), b"old");
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn nothing_is_left_beside_a_file() {
    let directory = directory("beside");
    replace(&directory.join("x"), PRIVATE_FILE, b"1").unwrap();
    let names: Vec<_> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["x"]);
    remove(&directory.join("x")).unwrap();
    remove(&directory.join("x")).unwrap();
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
    fs::remove_dir_all(directory).unwrap();
}
