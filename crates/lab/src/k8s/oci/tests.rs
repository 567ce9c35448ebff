//! An archive, judged by tar and by the digests in it.

use std::process::Command;

use super::*;
use crate::process::output;

#[test]
fn an_archive_is_what_tar_and_the_specification_expect() {
    let dir = std::env::temp_dir().join(format!("calico-lab-oci-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let files = BTreeMap::from([
        ("/etc/motd".to_owned(), File::Text("hello\n".to_owned())),
        ("/bin/sh".to_owned(), File::Link("busybox".to_owned())),
        ("/tmp".to_owned(), File::Directory),
    ]);
    let image =
        Image { names: &["localhost/a:1", "docker.io/library/b:stable"], files: &files, command: &["sh"] };
    let archive = dir.join("image.tar");
    write_archive(&image, &archive).unwrap();
    output(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&dir)).unwrap();

    let read = |path: &str| std::fs::read(dir.join(path)).unwrap();
    let blob = |of: &Value| {
        let name = of["digest"].as_str().unwrap().replace(':', "/");
        let bytes = read(&format!("blobs/{name}"));
        assert_eq!(digest(&bytes), of["digest"]);
        assert_eq!(bytes.len(), of["size"]);
        (dir.join(format!("blobs/{name}")), bytes)
    };
    let index: Value = serde_json::from_slice(&read("index.json")).unwrap();
    let names: Vec<_> = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| &m["annotations"]["io.containerd.image.name"])
        .collect();
    assert_eq!(names, ["localhost/a:1", "docker.io/library/b:stable"]);
    let manifest: Value = serde_json::from_slice(&blob(&index["manifests"][0]).1).unwrap();
    let configuration: Value = serde_json::from_slice(&blob(&manifest["config"]).1).unwrap();
    assert_eq!(configuration["rootfs"]["diff_ids"][0], manifest["layers"][0]["digest"]);

    let layer = blob(&manifest["layers"][0]).0;
    let listed = output(Command::new("tar").arg("-tvf").arg(&layer).arg("--numeric-owner")).unwrap();
    let entries: Vec<String> = listed
        .lines()
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            format!("{} {} {}", words[0], words[1], words[5..].join(" "))
        })
        .collect();
    assert_eq!(
        entries,
        [
            "drwxr-xr-x 0/0 bin/",
            "drwxr-xr-x 0/0 etc/",
            "lrwxrwxrwx 0/0 bin/sh -> busybox",
            "-rw-r--r-- 0/0 etc/motd",
            "drwxrwxrwt 0/0 tmp/",
        ]
    );
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn a_path_that_does_not_fit_is_refused() {
    let long = format!("/{}", "x".repeat(101));
    let files = BTreeMap::from([(long, File::Directory)]);
    assert!(layer(&files).is_err());
}
