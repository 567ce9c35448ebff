//! The images that every node has: made here from this machine's programs, without a registry and without a daemon.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::oci::{self, File, Image};
use crate::process::output;

/// The image of the process that holds a pod's namespaces.
pub const PAUSE: &str = "localhost/pause:1";

/// What goes into an image.
struct Recipe {
    /// The archive's name.
    file: &'static str,
    /// Names under which pods ask for it. The last ones are those that manifests out there use.
    names: &'static [&'static str],
    /// Files of the parts' directory: name there, path in the image.
    parts: &'static [(&'static str, &'static str)],
    /// Programs of the machine, which come with their libraries.
    programs: &'static [&'static str],
    /// What the image runs by itself.
    command: &'static [&'static str],
}

/// The tools that the lab's own pods and tests use.
const TOOLS: &[&str] =
    &["/usr/bin/busybox", "/usr/bin/curl", "/usr/bin/getent", "/usr/sbin/ip", "/usr/sbin/nginx"];

const RECIPES: [Recipe; 4] = [
    Recipe {
        file: "pause.tar",
        names: &[PAUSE],
        parts: &[("bin/pause", "/pause")],
        programs: &[],
        command: &["/pause"],
    },
    Recipe {
        file: "coredns.tar",
        names: &["localhost/coredns:1"],
        parts: &[("bin/coredns", "/coredns")],
        programs: &[],
        command: &["/coredns"],
    },
    Recipe {
        file: "tools.tar",
        names: &["localhost/tools:1", "docker.io/library/busybox:stable"],
        parts: &[],
        programs: TOOLS,
        command: &["sh"],
    },
    Recipe {
        file: "nginx.tar",
        names: &["localhost/nginx:1", "docker.io/library/nginx:stable"],
        parts: &[],
        programs: TOOLS,
        command: &["/usr/sbin/nginx", "-g", "daemon off;"],
    },
];

/// Images that one test or another wants and nobody else: made when `load` asks for them by this name.
const ON_DEMAND: [(&str, Recipe); 1] = [(
    "agnhost",
    Recipe {
        file: "agnhost.tar",
        // Both names that cyclonus gives its pods: for a command each, and for a batch of commands.
        names: &[
            "registry.k8s.io/e2e-test-images/agnhost:2.43",
            "docker.io/mfenwick100/cyclonus-worker:latest",
        ],
        parts: &[("bin/agnhost", "/agnhost"), ("bin/cyclonus-worker", "/worker")],
        programs: &[],
        command: &["/agnhost"],
    },
)];

/// A page that says who answered whom, so that a test sees which pod, by which address, and whether the source survived.
const NGINX_CONFIGURATION: &str = r#"user www-data;
worker_processes 1;
pid /run/nginx.pid;
error_log stderr;
events { worker_connections 64; }
http {
  access_log /dev/stdout;
  server {
    listen 80;
    listen [::]:80;
    location / { return 200 "host=$hostname server=$server_addr client=$remote_addr\n"; }
  }
}
"#;
const USERS: &str = "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33::/var/www:/bin/false\n";
const GROUPS: &str = "root:x:0:\nwww-data:x:33:\n";
const DIRECTORIES: [&str; 7] =
    ["/etc", "/tmp", "/root", "/run", "/var/log/nginx", "/var/lib/nginx", "/usr/share/nginx/html"];

/// Builds the archives that are missing or older than what they are made of; all of them, in `parts`/images.
pub fn build_all(parts: &Path) -> Result<Vec<PathBuf>> {
    let dir = parts.join("images");
    std::fs::create_dir_all(&dir).with_context(|| format!("{}", dir.display()))?;
    RECIPES.iter().map(|recipe| build(parts, recipe, &dir.join(recipe.file))).collect()
}

/// What `load` was given: an archive, a layout, or an image that is made now.
pub fn resolve(parts: &Path, image: &Path) -> Result<PathBuf> {
    let Some((name, recipe)) = ON_DEMAND.iter().find(|(name, _)| image == Path::new(name)) else {
        check(image)?;
        return Ok(image.to_owned());
    };
    let programs = recipe.parts.iter().map(|(from, _)| parts.join(from));
    if let Some(missing) = programs.into_iter().find(|program| !program.is_file()) {
        bail!("image {name}: no {}: `make cyclonus-parts` builds it", missing.display());
    }
    let dir = parts.join("images");
    std::fs::create_dir_all(&dir).with_context(|| format!("{}", dir.display()))?;
    build(parts, recipe, &dir.join(recipe.file))
}

fn build(parts: &Path, recipe: &Recipe, archive: &Path) -> Result<PathBuf> {
    let Recipe { file: _, names, parts: own, programs, command } = recipe;
    let mut files: BTreeMap<String, File> =
        own.iter().map(|(from, to)| ((*to).to_owned(), File::Copy(parts.join(from)))).collect();
    for program in *programs {
        for path in libraries(program)?.into_iter().chain([(*program).to_owned()]) {
            files.insert(path.clone(), File::Copy(PathBuf::from(path)));
        }
    }
    if !programs.is_empty() {
        files.extend(furnish(&files)?);
    }
    let image = Image { names, files: &files, command };
    // What the archive was made of, as a text beside it.
    let recipe = archive.with_extension("recipe");
    let text = format!("{image:?}");
    if std::fs::read_to_string(&recipe).is_ok_and(|made_of| made_of == text) && is_newer(archive, &files)? {
        return Ok(archive.to_owned());
    }
    // Several labs may build at once: whoever is last wins with the same bytes.
    let next = archive.with_extension(format!("{}.next", std::process::id()));
    oci::write_archive(&image, &next).with_context(|| format!("image {}", names.join(", ")))?;
    std::fs::rename(&next, archive).with_context(|| format!("{}", archive.display()))?;
    std::fs::write(&recipe, text).with_context(|| format!("{}", recipe.display()))?;
    Ok(archive.to_owned())
}

/// What programs of a distribution expect around them.
fn furnish(files: &BTreeMap<String, File>) -> Result<BTreeMap<String, File>> {
    let mut more: BTreeMap<String, File> =
        DIRECTORIES.iter().map(|d| ((*d).to_owned(), File::Directory)).collect();
    let applets = output(Command::new("busybox").arg("--list")).context("is busybox installed?")?;
    for applet in applets.lines().filter(|a| *a != "busybox") {
        let taken = ["/usr/bin/", "/usr/sbin/"].iter().any(|d| files.contains_key(&format!("{d}{applet}")));
        if !taken {
            more.insert(format!("/bin/{applet}"), File::Link("/usr/bin/busybox".to_owned()));
        }
    }
    let mut text = |path: &str, text: &str| more.insert(path.to_owned(), File::Text(text.to_owned()));
    text("/etc/passwd", USERS);
    text("/etc/group", GROUPS);
    text("/etc/nginx/nginx.conf", NGINX_CONFIGURATION);
    Ok(more)
}

/// The libraries of a program, by the dynamic linker's own word.
pub fn libraries(program: &str) -> Result<Vec<String>> {
    let text =
        output(Command::new("ldd").arg(program)).with_context(|| format!("is {program} installed?"))?;
    Ok(parse_ldd(&text))
}

/// `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)`, and `/lib64/ld-linux-x86-64.so.2 (0x…)`.
fn parse_ldd(text: &str) -> Vec<String> {
    let path = |line: &str| {
        let (path, _) = line.rsplit_once(" (")?;
        let path = path.rsplit_once("=> ").map_or(path, |(_, path)| path).trim();
        path.starts_with('/').then(|| path.to_owned())
    };
    text.lines().filter_map(path).collect()
}

/// Whether an archive is newer than the files that go into it.
fn is_newer(archive: &Path, files: &BTreeMap<String, File>) -> Result<bool> {
    let modified = |path: &Path| {
        std::fs::metadata(path).and_then(|m| m.modified()).with_context(|| format!("{}", path.display()))
    };
    let Ok(built) = modified(archive) else { return Ok(false) };
    for file in files.values() {
        if let File::Copy(path) = file
            && modified(path)? > built
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a path is an image: an archive, or a directory with an OCI layout.
pub fn check(image: &Path) -> Result<()> {
    if !image.exists() {
        bail!("no image {}: it is an OCI archive, or a directory with an OCI layout", image.display());
    }
    if image.is_dir() && !image.join("oci-layout").exists() {
        bail!("{} has no oci-layout, so it is no OCI layout", image.display());
    }
    Ok(())
}

/// Feeds an image to a command that reads an archive from its standard input; what the command printed.
pub fn feed(image: &Path, mut command: Command) -> Result<String> {
    if image.is_file() {
        // Opened here: a node may have something else at that path.
        let file = std::fs::File::open(image).with_context(|| format!("{}", image.display()))?;
        return output(command.stdin(file));
    }
    let mut tar = Command::new("tar");
    let mut tar =
        tar.arg("-C").arg(image).args(["-cf", "-", "."]).stdout(Stdio::piped()).spawn().context("tar")?;
    if let Some(archive) = tar.stdout.take() {
        command.stdin(archive);
    }
    let result = output(&mut command);
    // With this end of the pipe closed, tar ends even if nobody read everything.
    drop(command);
    let status = tar.wait()?;
    if result.is_ok() && !status.success() {
        bail!("tar of {}: {status}", image.display());
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_load_takes() {
        let parts = tempfile::tempdir().expect("directory");
        let check = |image: &str, expected: Result<&str, &str>| {
            let resolved = resolve(parts.path(), Path::new(image)).map_err(|error| error.to_string());
            let expected = expected.map(|path| parts.path().join(path)).map_err(str::to_owned);
            match (&resolved, &expected) {
                (Err(said), Err(wanted)) => assert!(said.contains(wanted), "{image}: {said}"),
                _ => assert_eq!(resolved, expected, "{image}"),
            }
        };
        check("agnhost", Err("bin/agnhost: `make cyclonus-parts` builds it"));
        std::fs::create_dir(parts.path().join("bin")).expect("bin");
        for program in ["agnhost", "cyclonus-worker"] {
            std::fs::write(parts.path().join("bin").join(program), program).expect(program);
        }
        check("agnhost", Ok("images/agnhost.tar"));
        check("./agnhost", Err("no image ./agnhost"));
        let archive = parts.path().join("my.tar");
        std::fs::write(&archive, "").expect("my.tar");
        check(&archive.display().to_string(), Ok("my.tar"));
    }

    #[test]
    fn what_ldd_says() {
        let check = |text: &str, expected: &[&str]| assert_eq!(parse_ldd(text), expected, "{text}");
        check(
            "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
             \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n",
            &["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"],
        );
        check("\tstatically linked\n", &[]);
        check("\tlibodd.so => not found\n", &[]);
    }
}
