//! `calico health`: what a kubelet's probes run, with the flags of Calico's node image (spec 6 §4.4).

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use calico_api::felix_config::resolve;

use crate::agent::read_local_settings;

/// How long the agent may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The part of the agent's report that is BIRD's.
const BIRD: &str = "bgp";

/// One question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Probe {
    /// Ready; else live.
    ready: bool,
    /// Of BIRD; else of everything but BIRD.
    bird: bool,
}

/// Asks the agent of this node all that the flags ask; fails if any answer is bad.
pub fn main(flags: &[String]) -> ExitCode {
    let Some(probes) = read(flags).filter(|probes| !probes.is_empty()) else {
        eprintln!("usage: calico health [-felix-live] [-felix-ready] [-bird-live] [-bird-ready]");
        return ExitCode::from(2);
    };
    match run(&probes) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let word = if probes.iter().any(|p| p.ready) { "ready" } else { "live" };
            eprintln!("calico health: this node is not {word}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// All flags. `--threshold-time`, with its value behind it or behind `=`, is passed over: the agent judges.
fn read(flags: &[String]) -> Option<Vec<Probe>> {
    let mut probes = Vec::new();
    let mut flags = flags.iter();
    while let Some(flag) = flags.next() {
        match flag.trim_start_matches('-').split_once('=') {
            Some(("threshold-time", _)) => {}
            None if flag.trim_start_matches('-') == "threshold-time" => {
                flags.next()?;
            }
            _ => probes.push(parse(flag)?),
        }
    }
    Some(probes)
}

fn parse(flag: &str) -> Option<Probe> {
    let name = flag.strip_prefix("--").or(flag.strip_prefix('-'))?;
    let name = name.strip_suffix("=true").unwrap_or(name);
    let (part, condition) = name.split_once('-')?;
    let ready = match condition {
        "ready" => true,
        "live" => false,
        _ => return None,
    };
    // One BIRD speaks for both families.
    let bird = match part {
        "felix" => false,
        "bird" | "bird6" => true,
        _ => return None,
    };
    Some(Probe { ready, bird })
}

fn run(probes: &[Probe]) -> Result<()> {
    let config = resolve(read_local_settings()?).config;
    let at = (config.health_host.as_str(), config.health_port);
    for probe in probes {
        let path = if probe.ready { "/readiness" } else { "/liveness" };
        let answer = get(at, path).with_context(|| format!("the agent at {}:{}", at.0, at.1))?;
        judge(*probe, &answer)?;
    }
    Ok(())
}

/// Asks by HTTP/1.0, whose answer ends with the connection.
fn get((host, port): (&str, u16), path: &str) -> io::Result<String> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(mut stream) => {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                write!(stream, "GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n")?;
                let mut answer = String::new();
                stream.read_to_string(&mut answer)?;
                return Ok(answer);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Judges an answer: by the parts that the probe asks about, where it names parts.
fn judge(probe: Probe, answer: &str) -> Result<()> {
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { bail!("it answers no HTTP") };
    let status: u16 = head.split(' ').nth(1).and_then(|s| s.parse().ok()).context("it answers no HTTP")?;
    let parts: Vec<Part> = body.lines().filter_map(Part::read).collect();
    let good = (200..400).contains(&status);
    if !good && parts.is_empty() {
        bail!("status {status}");
    }
    // Until BGP starts, the agent itself speaks for its liveness.
    if probe.bird && probe.ready && parts.iter().all(|part| part.name != BIRD) {
        bail!("BGP does not run");
    }
    for part in parts.iter().filter(|part| (part.name == BIRD) == probe.bird) {
        let bad = if probe.ready { part.ready == "not ready" } else { part.live == "not live" };
        if bad {
            bail!("{}", part.line);
        }
    }
    Ok(())
}

/// A line of the report: `NAME: LIVE, READY[: DETAIL]`.
struct Part<'a> {
    line: &'a str,
    name: &'a str,
    live: &'a str,
    ready: &'a str,
}

impl Part<'_> {
    fn read(line: &str) -> Option<Part<'_>> {
        let (name, rest) = line.split_once(": ")?;
        let (live, rest) = rest.split_once(", ")?;
        let ready = rest.split_once(':').map_or(rest, |(ready, _)| ready);
        Some(Part { line, name, live, ready })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: [&str; 4] = ["-felix-live", "-felix-ready", "-bird-live", "--bird-ready"];

    fn answers(status: u16, body: &str) -> [bool; 4] {
        let answer = format!("HTTP/1.0 {status} x\r\ncontent-type: text/plain\r\n\r\n{body}");
        FLAGS.map(|flag| judge(parse(flag).expect(flag), &answer).is_ok())
    }

    #[test]
    fn each_flag_asks_about_its_part() {
        let good = "bgp: -, ready\ncni: live, ready\nfelix: live, ready\n";
        assert_eq!(answers(200, good), [true; 4]);
        let no_bird = "bgp: -, not ready: no peer is up\ncni: live, ready\nfelix: live, ready\n";
        assert_eq!(answers(503, no_bird), [true, true, true, false]);
        let no_felix = "bgp: -, ready\nfelix: not live, not ready: silent for 90 s\n";
        assert_eq!(answers(503, no_felix), [false, false, true, true]);
        assert_eq!(answers(200, "felix: live, ready\n"), [true, true, true, false], "no BGP on this node");
        assert_eq!(answers(500, "out of order"), [false; 4]);
    }

    #[test]
    fn what_is_no_flag_and_no_http_is_refused() {
        for flag in ["felix-live", "-felix", "-felix-well", "-confd-live"] {
            assert_eq!(parse(flag), None, "{flag}");
        }
        assert!(judge(Probe { ready: false, bird: false }, "SSH-2.0").is_err());
    }

    #[test]
    fn flags_of_calicos_probes() {
        let count = |line: &str| {
            let flags: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            read(&flags).map(|probes| probes.len())
        };
        for (line, expected) in [
            ("-felix-live -bird-live", Some(2)),
            ("--felix-ready=true", Some(1)),
            ("-bird-ready -felix-ready --threshold-time 30s", Some(2)),
            ("--threshold-time=30s -bird-ready", Some(1)),
            ("-bird-ready -threshold-time", None),
            ("-bird-ready=false", None),
            ("", Some(0)),
        ] {
            assert_eq!(count(line), expected, "{line}");
        }
    }

    #[test]
    fn a_live_server_is_asked_over_tcp() {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a request");
            // The whole of it, which may come in parts: closing on what is unread resets the connection.
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut part = [0; 64];
                let len = stream.read(&mut part).expect("its text");
                assert!(len > 0, "ended within the request");
                request.extend_from_slice(&part[..len]);
            }
            stream.write_all(b"HTTP/1.0 204 No Content\r\n\r\n").expect("answered");
            String::from_utf8_lossy(&request).into_owned()
        });
        let answer = get(("127.0.0.1", port), "/liveness").expect("an answer");
        assert!(judge(Probe { ready: false, bird: false }, &answer).is_ok());
        assert!(server.join().expect("no panic").starts_with("GET /liveness HTTP/1.0\r\n"));
    }
}
