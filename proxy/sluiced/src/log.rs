//! The log: one line an event, in either format, whatever the names in it hold.
//!
//! INVARIANT: nothing that a policy, a file name or a peer brings along ends a line or reaches a terminal as a command.

use anyhow::{Context as _, anyhow};
use config_node::{Config, LogFormat};
use proxy_core::text::harmless;
use std::io::{self, Write};

/// Starts it, as the node file says.
pub(crate) fn init(config: &Config) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(&config.log.level)
        .with_context(|| format!("[log] level `{}` is no tracing filter", config.log.level))?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| OneLine(io::stderr()))
        // Colours are what a hostile name could bring along: on a terminal nothing tells the two apart.
        .with_ansi(false)
        .with_target(false);
    match config.log.format {
        LogFormat::Json => log.json().try_init(),
        LogFormat::Text => log.try_init(),
    }
    .map_err(|error| anyhow!("the log can't start: {error}"))
}

/// Takes one event a write, as the subscriber hands them over.
struct OneLine<W>(W);

impl<W: Write> Write for OneLine<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        // A full disk, or a reader that has gone: the subscriber would tell of it where nobody reads either, and panic.
        drop(self.0.write_all(&one_line(event)));
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
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
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::fmt::MakeWriter;

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

    impl<'a> MakeWriter<'a> for Kept {
        type Writer = OneLine<Self>;

        fn make_writer(&'a self) -> OneLine<Self> {
            OneLine(self.clone())
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
        let log = tracing_subscriber::fmt().with_writer(written.clone()).with_ansi(false).finish();
        tracing::subscriber::with_default(log, tell);
        assert!(check(&written).contains("ERROR forged"));
    }

    #[test]
    fn hostile_names_stay_on_their_line_as_json() {
        let written = Kept::default();
        let log = tracing_subscriber::fmt().json().with_writer(written.clone()).with_ansi(false).finish();
        tracing::subscriber::with_default(log, tell);
        let event: serde_json::Value = serde_json::from_str(&check(&written)).unwrap();
        for field in ["file", "name"] {
            assert!(event["fields"][field].as_str().unwrap().contains("ERROR forged"), "{event}");
        }
    }
}
