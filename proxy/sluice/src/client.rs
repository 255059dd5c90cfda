//! Questions to the daemon: HTTP and JSON over its unix socket.

use anyhow::{Context, Result, anyhow, bail};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use proxy_core::api::ErrorView;
use serde::de::DeserializeOwned;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::net::UnixStream;
use tokio::runtime::Runtime;

/// A daemon that is alive answers at once: it reads its memory.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// How soon a daemon that does not answer yet is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(50);
/// One record is a few kilobytes; a longer line is no record.
const LINE_BYTES_MAX: usize = 1024 * 1024;

pub(crate) struct Client {
    socket: PathBuf,
    runtime: Runtime,
}

impl Client {
    pub(crate) fn new(socket: PathBuf) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { socket, runtime })
    }

    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.ask(Request::get(path).body(Full::default())?)
    }

    /// `get` of a daemon that may not answer yet: asks again for as long as `wait`.
    pub(crate) fn get_within<T: DeserializeOwned>(&self, wait: Duration, path: &str) -> Result<T> {
        let asked = Instant::now();
        loop {
            match self.get(path) {
                Err(_not_yet) if asked.elapsed() < wait => std::thread::sleep(ASK_AGAIN),
                answer => return answer,
            }
        }
    }

    pub(crate) fn post<T: DeserializeOwned>(&self, path: &str, body: &impl serde::Serialize) -> Result<T> {
        let body = Full::from(serde_json::to_vec(body)?);
        self.ask(Request::post(path).header("content-type", "application/json").body(body)?)
    }

    fn ask<T: DeserializeOwned>(&self, request: Request<Full<Bytes>>) -> Result<T> {
        let asked = async {
            let response = send(&self.socket, request).await?;
            let body = response.into_body().collect().await;
            body.map(|body| body.to_bytes()).map_err(|error| hung_up(&self.socket, &error))
        };
        let bytes = self
            .runtime
            .block_on(async { tokio::time::timeout(ANSWER_MAX, asked).await })
            .map_err(|_late| self.late())??;
        serde_json::from_slice(&bytes).with_context(|| self.not_understood())
    }

    /// Calls `each` with every line of the answer, until the daemon ends it or `each` fails.
    pub(crate) fn lines(&self, path: &str, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let request = Request::get(path).body(Full::default())?;
        self.runtime.block_on(async {
            let response = tokio::time::timeout(ANSWER_MAX, send(&self.socket, request)).await;
            let mut body = response.map_err(|_late| self.late())??.into_body();
            let mut pending = Vec::new();
            while let Some(frame) = body.frame().await {
                let frame =
                    frame.map_err(|_cut| anyhow!("sluiced has ended the answer; is it still running?"))?;
                pending.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
                while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = pending.drain(..=end).collect();
                    each(line.trim_ascii())?;
                }
                if pending.len() > LINE_BYTES_MAX {
                    bail!("{}", self.not_understood());
                }
            }
            Ok(())
        })
    }

    fn late(&self) -> anyhow::Error {
        anyhow!("sluiced at `{}` does not answer within {} s", self.socket.display(), ANSWER_MAX.as_secs())
    }

    fn not_understood(&self) -> String {
        format!("what answers at `{}` is no sluiced of this version", self.socket.display())
    }
}

async fn send(socket: &Path, mut request: Request<Full<Bytes>>) -> Result<Response<Incoming>> {
    let stream = UnixStream::connect(socket).await.map_err(|error| unreachable_at(socket, &error))?;
    let host = hyper::header::HeaderValue::from_static("sluiced");
    let _before = request.headers_mut().insert(hyper::header::HOST, host);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the connection, and its error is that of the request.
    let _driver = tokio::spawn(connection);
    let response = sender.send_request(request).await;
    let response = response.map_err(|error| hung_up(socket, &error))?;
    match response.status() {
        StatusCode::OK => Ok(response),
        status => Err(refused(status, response.into_body()).await),
    }
}

async fn refused(status: StatusCode, body: Incoming) -> anyhow::Error {
    let told = body.collect().await.ok();
    let told = told.and_then(|body| serde_json::from_slice::<ErrorView>(&body.to_bytes()).ok());
    told.map_or_else(|| anyhow!("sluiced answers {status}"), |told| anyhow!("{}", told.error))
}

fn hung_up(socket: &Path, error: &hyper::Error) -> anyhow::Error {
    anyhow!("sluiced at `{}` has hung up ({error}); is it still running?", socket.display())
}

fn unreachable_at(socket: &Path, error: &std::io::Error) -> anyhow::Error {
    let place = socket.display();
    if error.kind() == ErrorKind::PermissionDenied {
        return anyhow!(
            "no permission to ask sluiced at `{place}`; become root, or a member of the socket's group"
        );
    }
    anyhow!(
        "sluiced does not answer at `{place}` ({error}); is it running? \
         another one is named by --socket PATH, or by --config FILE, its node file"
    )
}
