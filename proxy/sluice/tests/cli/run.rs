//! Runs the program and compares.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

pub(crate) fn sluice(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sluice")).args(arguments).output().unwrap()
}

/// `sluice` with this on its standard input.
pub(crate) fn sluice_reading(text: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    let piped = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// Standard output is the golden file's, the exit status `status`.
#[track_caller]
pub(crate) fn check(golden: &str, status: i32, output: &Output) {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(golden);
    let told = String::from_utf8_lossy(&output.stdout);
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&golden, told.as_bytes()).unwrap();
    }
    let expect = std::fs::read_to_string(&golden).unwrap_or_default();
    assert_eq!(told, expect, "{} (UPDATE_EXPECT=1 rewrites it)", golden.display());
    assert_eq!(output.status.code(), Some(status), "{}", String::from_utf8_lossy(&output.stderr));
}

/// There is no answer, for this reason.
#[track_caller]
pub(crate) fn no_answer(expect: &str, output: &Output) {
    assert_eq!(String::from_utf8_lossy(&output.stderr).trim_end(), format!("sluice: {expect}"));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    assert_eq!(output.status.code(), Some(2));
}

/// A directory that is removed at the end.
pub(crate) struct Place(PathBuf);

impl Place {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let nth = COUNT.fetch_add(1, Ordering::Relaxed);
        let place = std::env::temp_dir().join(format!("sluice-cli-{}-{nth}", std::process::id()));
        std::fs::create_dir_all(&place).unwrap();
        Self(place)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    /// The output with this place's path taken out.
    pub(crate) fn without_path(&self, mut output: Output) -> Output {
        let place = format!("{}/", self.0.display());
        for stream in [&mut output.stdout, &mut output.stderr] {
            *stream = String::from_utf8_lossy(stream).replace(&place, "").into_bytes();
        }
        output
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}
