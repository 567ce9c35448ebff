//! A certificate authority and two certificates for a test, by openssl.

use std::process::Command;

pub struct Certificates(tempfile::TempDir);

impl Certificates {
    pub fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }
}

/// Makes `ca.pem`, `server.pem`, `server.key`, `client.pem`, `client.key`. `None` without openssl, after saying so.
pub fn make() -> Option<Certificates> {
    if Command::new("openssl").arg("version").output().is_err() {
        println!("skipped: openssl is not installed");
        return None;
    }
    let certs = Certificates(tempfile::tempdir().unwrap());
    let run = |line: &str| {
        let output =
            Command::new("openssl").args(line.split(' ')).current_dir(certs.0.path()).output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    run(&format!("req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=test-ca"));
    for name in ["server", "client"] {
        run(&format!("req {key} -keyout {name}.key -out {name}.csr -subj /CN={name}"));
        std::fs::write(certs.path("ext"), "subjectAltName=IP:127.0.0.1,DNS:localhost\n").unwrap();
        let sign = "x509 -req -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext";
        run(&format!("{sign} -in {name}.csr -out {name}.pem"));
    }
    Some(certs)
}
