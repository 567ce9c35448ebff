//! The user's book is true: every manifest in `docs/` validates, and every command that it shows prints what it shows.
//!
//! In a Markdown file, a `yaml` block that begins with `# name.yaml` is that file for the commands after it. In a
//! `console` block, `$ calicoctl …` is run on an embedded store that belongs to the Markdown file; the lines up to the
//! next `$` are what it prints, standard output first, then what it fails with. Other commands are left alone.
//! `UPDATE_GOLDENS=1 cargo test -p calico-ctl --test book` writes the outputs anew.

#![allow(clippy::disallowed_methods, reason = "a test of files reads files and its update switch")]
#![allow(clippy::unwrap_used, reason = "what cannot be read or run fails the test")]

use std::path::{Path, PathBuf};

use calico_ctl::Context;
use calico_testkit::captured::Captured;

/// A directory with the files and the datastore of one Markdown file.
struct Desk(tempfile::TempDir);

impl Desk {
    /// What a command prints, and whether it succeeds.
    fn run(&self, arguments: &[String], input: &str) -> (String, bool) {
        let output = Captured::default();
        let store = self.0.path().join("datastore.db").display().to_string();
        let mut context = Context {
            environment: Box::new(move |name| match name {
                "DATASTORE_TYPE" => Some("embedded".to_owned()),
                "CALICO_DATASTORE_PATH" => Some(store.clone()),
                _ => None,
            }),
            input: Box::new(std::io::Cursor::new(input.as_bytes().to_vec())),
            output: Box::new(output.clone()),
            errors: Box::new(output.clone()),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let result = runtime.block_on(calico_ctl::run(arguments.iter().map(Into::into), &mut context));
        let mut text = output.text();
        // A code alone is what a script sees of an answer that is printed.
        if let Err(error) = &result
            && !error.is::<calico_ctl::ExitWith>()
        {
            text += &format!("{error:#}\n");
        }
        (text, result.is_ok())
    }

    /// A command line, with files of this desk for those that it names.
    fn arguments(&self, line: &str) -> Vec<String> {
        let place = |word: String| match self.0.path().join(&word) {
            path if !word.is_empty() && !word.starts_with('/') && path.is_file() => {
                path.display().to_string()
            }
            _ => word,
        };
        words(line).into_iter().map(place).collect()
    }
}

/// Splits as a shell does, as far as the book needs: blanks, and single quotes around them.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![];
    let mut word: Option<String> = None;
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' if !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

fn docs() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "md"))
        .collect();
    files.sort();
    files
}

/// The blocks of a file in order: language, number of the first line inside, text.
fn blocks(text: &str) -> Vec<(&str, usize, String)> {
    let mut found = Vec::new();
    let mut open: Option<(&str, usize, String)> = None;
    for (number, line) in text.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(language)) => open = Some((language, number + 2, String::new())),
            (Some(_), Some(_)) => found.extend(open.take()),
            (Some((_, _, body)), None) => *body += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    found
}

#[test]
fn manifests_validate_and_outputs_are_real() {
    let (mut manifests, mut commands, mut wrong) = (0, 0, Vec::new());
    for path in docs() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let desk = Desk(tempfile::tempdir().unwrap());
        for store in ["datastore.db", "other.db"] {
            drop(calico_store::EmbeddedStore::open(desk.0.path().join(store)).unwrap());
        }
        let mut fresh = text.clone();
        for (language, line, body) in blocks(&text) {
            let place = format!("{name}:{line}");
            match language {
                "yaml" => {
                    manifests += 1;
                    if let Some(file) = body.lines().next().and_then(|l| l.strip_prefix("# ")) {
                        std::fs::write(desk.0.path().join(file), &body).unwrap();
                    }
                    let (output, good) = if body.contains("kind: CalicoAPIConfig") {
                        let own = desk.0.path().join("own.cfg");
                        let store = desk.0.path().join("other.db").display().to_string();
                        std::fs::write(&own, body.replace("/var/lib/calico/datastore.db", &store)).unwrap();
                        desk.run(&desk.arguments("calicoctl get nodes -c own.cfg"), "")
                    } else {
                        desk.run(&desk.arguments("calicoctl validate -f -"), &body)
                    };
                    assert!(good, "{place}: {output}");
                }
                "json" => {
                    serde_json::from_str::<serde_json::Value>(&body)
                        .unwrap_or_else(|e| panic!("{place}: {e}"));
                }
                "console" => {
                    let mut real = String::new();
                    for command in body
                        .split_inclusive('\n')
                        .collect::<Vec<_>>()
                        .chunk_by(|_, next| !next.starts_with("$ "))
                    {
                        let line = command[0].trim_end();
                        let shown = command[1..].concat();
                        let output = match line.strip_prefix("$ ").filter(|l| l.starts_with("calicoctl ")) {
                            Some(line) => {
                                commands += 1;
                                visible(&desk.run(&desk.arguments(line), "").0)
                            }
                            None => shown,
                        };
                        real += &format!("{line}\n{output}");
                    }
                    if real != body {
                        fresh = fresh
                            .replace(&format!("```console\n{body}```"), &format!("```console\n{real}```"));
                        wrong.push(format!("{place} shows\n{body}--- and it is\n{real}"));
                    }
                }
                "" | "sh" | "ini" | "text" => {}
                other => panic!("{place}: what language is {other:?}?"),
            }
        }
        if fresh != text && std::env::var_os("UPDATE_GOLDENS").is_some() {
            std::fs::write(&path, fresh).unwrap();
            wrong.clear();
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(manifests >= 10 && commands >= 15, "{manifests} manifests, {commands} commands");
}

/// Output as a Markdown file holds it: no blanks at the ends of lines, no empty line at the end.
fn visible(output: &str) -> String {
    let lines: Vec<&str> = output.lines().map(str::trim_end).collect();
    let text = lines.join("\n");
    let text = text.trim_end();
    if text.is_empty() { String::new() } else { format!("{text}\n") }
}

#[test]
fn links_lead_somewhere() {
    for path in docs() {
        let text = std::fs::read_to_string(&path).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            if !file.is_empty() && !file.starts_with("http") {
                let there = path.parent().unwrap().join(file).exists();
                assert!(there, "{}: {target} does not exist", path.display());
            }
        }
    }
}
