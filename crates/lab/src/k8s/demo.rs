//! The policy story on a real cluster: four pods, a policy at a time, and after each every pod asks every other for its page.

#[cfg(test)]
mod drawing;
mod story;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use comfy_table::{Table, presets};

use super::args::UpArgs;
use super::cluster::Cluster;
use super::{down, up};
use crate::fabric::step;
use crate::process::output;
use story::{Actor, STORY, Step, pairs};

/// How long a change may take to show in the answers. One round of questions takes seconds where they are dropped.
const CHANGE_DEADLINE: Duration = Duration::from_secs(60);
/// How long a pod may wait for a page, in seconds: longer than its resolver waits for the name service. A drop is silent, so
/// this is what a refusal costs.
const REQUEST_SECONDS: u32 = 4;

/// How to run the story.
#[derive(clap::Args, Debug, Clone)]
pub struct DemoArgs {
    #[command(flatten)]
    pub up: UpArgs,
    /// Leave the cluster up at the end.
    #[arg(long)]
    pub keep: bool,
}

/// What each pair got.
type Answers = BTreeMap<(Actor, Actor), Answer>;

/// What a pod got of another.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    /// The other's own page.
    Page,
    /// Nothing, for the time that it waited.
    Silence,
    /// The other's name could not be resolved.
    NoName,
    /// Anything else, in wget's words: refused, another's page. Expected of nobody.
    Other(String),
}

/// Runs the story; exit code 1 if any answer differs from what was expected.
pub fn run(dir: &Path, args: &DemoArgs) -> Result<ExitCode> {
    up::build(dir, &args.up)?;
    let wrong = Cluster::load(dir).and_then(|cluster| tell(&cluster));
    if args.keep {
        eprintln!("the cluster stays up: try `calico lab k8s status`; `calico lab k8s down` removes it");
    } else {
        step("taking the cluster down");
        down::tear_down(dir)?;
    }
    match wrong? {
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

/// Tells the story; how many answers are not as expected.
fn tell(cluster: &Cluster) -> Result<usize> {
    let mut wrong = 0;
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(["STEP", "FROM", "REACHES", "DOES NOT REACH", "OK", "ANSWERS AFTER"]);
    for (number, chapter) in STORY.iter().enumerate() {
        step(&format!("{number}. {}", chapter.title));
        apply(cluster, chapter.manifest).with_context(|| chapter.file.to_owned())?;
        if number == 0 {
            await_pods(cluster)?;
        }
        let applied = Instant::now();
        let (answers, wanted) = ask_until_expected(cluster, chapter)?;
        let after = format!("{:.1} s", applied.elapsed().as_secs_f64());
        for from in Actor::ALL {
            let of = |page: bool| {
                let mine = answers
                    .iter()
                    .filter(|((f, _), answer)| *f == from && (**answer == Answer::Page) == page);
                mine.map(|((_, to), answer)| say(*to, answer)).collect::<Vec<_>>().join(", ")
            };
            let bad = pairs().filter(|pair| pair.0 == from && answers.get(pair) != wanted.get(pair)).count();
            wrong += bad;
            let ok = if bad == 0 { "yes" } else { "NO" };
            table.add_row([chapter.title, from.name(), &of(true), &of(false), ok, &after]);
        }
    }
    println!("{table}");
    Ok(wrong)
}

fn say(to: Actor, answer: &Answer) -> String {
    match answer {
        Answer::Page => to.name().to_owned(),
        Answer::Silence => format!("{}: no answer", to.name()),
        Answer::NoName => format!("{}: no address for the name", to.name()),
        Answer::Other(text) => format!("{}: {text}", to.name()),
    }
}

/// What each pair should get.
fn expected(chapter: &Step) -> Answers {
    // Who may not ask the name service learns nobody's address.
    let mute = (chapter.file == "5-limit-egress.yaml").then_some(Actor::Client);
    let answer = |pair: &(Actor, Actor)| {
        if chapter.reach.contains(pair) {
            Answer::Page
        } else if mute == Some(pair.0) {
            Answer::NoName
        } else {
            Answer::Silence
        }
    };
    pairs().map(|pair| (pair, answer(&pair))).collect()
}

/// Asks until everybody has got what they should or the time is over: the last answers, and what they should be.
fn ask_until_expected(cluster: &Cluster, chapter: &Step) -> Result<(Answers, Answers)> {
    let wanted = expected(chapter);
    let mut answers = Answers::new();
    let end = Instant::now() + CHANGE_DEADLINE;
    loop {
        let open: Vec<_> = pairs().filter(|pair| answers.get(pair) != wanted.get(pair)).collect();
        if open.is_empty() || (Instant::now() >= end && !answers.is_empty()) {
            return Ok((answers, wanted));
        }
        answers.extend(ask_all(cluster, &open)?);
    }
}

/// All pods ask at once.
fn ask_all(cluster: &Cluster, pairs: &[(Actor, Actor)]) -> Result<Answers> {
    std::thread::scope(|scope| {
        let others = |from| pairs.iter().filter(|p| p.0 == from).map(|p| p.1).collect::<Vec<_>>();
        let asking = Actor::ALL.map(|from| (from, others(from)));
        let asking = asking.map(|(from, others)| scope.spawn(move || ask(cluster, from, &others)));
        let mut answers = Answers::new();
        for asked in asking {
            answers.extend(asked.join().map_err(|_| anyhow::anyhow!("asking stopped"))??);
        }
        Ok(answers)
    })
}

/// One pod asks others at once, by the names of their services.
fn ask(cluster: &Cluster, from: Actor, others: &[Actor]) -> Result<Answers> {
    if others.is_empty() {
        return Ok(Answers::new());
    }
    // Not wget's own -T: with it Debian's busybox ends by a segmentation fault.
    let mut script = format!(
        "ask() {{ said=$(timeout {REQUEST_SECONDS} wget -q -O - \"http://$2/\" 2>&1); echo \"$1 $? $said\"; }}\n"
    );
    for to in others {
        // With the last dot: one question to the name service instead of one for each domain of the search list.
        script += &format!("ask {} {}.{}.svc.cluster.local. &\n", to.name(), to.name(), to.namespace());
    }
    script += "wait\n";
    let deployment = format!("deployment/{}", from.name());
    let mut kubectl = cluster.kubectl()?;
    kubectl.args(["-n", from.namespace(), "exec", &deployment, "--", "sh", "-c", &script]);
    let said = output(&mut kubectl)?;
    let read = |to: &Actor| {
        let line = said.lines().find_map(|line| line.strip_prefix(to.name())?.strip_prefix(' '));
        let line =
            line.with_context(|| format!("{} said nothing of {}: {said:?}", from.name(), to.name()))?;
        Ok(((from, *to), read_answer(*to, line)))
    };
    others.iter().map(read).collect()
}

/// Reads `EXIT-CODE TEXT` of busybox's wget under its timeout, which ends by 143 (the signal's) or by 124.
fn read_answer(to: Actor, line: &str) -> Answer {
    let (code, text) = line.split_once(' ').unwrap_or((line, ""));
    match (code, text.trim()) {
        ("0", text) if text == format!("I am {}", to.name()) => Answer::Page,
        ("124" | "143", _) => Answer::Silence,
        (_, text) if text.contains("bad address") => Answer::NoName,
        (code, text) => Answer::Other(format!("wget ends by {code}: {text:?}")),
    }
}

fn await_pods(cluster: &Cluster) -> Result<()> {
    for actor in Actor::ALL {
        let deployment = format!("deployment/{}", actor.name());
        let arguments = ["-n", actor.namespace(), "rollout", "status", &deployment, "--timeout=300s"];
        output(cluster.kubectl()?.args(arguments))?;
    }
    Ok(())
}

fn apply(cluster: &Cluster, manifest: &str) -> Result<()> {
    let mut command = cluster.kubectl()?;
    let command = command.args(["apply", "-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().context("kubectl")?;
    child.stdin.take().context("kubectl's input")?.write_all(manifest.as_bytes())?;
    let status = child.wait()?;
    if status.success() { Ok(()) } else { bail!("kubectl apply: {status}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wget_says_is_understood() {
        let check =
            |line: &str, expected: Answer| assert_eq!(read_answer(Actor::Backend, line), expected, "{line}");
        check("0 I am backend", Answer::Page);
        check("0 I am frontend", Answer::Other("wget ends by 0: \"I am frontend\"".to_owned()));
        check("143 Terminated", Answer::Silence);
        check("124 ", Answer::Silence);
        check("1 wget: bad address 'backend.stars.svc.cluster.local.'", Answer::NoName);
        check("1 wget: refused", Answer::Other("wget ends by 1: \"wget: refused\"".to_owned()));
        check("139 ", Answer::Other("wget ends by 139: \"\"".to_owned()));
        check("0", Answer::Other("wget ends by 0: \"\"".to_owned()));
    }

    #[test]
    fn every_step_expects_something_of_every_pair() {
        for chapter in &STORY {
            let wanted = expected(chapter);
            assert_eq!(wanted.len(), 12);
            assert_eq!(wanted.values().filter(|a| **a == Answer::Page).count(), chapter.reach.len());
        }
    }
}
