//! The log: one line an event, in either format, whatever the names in it hold, written by a thread of its own.
//!
//! ```text
//! any thread ─► a line ─► queue ─► the writer ─► standard error
//!                  └─ full: lost, counted, and told once there is room
//! ```
//!
//! INVARIANT: nothing that a policy, a file name or a peer brings along ends a line or reaches a terminal as a command.
//! INVARIANT: nobody waits for whoever reads the log, and nothing ends because nobody can.

use anyhow::{Context as _, anyhow};
use config_node::{Config, LogFormat};
use proxy_core::text::harmless;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

/// Lines that wait for the writer.
const LINES_MAX: usize = 4096;
/// At the end of the process, for what waits to be written.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Starts it, as the node file says. What is logged before the end is written when the [`Log`] is dropped.
pub(crate) fn init(config: &Config) -> anyhow::Result<Log> {
    let filter = tracing_subscriber::EnvFilter::try_new(&config.log.level)
        .with_context(|| format!("[log] level `{}` is no tracing filter", config.log.level))?;
    let queue = Queue::start(io::stderr()).context("the thread that writes the log can't start")?;
    let own = queue.clone();
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || own.clone())
        // Colours are what a hostile name could bring along: on a terminal nothing tells the two apart.
        .with_ansi(false)
        .with_target(false);
    match config.log.format {
        LogFormat::Json => log.json().try_init(),
        LogFormat::Text => log.try_init(),
    }
    .map_err(|error| anyhow!("the log can't start: {error}"))?;
    Ok(Log(queue))
}

/// The log of the process, until it ends.
pub(crate) struct Log(Queue);

impl Drop for Log {
    fn drop(&mut self) {
        let (done, written) = sync_channel(1);
        // Where the queue is full, nobody reads.
        if self.0.lines.try_send(Entry::Written(done)).is_ok() {
            let _in_time = written.recv_timeout(LAST_WORDS);
        }
    }
}

enum Entry {
    Line(Vec<u8>),
    /// All that came before has been written.
    Written(SyncSender<()>),
}

/// Takes one event a write, as the subscriber hands them over.
#[derive(Clone)]
struct Queue {
    lines: SyncSender<Entry>,
    lost: Arc<AtomicU64>,
}

impl Queue {
    fn start(to: impl Write + Send + 'static) -> io::Result<Self> {
        let (lines, waiting) = sync_channel(LINES_MAX);
        let lost = Arc::default();
        let queue = Self { lines, lost };
        let lost = Arc::clone(&queue.lost);
        let _ends_with_the_process = std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_all(to, &waiting, &lost))?;
        Ok(queue)
    }
}

impl Write for Queue {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        if self.lines.try_send(Entry::Line(one_line(event))).is_err() {
            let _before = self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_all(mut to: impl Write, waiting: &Receiver<Entry>, lost: &AtomicU64) {
    for entry in waiting {
        match entry {
            // A full disk, or a reader that has gone: there is nobody to tell.
            Entry::Line(line) => drop(to.write_all(&line)),
            // Who asked may have stopped waiting.
            Entry::Written(done) => drop(done.try_send(())),
        }
        let lines = lost.swap(0, Ordering::Relaxed);
        if lines > 0 {
            tracing::warn!(lines, "log lines dropped: the log is not read fast enough");
        }
    }
}

fn one_line(event: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(event);
    let mut line = harmless(text.strip_suffix('\n').unwrap_or(&text)).into_owned().into_bytes();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::sync::mpsc::channel;

    /// What was written.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const HOSTILE: &str = "a\u{1b}[2J\nERROR forged\r\u{9b}1m\u{202e}\u{2028}.yaml";

    fn tell() {
        tracing::warn!(file = %HOSTILE, name = HOSTILE, debug = ?HOSTILE, "message {HOSTILE}");
    }

    #[track_caller]
    fn check(written: &Kept) -> String {
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.matches('\n').count(), 1, "{text:?}");
        let line = text.strip_suffix('\n').unwrap();
        assert!(!line.contains(['\u{1b}', '\r', '\u{9b}', '\u{202e}', '\u{2028}']), "{line:?}");
        line.to_owned()
    }

    #[test]
    fn hostile_names_stay_on_their_line_as_text() {
        let written = Kept::default();
        let queue = Queue::start(written.clone()).unwrap();
        let writer = queue.clone();
        let log = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
        tracing::subscriber::with_default(log, tell);
        drop(Log(queue));
        assert!(check(&written).contains("ERROR forged"));
    }

    #[test]
    fn hostile_names_stay_on_their_line_as_json() {
        let written = Kept::default();
        let queue = Queue::start(written.clone()).unwrap();
        let writer = queue.clone();
        let log =
            tracing_subscriber::fmt().json().with_writer(move || writer.clone()).with_ansi(false).finish();
        tracing::subscriber::with_default(log, tell);
        drop(Log(queue));
        let event: serde_json::Value = serde_json::from_str(&check(&written)).unwrap();
        for field in ["file", "name"] {
            assert!(event["fields"][field].as_str().unwrap().contains("ERROR forged"), "{event}");
        }
    }

    /// Writes nothing until it is let go.
    struct Stuck(Receiver<()>, Kept);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _gone = self.0.recv();
            self.1.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn who_logs_does_not_wait_for_a_reader_that_has_stopped() {
        let (go, stuck) = channel();
        let written = Kept::default();
        let mut queue = Queue::start(Stuck(stuck, written.clone())).unwrap();
        // One is with the writer, perhaps.
        for _ in 0..LINES_MAX + 10 {
            queue.write_all(b"line\n").unwrap();
        }
        let lost = queue.lost.load(Ordering::Relaxed);
        assert!((9..=10).contains(&lost), "{lost}");
        drop(go);
        let mut lines = 0;
        while lines < LINES_MAX {
            lines = written.0.lock().unwrap().iter().filter(|byte| **byte == b'\n').count();
        }
        assert!(lines <= LINES_MAX + 1, "{lines}");
    }
}
