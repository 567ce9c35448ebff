//! The policy story: a lab, a web server and clients, and a real request after each change of policy.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use comfy_table::{Table, presets};

use crate::args::DemoArgs;
use crate::fabric::{self, step};
use crate::state::Lab;
use crate::wait::until;
use crate::{status, workload};

/// How long a request may take before it counts as dropped. A drop is silent, so this is what a refusal costs.
const REQUEST_TIMEOUT: &str = "1";
/// How long a change may take to show in a request's answer.
const CHANGE_DEADLINE: Duration = Duration::from_secs(10);

/// What a request got, and what it should get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// The server's page.
    Page,
    /// Nothing, until the time was over.
    Dropped,
    /// Anything else: refused, no route, another page, no curl. No chapter expects it.
    Failed,
}

/// A chapter of the story: what is applied, and who should reach whom after it.
struct Chapter {
    title: &'static str,
    manifest: String,
    expected: Vec<(&'static str, &'static str, u16, Answer)>,
}

/// Runs the demo; exit code 1 if any answer differs from what was expected.
pub fn run(dir: &Path, args: &DemoArgs) -> Result<ExitCode> {
    if dir.join("state.json").exists() {
        bail!("a lab is up in {}; `calico lab down` removes it", dir.display());
    }
    let result = fabric::build(dir, &args.up).and_then(|mut lab| tell(&mut lab));
    if args.keep {
        eprintln!("the lab stays up: try `calico lab status`, `calico lab exec node1 calicoctl get nodes`;");
        eprintln!("`calico lab down` removes it");
    } else if dir.join("state.json").exists() {
        if result.is_err() {
            show_logs(dir);
        }
        step("taking the lab down");
        fabric::tear_down(dir)?;
    }
    match result? {
        0 => {
            println!("demo: every answer as expected");
            Ok(ExitCode::SUCCESS)
        }
        wrong => {
            println!("demo: {wrong} answers differ from what was expected");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// The end of every log, since the logs go with the lab.
fn show_logs(dir: &Path) {
    let Ok(lab) = Lab::load(dir) else { return };
    for node in &lab.nodes {
        let path = lab.node_dir(&node.name).join("log/agent.log");
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        eprintln!("--- end of {}", path.display());
        lines[lines.len().saturating_sub(25)..].iter().for_each(|l| eprintln!("{l}"));
    }
}

fn tell(lab: &mut Lab) -> Result<usize> {
    step("workloads");
    let last = lab.nodes.last().context("the demo needs a node")?.name.clone();
    let second = lab.nodes.get(1).map_or_else(|| last.clone(), |n| n.name.clone());
    let conf = write_nginx_configuration(lab, "node1")?;
    let nginx = ["nginx", "-c", &conf, "-g", "daemon off;"].map(Into::into);
    workload::add(lab, "web", "node1", "shop", &["app=web".to_owned()], &nginx)?;
    workload::add(lab, "client", &second, "shop", &["role=client".to_owned()], &[])?;
    workload::add(lab, "stranger", &last, "shop", &["role=stranger".to_owned()], &[])?;
    workload::add(lab, "clerk", &last, "office", &["role=clerk".to_owned()], &[])?;
    let conf = write_nginx_configuration(lab, &second)?;
    let nginx = ["nginx", "-c", &conf, "-g", "daemon off;"].map(Into::into);
    workload::add(lab, "archive", &second, "office", &["app=archive".to_owned()], &nginx)?;
    println!("{}", status::tables(&status::read(lab)?));

    let mut wrong = 0;
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(["STEP", "FROM", "TO", "EXPECTED", "ANSWER", "OK", "AFTER"]);
    for (number, chapter) in chapters(lab)?.iter().enumerate() {
        step(&format!("{}. {}", number + 1, chapter.title));
        if !chapter.manifest.is_empty() {
            workload::calicoctl(lab, "node1", &["apply", "-f", "-"], &chapter.manifest)?;
        }
        let applied = Instant::now();
        for (from, to, port, expected) in &chapter.expected {
            for address in workload::addresses(lab, to)? {
                let mut got = (Answer::Dropped, String::new());
                let ok = until(CHANGE_DEADLINE, Duration::from_millis(20), || {
                    got = request(lab, from, &address, *port);
                    got.0 == *expected
                });
                wrong += usize::from(!ok);
                let target = if address.contains(':') {
                    format!("{to} [{address}]:{port}")
                } else {
                    format!("{to} {address}:{port}")
                };
                let expected = if *expected == Answer::Page { "the page" } else { "no answer" };
                let ok = if ok { "yes" } else { "NO" };
                let after = format!("{:.2} s", applied.elapsed().as_secs_f64());
                table.add_row([chapter.title, from, &target, expected, &got.1, ok, &after]);
            }
        }
    }
    println!("{table}");
    Ok(wrong)
}

/// One real request; the answer and how it reads.
fn request(lab: &Lab, from: &str, address: &str, port: u16) -> (Answer, String) {
    let url = if address.contains(':') {
        format!("http://[{address}]:{port}/")
    } else {
        format!("http://{address}:{port}/")
    };
    let output = lab.in_workload(from, "curl").and_then(|mut c| {
        Ok(c.args(["-sS", "--fail", "--max-time", REQUEST_TIMEOUT, "-w", " (HTTP %{http_code})", &url])
            .output()?)
    });
    match output {
        Ok(output) => {
            let said = if output.status.success() { output.stdout } else { output.stderr };
            (answer(output.status.code()), String::from_utf8_lossy(&said).trim().replace('\n', ""))
        }
        Err(error) => (Answer::Failed, format!("{error:#}")),
    }
}

/// What curl's exit code says (curl(1), "EXIT CODES"): 28 is the end of the time; with `--fail` 0 is a page that the
/// server meant.
fn answer(exit_code: Option<i32>) -> Answer {
    match exit_code {
        Some(0) => Answer::Page,
        Some(28) => Answer::Dropped,
        _ => Answer::Failed,
    }
}

fn chapters(lab: &Lab) -> Result<Vec<Chapter>> {
    use Answer::{Dropped, Page};
    let web: Vec<String> = workload::addresses(lab, "web")?;
    let host = |a: &String| if a.contains(':') { format!("{a}/128") } else { format!("{a}/32") };
    let egress: String = web
        .iter()
        .map(|a| format!("    - action: Allow\n      destination:\n        nets: [\"{}\"]\n", host(a)))
        .collect();
    Ok(vec![
        Chapter {
            title: "everything open",
            manifest: String::new(),
            expected: vec![
                ("client", "web", 80, Page),
                ("stranger", "web", 80, Page),
                ("clerk", "web", 80, Page),
                ("client", "archive", 80, Page),
            ],
        },
        Chapter {
            title: "default deny in the namespace",
            manifest: policy("shop", "default-deny", "all()", "  types: [Ingress]\n"),
            expected: vec![
                ("client", "web", 80, Dropped),
                ("stranger", "web", 80, Dropped),
                ("clerk", "web", 80, Dropped),
                ("client", "archive", 80, Page),
            ],
        },
        Chapter {
            title: "allow labelled clients on the port",
            manifest: policy(
                "shop",
                "web-from-clients",
                "app == 'web'",
                "  ingress:\n    - action: Allow\n      protocol: TCP\n      source:\n        selector: role == 'client'\n      \
                 destination:\n        ports: [80]\n",
            ),
            expected: vec![
                ("client", "web", 80, Page),
                ("client", "web", 8080, Dropped),
                ("stranger", "web", 80, Dropped),
                ("clerk", "web", 80, Dropped),
            ],
        },
        Chapter {
            title: "allow a namespace",
            manifest: policy(
                "shop",
                "web-from-office",
                "app == 'web'",
                "  ingress:\n    - action: Allow\n      protocol: TCP\n      source:\n        \
                 namespaceSelector: projectcalico.org/name == 'office'\n      destination:\n        ports: [80]\n",
            ),
            expected: vec![
                ("clerk", "web", 80, Page),
                ("client", "web", 80, Page),
                ("stranger", "web", 80, Dropped),
                ("clerk", "web", 8080, Dropped),
            ],
        },
        Chapter {
            title: "egress limited to a CIDR",
            manifest: policy(
                "shop",
                "client-egress",
                "role == 'client'",
                &format!("  types: [Egress]\n  egress:\n{egress}"),
            ),
            expected: vec![
                ("client", "web", 80, Page),
                ("client", "archive", 80, Dropped),
                ("clerk", "archive", 80, Page),
            ],
        },
    ])
}

fn policy(namespace: &str, name: &str, selector: &str, rest: &str) -> String {
    format!(
        "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata:\n  name: {name}\n  namespace: {namespace}\n\
         spec:\n  selector: {selector}\n{rest}"
    )
}

/// A web server that keeps all of its files in the lab's directory.
fn write_nginx_configuration(lab: &Lab, node: &str) -> Result<String> {
    let dir = lab.node_dir(node).join("nginx");
    std::fs::create_dir_all(&dir)?;
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("  {kind}_temp_path {}/{kind};\n", dir.display()))
        .collect();
    let conf = format!(
        "user root;\nworker_processes 1;\npid {0}/nginx.pid;\nerror_log {0}/error.log;\nevents {{ worker_connections 256; }}\n\
         http {{\n  access_log off;\n{temporary}  server {{\n    listen 80; listen 8080; listen [::]:80; listen [::]:8080;\n    \
         location / {{ return 200 \"hello from {node}\\n\"; }}\n  }}\n}}\n",
        dir.display()
    );
    let path = dir.join("nginx.conf");
    std::fs::write(&path, conf)?;
    Ok(path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_page_is_a_page() {
        // 7: refused, as by a node without a server; 22: an HTTP error; none: killed.
        let codes = [Some(0), Some(28), Some(7), Some(22), None];
        let answers = codes.map(answer);
        assert_eq!(answers, [Answer::Page, Answer::Dropped, Answer::Failed, Answer::Failed, Answer::Failed]);
    }
}
