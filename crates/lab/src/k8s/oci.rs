//! OCI image archives (image-spec 1.0, "Image Layout") of one uncompressed layer.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// One file of an image.
#[derive(Clone, Debug)]
pub enum File {
    /// As it is on this machine, links followed.
    Copy(PathBuf),
    /// With this text.
    Text(String),
    /// A symbolic link to a path.
    Link(String),
    /// An empty directory.
    Directory,
}

/// What an image is made of.
#[derive(Debug)]
pub struct Image<'a> {
    /// Full names with tags, under which containerd keeps it.
    pub names: &'a [&'a str],
    /// Files by absolute path.
    pub files: &'a BTreeMap<String, File>,
    /// What it runs by itself.
    pub command: &'a [&'a str],
}

/// Writes an image. The same image is the same bytes, whenever it is written.
pub fn write_archive(image: &Image<'_>, path: &Path) -> Result<()> {
    let Image { names, files, command } = image;
    let layer = Blob::new(layer(files)?);
    let platform = json!({"architecture": architecture()?, "os": "linux"});
    let configuration = Blob::json(&json!({
        "architecture": platform["architecture"],
        "os": "linux",
        "config": {
            "Cmd": command,
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "WorkingDir": "/",
        },
        "rootfs": {"type": "layers", "diff_ids": [layer.digest]},
    }));
    let manifest = Blob::json(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": configuration.descriptor("application/vnd.oci.image.config.v1+json"),
        "layers": [layer.descriptor("application/vnd.oci.image.layer.v1.tar")],
    }));
    let named = |name: &&str| {
        let mut entry = manifest.descriptor("application/vnd.oci.image.manifest.v1+json");
        entry["platform"] = platform.clone();
        entry["annotations"] = json!({
            "io.containerd.image.name": name,
            "org.opencontainers.image.ref.name": name.rsplit_once(':').map_or("latest", |(_, tag)| tag),
        });
        entry
    };
    let manifests: Vec<Value> = names.iter().map(named).collect();
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": manifests,
    })
    .to_string();

    let mut archive = Tar::default();
    archive.file("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    archive.file("index.json", 0o644, index.as_bytes())?;
    for blob in [&layer, &configuration, &manifest] {
        archive.file(&format!("blobs/{}", blob.digest.replace(':', "/")), 0o644, &blob.bytes)?;
    }
    std::fs::write(path, archive.finish()).with_context(|| format!("{}", path.display()))
}

fn layer(files: &BTreeMap<String, File>) -> Result<Vec<u8>> {
    let parents: BTreeSet<&str> = files
        .keys()
        .flat_map(|path| path.match_indices('/').map(|(at, _)| &path[..at]).filter(|p| !p.is_empty()))
        .collect();
    let mut tar = Tar::default();
    for path in parents.into_iter().filter(|path| !files.contains_key(*path)) {
        tar.directory(path, 0o755)?;
    }
    for (path, file) in files {
        match file {
            File::Directory => tar.directory(path, if path == "/tmp" { 0o1777 } else { 0o755 })?,
            File::Link(target) => tar.link(path, target)?,
            File::Text(text) => tar.file(path, 0o644, text.as_bytes())?,
            File::Copy(source) => {
                let named = || format!("{}", source.display());
                let mode = std::fs::metadata(source).with_context(named)?.permissions().mode() & 0o777;
                tar.file(path, mode, &std::fs::read(source).with_context(named)?)?;
            }
        }
    }
    Ok(tar.finish())
}

/// The image-spec's word for this machine's processor.
fn architecture() -> Result<&'static str> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        other => bail!("no image for the architecture {other}"),
    }
}

/// Content and its address. Layers are large, so the address is reckoned once.
struct Blob {
    bytes: Vec<u8>,
    digest: String,
}

impl Blob {
    fn new(bytes: Vec<u8>) -> Blob {
        Blob { digest: digest(&bytes), bytes }
    }

    fn json(document: &Value) -> Blob {
        Blob::new(document.to_string().into_bytes())
    }

    fn descriptor(&self, media_type: &str) -> Value {
        json!({"mediaType": media_type, "digest": self.digest, "size": self.bytes.len()})
    }
}

fn digest(blob: &[u8]) -> String {
    let hex: String = Sha256::digest(blob).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// A tape archive in memory (POSIX ustar), everything owned by root and from 1970.
#[derive(Default)]
struct Tar {
    bytes: Vec<u8>,
}

/// What a header says of its entry's kind.
const REGULAR: u8 = b'0';
const SYMBOLIC_LINK: u8 = b'2';
const DIRECTORY: u8 = b'5';
const BLOCK: usize = 512;

impl Tar {
    fn file(&mut self, path: &str, mode: u32, contents: &[u8]) -> Result<()> {
        self.header(path, REGULAR, mode, contents.len(), "")?;
        self.bytes.extend_from_slice(contents);
        self.pad();
        Ok(())
    }

    fn directory(&mut self, path: &str, mode: u32) -> Result<()> {
        self.header(&format!("{path}/"), DIRECTORY, mode, 0, "")
    }

    fn link(&mut self, path: &str, target: &str) -> Result<()> {
        self.header(path, SYMBOLIC_LINK, 0o777, 0, target)
    }

    fn header(&mut self, path: &str, kind: u8, mode: u32, size: usize, target: &str) -> Result<()> {
        let path = path.trim_start_matches('/');
        if path.len() > 100 || target.len() > 100 {
            bail!("{path}: a path in an image may have at most 100 letters");
        }
        let mut block = [0u8; BLOCK];
        let mut put = |at: usize, text: &str| block[at..at + text.len()].copy_from_slice(text.as_bytes());
        put(0, path);
        put(100, &format!("{mode:07o}"));
        put(108, "0000000"); // owner
        put(116, "0000000"); // group
        put(124, &format!("{size:011o}"));
        put(136, "00000000000"); // time
        put(148, "        "); // the checksum counts itself as spaces
        put(157, target);
        put(257, "ustar\x0000");
        block[156] = kind;
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        self.bytes.extend_from_slice(&block);
        Ok(())
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(BLOCK), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        // Two empty blocks end an archive.
        self.bytes.resize(self.bytes.len() + 2 * BLOCK, 0);
        self.bytes
    }
}

#[cfg(test)]
mod tests;
