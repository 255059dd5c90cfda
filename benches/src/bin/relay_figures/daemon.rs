//! The daemon as it is shipped, with a node file and a policy of its own.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

pub(crate) struct Daemon {
    child: Child,
    directory: PathBuf,
}

const NODE_FILE: &str = r#"
[node]
name = "bench"
pod_networks = ["127.0.77.0/24"]
state_directory = "@/state"

[policies]
directories = ["@/policies"]

[redirect]
mode = "none"

[api]
socket = "@/sluiced.sock"

[limits]
workers = 1
flow_records = 64

[[endpoint]]
name = "server"
addresses = ["127.0.77.11"]
labels = { app = "server" }

[[endpoint]]
name = "client"
addresses = ["127.0.77.21"]
labels = { app = "client" }

[[listener]]
endpoint = "server"
port = 80
bind = "127.0.77.11:8080"
upstream = "127.0.77.1:9080"
"#;

const POLICY: &str = r#"
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: bench}
spec:
  endpointSelector: {matchLabels: {app: server}}
  ingress:
  - fromEndpoints: [{matchLabels: {app: client}}]
    toPorts:
    - ports: [{port: "80", protocol: TCP}]
      rules: {http: [{method: GET, path: "/api/.*"}]}
"#;

impl Daemon {
    /// Starts it on one processor and waits until it accepts. The binary lies beside this one.
    pub(crate) fn spawn(processor: usize) -> io::Result<Self> {
        let directory = std::env::temp_dir().join(format!("relay-figures-{}", std::process::id()));
        fs::create_dir_all(directory.join("policies"))?;
        fs::write(directory.join("node.toml"), NODE_FILE.replace('@', &directory.display().to_string()))?;
        fs::write(directory.join("policies/bench.yaml"), POLICY)?;
        let binary = std::env::current_exe()?.with_file_name("sluiced");
        if !binary.exists() {
            let missing = format!("no {}: run `cargo build --release -p sluiced`", binary.display());
            return Err(io::Error::other(missing));
        }
        let mut child = Command::new("taskset")
            .args(["-c", &processor.to_string()])
            .arg(&binary)
            .arg("--config")
            .arg(directory.join("node.toml"))
            .stderr(Stdio::piped())
            .spawn()?;
        let stderr = child.stderr.take().ok_or_else(|| io::Error::other("no stderr"))?;
        let mut log = BufReader::new(stderr);
        let mut line = String::new();
        while !line.contains("ready") {
            line.clear();
            if log.read_line(&mut line)? == 0 {
                return Err(io::Error::other(format!("{} did not start", binary.display())));
            }
        }
        // The pipe is read on, so that the daemon can log.
        let _reader = std::thread::spawn(move || io::copy(&mut log, &mut io::sink()));
        Ok(Self { child, directory })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        drop(fs::remove_dir_all(&self.directory));
    }
}
