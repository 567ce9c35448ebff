//! The policy story: a lab, a web server and clients, and a real request after each change of policy.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use comfy_table::Table;

use crate::args::{DEFAULT_DIR, DemoArgs};
use crate::fabric::{self, step};
use crate::state::Lab;
use crate::wait::until;
use crate::{directory, status, workload};

/// How long a request may take before it counts as dropped. A drop is silent, so this is what a refusal costs.
const REQUEST_TIMEOUT: &str = "1";
/// How long a change may take to show in a request's answer.
const CHANGE_DEADLINE: Duration = Duration::from_secs(10);
/// What the columns of the story's tables are.
const LEGEND: &str =
    "EXPECTED: by policy. GOT: a real request's answer. AFTER: how long until the new answer was seen.";

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
    policy: Option<Policy>,
    expected: Vec<(&'static str, &'static str, u16, Answer)>,
}

/// A NetworkPolicy of the story.
struct Policy {
    namespace: &'static str,
    name: &'static str,
    manifest: String,
}

/// A request, and what became of it.
#[derive(Clone, Debug)]
struct Asked {
    from: &'static str,
    to: &'static str,
    address: String,
    port: u16,
    expected: Answer,
    got: Answer,
    /// The answer in the server's words or curl's.
    said: String,
    /// From the change of policy until the answer that was expected, or until it was given up.
    after: Duration,
}

/// Runs the demo; exit code 1 if any answer differs from what was expected.
pub fn run(dir: &Path, args: &DemoArgs) -> Result<ExitCode> {
    directory::check_free(dir)?;
    let result = fabric::build(dir, &args.up).and_then(|mut lab| tell(&mut lab));
    let stays = args.keep && Lab::is_in(dir);
    if !stays && Lab::is_in(dir) {
        if result.is_err() {
            show_logs(dir);
        }
        step("taking the lab down");
        fabric::tear_down(dir)?;
    }
    let code = match &result {
        Ok(0) => {
            println!("demo: every answer as expected");
            ExitCode::SUCCESS
        }
        Ok(wrong) => {
            println!("demo: {wrong} answers differ from what was expected");
            ExitCode::FAILURE
        }
        Err(_) => ExitCode::FAILURE,
    };
    if stays {
        let own = std::env::current_exe().context("own path")?;
        eprint!("{}", advice(dir, &own));
    }
    result.map(|_| code)
}

/// What to type in a lab that stays.
fn advice(dir: &Path, own: &Path) -> String {
    let environment = if dir == Path::new(DEFAULT_DIR) {
        String::new()
    } else {
        format!("  export CALICO_LAB_DIR={}\n", dir.display())
    };
    format!(
        "the lab stays up, for whoever is root:\n{environment}  calico={}\n  $calico lab status\n  \
         $calico lab exec node1 calicoctl get networkpolicy -n shop\n  \
         $calico lab exec node1 calicoctl get networkpolicy default-deny -n shop -o yaml\n  \
         $calico lab down\n",
        own.display()
    )
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

    println!("{LEGEND}");
    let mut wrong = 0;
    let mut in_force: Vec<Policy> = Vec::new();
    for (number, chapter) in chapters(lab)?.into_iter().enumerate() {
        if let Some(policy) = chapter.policy {
            workload::calicoctl(lab, "node1", &["apply", "-f", "-"], &policy.manifest)?;
            in_force.push(policy);
        }
        let applied = Instant::now();
        println!("{}", heading(number + 1, chapter.title, &in_force));
        let asked = ask_all(lab, &chapter.expected, applied)?;
        wrong += asked.iter().filter(|asked| asked.got != asked.expected).count();
        println!("{}", table(&asked));
    }
    Ok(wrong)
}

/// Asks for everything at once, over both families, each until it gets what is expected or the time is over.
fn ask_all(
    lab: &Lab,
    expected: &[(&'static str, &'static str, u16, Answer)],
    applied: Instant,
) -> Result<Vec<Asked>> {
    let mut asked = Vec::new();
    for &(from, to, port, expected) in expected {
        for address in workload::addresses(lab, to)? {
            let (got, said, after) = (Answer::Failed, String::new(), Duration::ZERO);
            asked.push(Asked { from, to, address, port, expected, got, said, after });
        }
    }
    std::thread::scope(|scope| {
        for asked in &mut asked {
            scope.spawn(|| {
                until(CHANGE_DEADLINE, Duration::from_millis(20), || {
                    (asked.got, asked.said) = request(lab, asked.from, &asked.address, asked.port);
                    asked.got == asked.expected
                });
                asked.after = applied.elapsed();
            });
        }
    });
    Ok(asked)
}

/// A step's number and title, and what decides now.
fn heading(number: usize, title: &str, in_force: &[Policy]) -> String {
    let mut text = format!("\n{number}. {title}");
    let Some(newest) = in_force.len().checked_sub(1) else {
        return text
            + "\n   in force: Profile kns.shop, Profile kns.office (no policy yet: they allow everything)";
    };
    for (i, Policy { namespace, name, manifest: _ }) in in_force.iter().enumerate() {
        let margin = if i == 0 { "   in force: " } else { "             " };
        let new = if i == newest { " (new)" } else { "" };
        text += &format!("\n{margin}NetworkPolicy {namespace}/{name}{new}");
    }
    text
}

/// The requests of a step. Their addresses are in the table of endpoints.
fn table(asked: &[Asked]) -> Table {
    let mut table = status::new_table();
    table.set_header(["FROM", "TO", "OVER", "EXPECTED", "GOT", "OK", "AFTER"]);
    for Asked { from, to, address, port, expected, got, said, after } in asked {
        let target = format!("{to}:{port}");
        let family = if address.contains(':') { "IPv6" } else { "IPv4" };
        let expected_text = if *expected == Answer::Page { "the page" } else { "no answer" };
        let silence = format!("no answer in {REQUEST_TIMEOUT} s");
        let said = if *got == Answer::Dropped { &silence } else { said };
        let ok = if got == expected { "yes" } else { "NO" };
        let after = format!("{:.2} s", after.as_secs_f64());
        table.add_row([from, target.as_str(), family, expected_text, said, ok, &after]);
    }
    table
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
            policy: None,
            expected: vec![
                ("client", "web", 80, Page),
                ("stranger", "web", 80, Page),
                ("clerk", "web", 80, Page),
                ("client", "archive", 80, Page),
            ],
        },
        Chapter {
            title: "default deny in the namespace",
            policy: policy("shop", "default-deny", "all()", "  types: [Ingress]\n"),
            expected: vec![
                ("client", "web", 80, Dropped),
                ("stranger", "web", 80, Dropped),
                ("clerk", "web", 80, Dropped),
                ("client", "archive", 80, Page),
            ],
        },
        Chapter {
            title: "allow labelled clients on the port",
            policy: policy(
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
            policy: policy(
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
            policy: policy(
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

fn policy(namespace: &'static str, name: &'static str, selector: &str, rest: &str) -> Option<Policy> {
    let manifest = format!(
        "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata:\n  name: {name}\n  namespace: {namespace}\n\
         spec:\n  selector: {selector}\n{rest}"
    );
    Some(Policy { namespace, name, manifest })
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

    fn story_policies() -> Vec<Policy> {
        ["default-deny", "web-from-clients", "web-from-office", "client-egress"]
            .into_iter()
            .filter_map(|name| policy("shop", name, "all()", ""))
            .collect()
    }

    #[test]
    fn a_heading_names_what_is_in_force() {
        let mut policies = story_policies();
        policies.truncate(2);
        let expected = "
3. allow labelled clients on the port
   in force: NetworkPolicy shop/default-deny
             NetworkPolicy shop/web-from-clients (new)";
        assert_eq!(heading(3, "allow labelled clients on the port", &policies), expected);
        assert!(heading(1, "everything open", &[]).contains("Profile kns.shop"));
        assert!(policies[1].manifest.contains("name: web-from-clients\n  namespace: shop\n"));
    }

    #[test]
    fn every_line_fits() {
        let asked = |address: &str, got: Answer, said: &str| Asked {
            from: "stranger",
            to: "archive",
            address: address.to_owned(),
            port: 8080,
            expected: Answer::Dropped,
            got,
            said: said.to_owned(),
            after: Duration::from_millis(12_345),
        };
        let refused = "curl: (7) Failed to connect to fd00:10:244:3223:2a7e:8931:48e:c281 port 8080 after 0 ms: \
                       Couldn't connect to server";
        let table = table(&[
            asked("10.244.90.192", Answer::Page, "hello from node1 (HTTP 200)"),
            asked(
                "10.244.90.192",
                Answer::Dropped,
                "curl: (28) Connection timed out after 1001 milliseconds",
            ),
            asked("fd00::1", Answer::Failed, refused),
        ])
        .to_string();
        let headings = [heading(5, "egress limited to a CIDR", &story_policies()), heading(1, "open", &[])];
        for line in [table.as_str(), LEGEND, &headings[0], &headings[1]].into_iter().flat_map(str::lines) {
            assert!(line.chars().count() <= 100, "{line}");
        }
        // What is common is not broken, and what is wrong is seen.
        assert!(
            table.contains("│ stranger ┆ archive:8080 ┆ IPv4 ┆ no answer ┆ hello from node1 (HTTP 200)"),
            "{table}"
        );
        assert!(table.contains("┆ no answer in 1 s ") && table.contains("┆ NO "), "{table}");
    }

    #[test]
    fn advice_names_the_directory_where_it_must() {
        let other = advice(Path::new("/run/other"), Path::new("/bin/calico"));
        assert!(other.contains("  export CALICO_LAB_DIR=/run/other\n  calico=/bin/calico\n"), "{other}");
        assert!(!advice(Path::new(DEFAULT_DIR), Path::new("/bin/calico")).contains("CALICO_LAB_DIR"));
    }
}
