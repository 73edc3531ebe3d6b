//! OpenSSL's own server, for what a modern library does not do: old versions, old ciphers, short keys.
//!
//! Needs the program `openssl`. The server is a child of the test and ends with it.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::ca::Ca;

/// A running `openssl s_server` on a port of its own.
pub struct OpenSsl {
    child: Child,
    address: SocketAddr,
}

impl OpenSsl {
    /// Serves with these files and further arguments (`-tls1`, `-cipher …`). Weak things are allowed.
    pub fn serve(certificate: &Path, key: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new("openssl");
        command.args(["s_server", "-accept", "127.0.0.1:0", "-cert"]).arg(certificate).arg("-key").arg(key);
        if !arguments.contains(&"-cipher") {
            command.args(["-cipher", "ALL:@SECLEVEL=0"]);
        }
        let mut child = command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl is installed");
        let mut lines = BufReader::new(child.stdout.take().expect("output")).lines();
        let address = lines
            .find_map(|line| line.ok()?.strip_prefix("ACCEPT ")?.trim().parse().ok())
            .expect("openssl s_server tells its port");
        // Keeps the pipe empty for as long as the server writes.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Writes a server certificate of `ca` with an RSA key of `bits` and a signature with `digest` (`sha1`), and its key.
    pub fn issue(ca: &Ca, directory: &Path, name: &str, bits: u32, digest: &str) -> (PathBuf, PathBuf) {
        let at = |file: &str| directory.join(file);
        std::fs::write(at("ca-key.pem"), ca.key_pem()).expect("write ca-key.pem");
        std::fs::write(at("names.cnf"), format!("subjectAltName=DNS:{name}\n")).expect("write names.cnf");
        ca.write_pem(directory);
        let run = |arguments: &str| {
            let status = Command::new("openssl")
                .args(arguments.split(' '))
                .current_dir(directory)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .expect("openssl is installed");
            assert!(status.success(), "openssl {arguments}");
        };
        run(&format!("genrsa -out weak-key.pem {bits}"));
        run(&format!("req -new -key weak-key.pem -subj /CN={name} -out weak.csr"));
        run(&format!(
            "x509 -req -in weak.csr -CA ca.pem -CAkey ca-key.pem -set_serial 2 -days 30 -{digest} -extfile names.cnf -out weak.pem"
        ));
        (at("weak.pem"), at("weak-key.pem"))
    }
}

impl Drop for OpenSsl {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
